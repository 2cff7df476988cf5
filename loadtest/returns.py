"""Clients that go and come back: devices that sleep, and storms in which all are cut in one moment.

`run` begins with the load, and ends when `end` was called and all are back.

A client that comes back connects to the next address of the broker, if there are several: a session has to
be found wherever its client turns up.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.mqtt import MQTT_3_1
from loadtest.board import Board
from loadtest.client import ConnectFailed, connect_packet
from loadtest.histogram import Histogram, Latency
from loadtest.plan import CONNECTING_AT_ONCE, Plan, Sleep, Storm
from loadtest.report import Row, latency_rows
from loadtest.subscriber import Subscriber

RETURN_SECONDS: Final = 60.0
"""A client that can't come back for so long is given up."""
_RETRY_SECONDS: Final = 0.2


@dataclass(slots=True)
class Returns:
    """The counts of one worker."""

    count: int = 0
    sessions_gone: int = 0
    retries: int = 0
    connect: Histogram = field(default_factory=Histogram)  # from the first SYN to CONNACK
    storms: dict[int, float] = field(default_factory=dict)  # from the cut until the last was back, in seconds


@dataclass(frozen=True, slots=True)
class ReturnReport:
    """How the clients came back."""

    count: int
    sessions_gone: int  # it was not found, where it should have been
    retries: int
    connect_ms: Latency | None
    storm_seconds: list[float]

    @classmethod
    def of(cls, parts: Sequence[Returns]) -> "ReturnReport":
        """The sum of what the workers saw. A storm is over when the last client of any worker is back."""
        connect = Histogram()
        for part in parts:
            connect.add(part.connect)
        storms = sorted({number for part in parts for number in part.storms})
        return cls(
            count=sum(part.count for part in parts),
            sessions_gone=sum(part.sessions_gone for part in parts),
            retries=sum(part.retries for part in parts),
            connect_ms=Latency.of(connect),
            storm_seconds=[max(part.storms.get(number, 0.0) for part in parts) for number in storms],
        )

    def rows(self) -> list[Row]:
        """The figures with their names."""
        rows = [("came back", f"{self.count:,}")]
        if self.storm_seconds:
            times = " ".join(f"{seconds:.2f}" for seconds in self.storm_seconds)
            rows.append(("from the cut until the last was back", f"{times} s"))
        rows += [("connect " + name, value) for name, value in latency_rows(self.connect_ms)]
        counts = (("sessions gone", self.sessions_gone), ("connects tried again", self.retries))
        return rows + [(name, f"{count:,}") for name, count in counts if count]

    def problems(self) -> list[str]:
        """See Report."""
        return [f"{self.sessions_gone:,} sessions were gone"] if self.sessions_gone else []


class _Roamer:
    """One subscriber and its connection of the moment, in its place in the list of all."""

    def __init__(self, clients: list[Subscriber], place: int, plan: Plan, board: Board) -> None:
        self._clients = clients
        self._place = place
        self._plan = plan
        self._board = board
        self._returned = 0

    @property
    def client(self) -> Subscriber:
        """The one that is, or was, connected."""
        return self._clients[self._place]

    def cut(self) -> None:
        """Close without a word."""
        self.client.abort()
        self._board.away += 1

    async def leave(self) -> None:
        """Close as MQTT has it."""
        self._board.away += 1
        await self.client.disconnect()

    async def come_back(self, gate: asyncio.Semaphore, returns: Returns) -> None:
        """Connect until that succeeds. A failure for RETURN_SECONDS is a fault."""
        self._returned += 1
        deadline = time.monotonic() + RETURN_SECONDS
        while True:
            try:
                async with gate:
                    await self._connect(returns)
            except ConnectFailed as error:
                self.client.abort()  # it may have failed after CONNACK
                if time.monotonic() > deadline:
                    self._board.faults.append(f"{self.client.name}: didn't come back: {error}")
                    return
                returns.retries += 1
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._board.away -= 1
                return

    async def _connect(self, returns: Returns) -> None:
        plan, number = self._plan, self.client.number
        target = plan.subscriber_target(number, self._returned)
        packet = connect_packet(plan.account, plan.client_id("s", number), persistent=plan.persistent)
        client = self.client.successor()
        begun = client.since_ns = time.monotonic_ns()
        answer = await client.connect(target, packet)
        returns.connect.record((time.monotonic_ns() - begun) // 1000)
        self._clients[self._place] = client
        if plan.persistent and plan.account.version != MQTT_3_1:  # whose CONNACK doesn't say
            returns.sessions_gone += not answer.session_present
        if not answer.session_present:
            await client.subscribe(plan.topic_filter(number), plan.qos)
        returns.count += 1


def _roamers(plan: Plan, clients: list[Subscriber], board: Board) -> list[_Roamer]:
    return [_Roamer(clients, place, plan, board) for place in range(len(clients))]


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    if seconds <= 0:
        return event.is_set()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


class Sleepers:
    """Devices that are away for a part of each cycle. They are spread over the cycle, so that the same part
    of them is away at any time.
    """

    def __init__(self, plan: Plan, habit: Sleep, clients: list[Subscriber], board: Board) -> None:
        self._plan = plan
        self._asleep = habit.cycle_seconds * habit.asleep_percent / 100
        self._awake = habit.cycle_seconds - self._asleep
        self._roamers = _roamers(plan, clients, board)
        self._gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self._over = asyncio.Event()
        self.returns = Returns()

    def end(self) -> None:
        """Nobody goes any more, all come back."""
        self._over.set()

    async def run(self, at_ns: int) -> None:
        """Until `end`; `at_ns` is when the load begins, by the monotonic clock."""
        if self._asleep > 0:
            await asyncio.gather(*(self._live(roamer) for roamer in self._roamers))

    async def _live(self, roamer: _Roamer) -> None:
        """One device: awake first, then asleep; where in that it begins depends on its number."""
        cycle = self._awake + self._asleep
        position = cycle * roamer.client.number / self._plan.subscribers
        while not await is_set_within(self._over, self._awake - position):
            await roamer.leave()
            await is_set_within(self._over, self._asleep - max(0.0, position - self._awake))
            await roamer.come_back(self._gate, self.returns)
            position = 0.0


class Storms:
    """All clients are cut in one moment, come back, and are cut again, as long as the load goes on."""

    def __init__(self, plan: Plan, habit: Storm, clients: list[Subscriber], board: Board) -> None:
        self._plan = plan
        self._habit = habit
        self._roamers = _roamers(plan, clients, board)
        self._gate = asyncio.Semaphore(max(1, habit.at_once * len(clients) // plan.subscribers))
        self._over = asyncio.Event()
        self.returns = Returns()

    def end(self) -> None:
        """Nobody goes any more, all come back."""
        self._over.set()

    async def run(self, at_ns: int) -> None:
        """Until `end`. All processes cut in the same moments; one that isn't ready yet waits for the next."""
        first = at_ns / 1e9 + self._plan.warm_up_seconds
        number = 0
        while not await is_set_within(
            self._over, first + number * self._habit.every_seconds - time.monotonic()
        ):
            cut_at = time.monotonic()
            for roamer in self._roamers:
                roamer.cut()
            await is_set_within(self._over, self._habit.away_seconds)
            await asyncio.gather(*(roamer.come_back(self._gate, self.returns) for roamer in self._roamers))
            self.returns.storms[number] = time.monotonic() - cut_at
            number = max(number + 1, int((time.monotonic() - first) / self._habit.every_seconds) + 1)
