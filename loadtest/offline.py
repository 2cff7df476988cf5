"""The scenario `offline`: messages stored for sessions that are away, then drained and verified.

Between the two the operator (or a test) may do what he likes to the broker: nothing acknowledged may be lost.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.mqtt import MQTT_3_1
from loadtest.board import Board
from loadtest.client import Client, connect_packet
from loadtest.cost import Pids, measure_usage
from loadtest.plan import CONNECTING_AT_ONCE, Plan, PlanError
from loadtest.publisher import Publisher
from loadtest.report import Accounts, BrokerCost, Row
from loadtest.subscriber import Subscriber, total_expected
from loadtest.target import Target
from loadtest.timeline import Timeline, recording
from loadtest.worker import remove_session, run_all

Pause = Callable[[], Awaitable[Target | None]]
"""Waits for the operator; answers with another broker address if the messages are to be drained there."""

_LINGER_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Phase:
    """Storing or draining."""

    messages: int
    seconds: float
    per_second: float
    broker: BrokerCost | None

    @classmethod
    def of(cls, messages: int, seconds: float, broker: BrokerCost | None) -> "Phase":
        """With the rate worked out."""
        return cls(messages, seconds, messages / seconds if seconds > 0 else 0.0, broker)

    def rows(self, name: str) -> list[Row]:
        """The figures with their names."""
        rows = [(name, f"{self.messages:,} in {self.seconds:.2f} s ({self.per_second:,.0f}/s)")]
        if self.broker is not None and self.broker.per_cpu_second is not None:
            rows.append((f"{name} per CPU-second of the broker", f"{self.broker.per_cpu_second:,.0f}"))
        return rows


@dataclass(frozen=True, slots=True)
class OfflineReport:
    """The report."""

    sessions: int
    messages_each: int
    qos: int
    mqtt_version: int
    payload_bytes: int
    sessions_resumed: int
    stored: Phase
    drained: Phase
    lost: int
    duplicates: int
    order_errors: int
    corrupt: int
    refused: int
    unacknowledged: int
    faults: list[str]
    interrupted: bool
    timeline: Timeline | None = None

    @property
    def title(self) -> str:
        """See Report."""
        return (
            f"offline: {self.sessions} sessions x {self.messages_each:,} messages, QoS {self.qos},"
            f" {self.payload_bytes} B, MQTT level {self.mqtt_version}"
        )

    def rows(self) -> list[Row]:
        """See Report."""
        return [
            *self.stored.rows("stored"),
            *self.drained.rows("drained"),
            ("sessions resumed", f"{self.sessions_resumed} of {self.sessions}"),
            ("lost", f"{self.lost:,}"),
            ("duplicates", f"{self.duplicates:,}"),
            ("order errors", f"{self.order_errors:,}"),
            ("refused by the broker", f"{self.refused:,}"),
            ("never acknowledged", f"{self.unacknowledged:,}"),
        ]

    def problems(self) -> list[str]:
        """See Report."""
        away = self.sessions - self.sessions_resumed
        found = [f"{away} sessions were gone"] if away else []
        accounts = Accounts(
            self.qos, self.lost, self.duplicates, self.order_errors, self.corrupt, self.faults
        )
        return found + accounts.problems()

    def remarks(self) -> list[str]:
        """See Report."""
        return ["interrupted: this is what was seen until then"] if self.interrupted else []


class OfflineLoad:
    """The sessions and publishers of the scenario. The plan is one of pairs, with a count per publisher."""

    def __init__(self, plan: Plan, pids: Pids, watch: Callable[[str], None], pause: Pause | None) -> None:
        if plan.qos == 0:
            raise PlanError("a broker needn't store messages of QoS 0: use QoS 1 or 2")
        self._plan = plan
        self._pids = pids
        self._watch = watch
        self._pause = pause
        self._board = Board()
        self._resumed = 0
        self.interrupted = False

    def halt(self) -> None:
        """Wait no longer for what is missing."""
        self.interrupted = True
        self._board.changed.set()

    async def run(self) -> OfflineReport:
        """Create sessions, store, pause, drain, verify, remove. Raises ConnectFailed, CostError."""
        async with recording(self._plan.sample_seconds, self._board, self._pids) as recorder:
            report = await self._run()
        return replace(report, timeline=recorder.timeline())

    async def _run(self) -> OfflineReport:
        numbers = range(self._plan.subscribers)
        self._watch("creating the sessions")
        await run_all((self._create_session(number) for number in numbers), CONNECTING_AT_ONCE)
        publishers = [Publisher(number, self._plan, self._board) for number in numbers]
        stored = await self._store(publishers)
        if self._pause is not None:
            self._plan = replace(self._plan, target=await self._pause() or self._plan.target)
        owed = {p.number: p.sent - p.refused - p.outstanding for p in publishers}
        subscribers = [Subscriber(number, self._plan, self._board) for number in numbers]
        drained = await self._drain(subscribers, owed)
        await run_all((client.disconnect() for client in subscribers), CONNECTING_AT_ONCE)
        names = [self._plan.client_id("s", number) for number in numbers]
        await run_all((remove_session(self._plan, name) for name in names), CONNECTING_AT_ONCE)
        return self._report(publishers, subscribers, owed, (stored, drained))

    async def _create_session(self, number: int) -> None:
        plan = self._plan
        client = Client(f"session {number}", plan.account, self._board.faults)
        packet = connect_packet(plan.account, plan.client_id("s", number), persistent=True)
        await client.connect(plan.target, packet)
        await client.subscribe(plan.topic_filter(number), plan.qos)
        await client.disconnect()

    async def _store(self, publishers: Sequence[Publisher]) -> Phase:
        """Publish everything and wait for the acknowledgements."""
        plan, board = self._plan, self._board
        await run_all((self._open_publisher(publisher) for publisher in publishers), CONNECTING_AT_ONCE)
        self._watch("storing")
        before, begun = measure_usage(self._pids), time.monotonic()
        for publisher in publishers:
            publisher.start()
        board.expect(acknowledged=(plan.count or 0) * len(publishers))
        await board.reached(plan.drain_seconds)
        seconds, after = time.monotonic() - begun, measure_usage(self._pids)
        for publisher in publishers:
            publisher.stop()
        await run_all((publisher.disconnect() for publisher in publishers), CONNECTING_AT_ONCE)
        return Phase.of(
            board.acknowledged, seconds, BrokerCost.of(before, after, 0, board.acknowledged, seconds)
        )

    async def _open_publisher(self, publisher: Publisher) -> None:
        plan = self._plan
        client_id = plan.client_id("p", publisher.number)
        await publisher.open(plan.target, connect_packet(plan.account, client_id))

    async def _drain(self, subscribers: Sequence[Subscriber], owed: dict[int, int]) -> Phase:
        """Let the sessions come back and take what is theirs."""
        board = self._board
        # After a pause the broker's processes may be others than those that were named.
        pids = self._pids if self._pause is None else Pids()
        self._watch("draining")
        board.expect(received=total_expected(subscribers, owed))
        before, begun = measure_usage(pids), time.monotonic()
        await run_all((self._resume(client) for client in subscribers), CONNECTING_AT_ONCE)
        complete = await board.reached(self._plan.drain_seconds)
        seconds, after = max(0.0, board.last_delivery_ns / 1e9 - begun), measure_usage(pids)
        if complete:  # whatever comes now is one too many
            board.expect(received=1 << 62)
            await board.reached(_LINGER_SECONDS)
        return Phase.of(board.delivered, seconds, BrokerCost.of(before, after, 0, board.delivered, seconds))

    async def _resume(self, client: Subscriber) -> None:
        plan = self._plan
        packet = connect_packet(plan.account, plan.client_id("s", client.number), persistent=True)
        answer = await client.connect(plan.target, packet)
        # The CONNACK of MQTT 3.1 doesn't say.
        self._resumed += answer.session_present or plan.account.version == MQTT_3_1

    def _report(
        self,
        publishers: Sequence[Publisher],
        subscribers: Sequence[Subscriber],
        owed: dict[int, int],
        phases: tuple[Phase, Phase],
    ) -> OfflineReport:
        plan, board = self._plan, self._board
        streams = [(number, stream) for client in subscribers for number, stream in client.streams.items()]
        return OfflineReport(
            sessions=plan.subscribers,
            messages_each=plan.count or 0,
            qos=plan.qos,
            mqtt_version=plan.account.version,
            payload_bytes=plan.payload_bytes,
            sessions_resumed=self._resumed,
            stored=phases[0],
            drained=phases[1],
            lost=sum(stream.missing(owed[number]) for number, stream in streams),
            duplicates=sum(stream.duplicates for _, stream in streams),
            order_errors=sum(stream.order_errors for _, stream in streams),
            corrupt=board.corrupt,
            refused=board.refused,
            unacknowledged=sum(publisher.outstanding for publisher in publishers),
            faults=board.faults,
            interrupted=self.interrupted,
        )
