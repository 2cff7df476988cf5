"""The scenario `idle`: what connections cost the broker that do nothing."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from loadtest.client import Client, connect_packet
from loadtest.cost import Pids, measure_usage
from loadtest.histogram import Histogram
from loadtest.plan import CONNECTING_AT_ONCE, Account
from loadtest.report import BrokerCost, Row
from loadtest.target import Target
from loadtest.timeline import Timeline, recording
from loadtest.worker import run_all


@dataclass(frozen=True, slots=True)
class IdlePlan:
    """How many connections, and for how long."""

    targets: tuple[Target, ...]  # clients are spread over them
    run_id: str
    account: Account
    connections: int
    hold_seconds: float
    sample_seconds: float = 1.0  # a step of the timeline; 0: none


@dataclass(frozen=True, slots=True)
class IdleReport:
    """The report. Without --pid only the set-up time is known."""

    connections: int
    mqtt_version: int
    connect_seconds: float
    hold_seconds: float
    rss_bytes_per_connection: float | None
    rss_bytes_before: int
    broker: BrokerCost | None  # while they were idle
    faults: list[str]
    interrupted: bool
    timeline: Timeline | None = None

    @property
    def title(self) -> str:
        """See Report."""
        return f"{self.connections:,} idle connections, MQTT level {self.mqtt_version}"

    def rows(self) -> list[Row]:
        """See Report."""
        rows = [
            ("all connected after", f"{self.connect_seconds:.2f} s"),
            ("held for", f"{self.hold_seconds:.2f} s"),
        ]
        if self.broker is None or self.rss_bytes_per_connection is None:
            return [*rows, ("broker memory", "name its processes with --pid")]
        return [
            *rows,
            ("broker RSS per connection", f"{self.rss_bytes_per_connection / 1024:.2f} KiB"),
            ("broker RSS before", f"{self.rss_bytes_before / 2**20:.1f} MiB"),
            ("broker RSS with all connected", f"{self.broker.rss_bytes / 2**20:.1f} MiB"),
            ("broker CPU while idle", f"{self.broker.cpu_percent:.1f} % of a core"),
        ]

    def problems(self) -> list[str]:
        """See Report."""
        return [f"{len(self.faults):,} connections were lost: {self.faults[0]}"] if self.faults else []

    def remarks(self) -> list[str]:
        """See Report."""
        return ["interrupted: this is what was seen until then"] if self.interrupted else []


class IdleLoad:
    """The connections of the scenario."""

    def __init__(self, plan: IdlePlan, pids: Pids, watch: Callable[[str], None]) -> None:
        self._plan = plan
        self._pids = pids
        self._watch = watch
        self._faults: list[str] = []
        self._connected = 0
        self._halted = asyncio.Event()
        self._clients = [
            Client(f"lt{plan.run_id}i{number}", plan.account, self._faults)
            for number in range(plan.connections)
        ]

    def halt(self) -> None:
        """End the run now."""
        self._halted.set()

    async def run(self) -> IdleReport:
        """Connect, hold, measure, disconnect. Raises ConnectFailed, CostError."""
        async with recording(self._plan.sample_seconds, self, self._pids) as recorder:
            report = await self._run()
        return replace(report, timeline=recorder.timeline())

    async def _run(self) -> IdleReport:
        before = measure_usage(self._pids)
        begun = time.monotonic()
        try:
            await run_all((self._connect(n, c) for n, c in enumerate(self._clients)), CONNECTING_AT_ONCE)
            connected = time.monotonic()
            usage_connected = measure_usage(self._pids)
            await self._hold()
            held = time.monotonic() - connected
            after = measure_usage(self._pids)
        finally:
            faults = list(self._faults)
            for client in self._clients:
                client.leave()
        await run_all((client.closed() for client in self._clients), len(self._clients))
        grown = max(usage_connected.rss_bytes, after.rss_bytes) - before.rss_bytes
        return IdleReport(
            connections=self._plan.connections,
            mqtt_version=self._plan.account.version,
            connect_seconds=connected - begun,
            hold_seconds=held,
            rss_bytes_per_connection=grown / self._connected if self._pids.named else None,
            rss_bytes_before=before.rss_bytes,
            broker=BrokerCost.of(usage_connected, after, 0, 0, held),
            faults=faults,
            interrupted=self._halted.is_set(),
        )

    @property
    def flow(self) -> dict[str, int]:
        """See timeline.Lap."""
        return {"connects": self._connected}

    @property
    def so_far(self) -> dict[str, int]:
        """See timeline.Lap."""
        return {"connections_lost": len(self._faults)}

    def lap(self) -> Histogram:
        """See timeline.Counted: nothing is timed here."""
        return Histogram()

    async def _connect(self, number: int, client: Client) -> None:
        target = self._plan.targets[number % len(self._plan.targets)]
        await client.connect(target, connect_packet(self._plan.account, client.name))
        self._connected += 1
        if self._connected % 100 == 0:
            self._watch(f"{self._connected:,} of {self._plan.connections:,} connected")

    async def _hold(self) -> None:
        self._watch(f"{self._connected:,} connected, holding for {self._plan.hold_seconds:.0f} s")
        try:
            async with asyncio.timeout(self._plan.hold_seconds):
                await self._halted.wait()
        except TimeoutError:
            return
