"""The scenario `connect`: how many clients a second the broker takes in and lets go."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.client import Client, ConnectFailed, connect_packet
from loadtest.cost import Pids, measure_usage
from loadtest.histogram import Histogram, Latency
from loadtest.plan import Account
from loadtest.report import BrokerCost, Row, latency_rows
from loadtest.target import Target
from loadtest.timeline import Timeline, recording

_FAILURES_LIMIT = 100
"""A broker that refuses everyone isn't asked a million times."""


@dataclass(frozen=True, slots=True)
class ConnectPlan:
    """How to connect: `at_once` clients in turn, each until its time is over."""

    targets: tuple[Target, ...]  # clients are spread over them
    run_id: str
    account: Account
    at_once: int
    duration_seconds: float
    persistent: bool
    sample_seconds: float = 1.0  # a step of the timeline; 0: none


@dataclass(frozen=True, slots=True)
class ConnectReport:
    """The report: a connect is TCP, CONNECT, CONNACK, DISCONNECT, and the broker's closing."""

    at_once: int
    mqtt_version: int
    persistent: bool
    seconds: float
    connects: int
    connects_per_second: float
    failed: int
    faults: list[str]
    latency_ms: Latency | None  # from the first SYN to CONNACK
    broker: BrokerCost | None
    interrupted: bool
    timeline: Timeline | None = None

    @property
    def title(self) -> str:
        """See Report."""
        sessions = "persistent" if self.persistent else "clean"
        return f"connects, {self.at_once} at once, {sessions} sessions, MQTT level {self.mqtt_version}"

    def rows(self) -> list[Row]:
        """See Report."""
        rows = [
            ("measured for", f"{self.seconds:.2f} s"),
            ("connected", f"{self.connects:,} ({self.connects_per_second:,.0f}/s)"),
            ("failed", f"{self.failed:,}"),
            *latency_rows(self.latency_ms),
        ]
        return rows if self.broker is None else rows + self.broker.rows("connects")

    def problems(self) -> list[str]:
        """See Report."""
        return [f"{self.failed:,} connects failed: {self.faults[0]}"] if self.failed else []

    def remarks(self) -> list[str]:
        """See Report."""
        return ["interrupted: this is what was seen until then"] if self.interrupted else []


class ConnectLoad:
    """The clients of the scenario."""

    def __init__(self, plan: ConnectPlan, pids: Pids, watch: Callable[[float, int], None]) -> None:
        self._plan = plan
        self._pids = pids
        self._watch = watch
        self._latency = Histogram()
        self._lap = Histogram()
        self._faults: list[str] = []
        self._connects = 0
        self._halted = asyncio.Event()

    def halt(self) -> None:
        """End the run now."""
        self._halted.set()

    async def run(self) -> ConnectReport:
        """Connect and disconnect until the time is over. Raises CostError."""
        before = measure_usage(self._pids)
        begun = time.monotonic()
        deadline = begun + self._plan.duration_seconds
        async with (
            recording(self._plan.sample_seconds, self, self._pids) as recorder,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self._plan.at_once):
                group.create_task(self._repeat(number, deadline))
            reporter = group.create_task(self._report_progress(begun, deadline))
            reporter.add_done_callback(lambda _: self.halt())
        seconds = time.monotonic() - begun
        after = measure_usage(self._pids)
        if self._plan.persistent:
            await asyncio.gather(*(self._remove(number) for number in range(self._plan.at_once)))
        return ConnectReport(
            at_once=self._plan.at_once,
            mqtt_version=self._plan.account.version,
            persistent=self._plan.persistent,
            seconds=seconds,
            connects=self._connects,
            connects_per_second=self._connects / seconds,
            failed=len(self._faults),
            faults=self._faults[:5],
            latency_ms=Latency.of(self._latency),
            broker=BrokerCost.of(before, after, 0, self._connects, seconds),
            interrupted=time.monotonic() < deadline and len(self._faults) < _FAILURES_LIMIT,
            timeline=recorder.timeline(),
        )

    @property
    def flow(self) -> dict[str, int]:
        """See timeline.Lap."""
        return {"connects": self._connects}

    @property
    def so_far(self) -> dict[str, int]:
        """See timeline.Lap."""
        return {"failed": len(self._faults)}

    def lap(self) -> Histogram:
        """See timeline.Counted."""
        lap, self._lap = self._lap, Histogram()
        return lap

    async def _report_progress(self, begun: float, deadline: float) -> None:
        while not self._halted.is_set() and (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(0.25, left)):
                    await self._halted.wait()
            except TimeoutError:
                self._watch(time.monotonic() - begun, self._connects)

    async def _repeat(self, number: int, deadline: float) -> None:
        while not self._halted.is_set() and time.monotonic() < deadline:
            try:
                await self._connect_once(number, clean=False)
            except ConnectFailed as error:
                self._faults.append(str(error))
                if len(self._faults) >= _FAILURES_LIMIT:
                    self.halt()
            else:
                self._connects += 1

    async def _connect_once(self, number: int, *, clean: bool) -> None:
        plan = self._plan
        client_id = f"lt{plan.run_id}c{number}"
        client = Client(client_id, plan.account, self._faults)
        packet = connect_packet(
            plan.account, client_id, persistent=plan.persistent and not clean, clean=clean
        )
        begun = time.monotonic_ns()
        await client.connect(plan.targets[number % len(plan.targets)], packet)
        microseconds = (time.monotonic_ns() - begun) // 1000
        self._latency.record(microseconds)
        self._lap.record(microseconds)
        await client.depart()

    async def _remove(self, number: int) -> None:
        await self._connect_once(number, clean=True)
