"""Dashboards subscribe to everything by a wildcard, get what is retained on each topic, then the updates.

A view is one opening of a dashboard. What it has to show: a value for every topic, and from that value on
every update, in order. So a retained message that was out of date, or an update that fell between the
retained message and the subscription, is a gap, and is found by the next update or by the last value.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.mqtt import Publish, encode
from loadtest.board import Board
from loadtest.client import Client, ConnectFailed, connect_packet
from loadtest.histogram import Histogram, Latency
from loadtest.plan import Plan, Viewing
from loadtest.report import Row
from loadtest.returns import is_set_within
from loadtest.stream import Stream
from loadtest.subscriber import Subscriber


@dataclass(slots=True)
class Views:
    """The counts of one worker. Losses and the like are of the views that were closed."""

    opened: int = 0
    incomplete: int = 0
    complete: Histogram = field(default_factory=Histogram)  # from SUBSCRIBE until there was a value for all
    missing: int = 0
    duplicates: int = 0
    order_errors: int = 0


@dataclass(frozen=True, slots=True)
class ViewReport:
    """How the dashboards filled."""

    topics: int
    opened: int
    incomplete: int  # a topic's value never came
    complete_ms: Latency | None

    @classmethod
    def of(cls, topics: int, parts: Sequence[Views]) -> "ViewReport":
        """The sum of what the workers saw."""
        complete = Histogram()
        for part in parts:
            complete.add(part.complete)
        return cls(
            topics,
            sum(part.opened for part in parts),
            sum(part.incomplete for part in parts),
            Latency.of(complete),
        )

    def rows(self) -> list[Row]:
        """The figures with their names."""
        rows = [("dashboards opened", f"{self.opened:,}, {self.topics:,} topics each")]
        if self.complete_ms is not None:
            took = self.complete_ms
            rows.append(
                ("filled after p50 / p99 / max", f"{took.p50:.1f} / {took.p99:.1f} / {took.max:.1f} ms")
            )
        return [*rows, ("never filled", f"{self.incomplete:,}")] if self.incomplete else rows

    def problems(self) -> list[str]:
        """See Report."""
        return [f"{self.incomplete:,} dashboards didn't get all topics"] if self.incomplete else []


class Topic(Stream):
    """One topic of a dashboard, from the first value on."""

    __slots__ = ("_first",)

    def __init__(self, first: int) -> None:
        super().__init__()
        self.expected = self._first = first

    def is_old(self, number: int, is_retained: bool) -> bool:
        """Whether this is no update, as retained messages and updates meet when one subscribes: the first
        value as both, which is harmless, or an older one in place of a newer one, which is an error of order.
        """
        if number == self.expected - 1 and (is_retained or number == self._first):
            self._first = -1  # once
            return True
        if is_retained and number < self.expected:
            self.order_errors += 1
            return True
        return False


class View(Subscriber):
    """One opening of a dashboard."""

    def __init__(self, number: int, plan: Plan, board: Board) -> None:
        super().__init__(number, plan, board)
        self.name = f"dashboard {number}"
        self.unseen = 0  # nothing is owed before it has subscribed
        self.filled = asyncio.Event()
        self._topics = plan.source_count

    def _known_streams(self, plan: Plan) -> dict[int, Stream]:
        return {}

    def begin(self) -> int:
        """It subscribes now; the time."""
        self.unseen = self._topics
        self.since_ns = time.monotonic_ns()
        return self.since_ns

    def missing(self, owed: dict[int, int]) -> int:
        """See Subscriber. Of a topic without a value, the value is missing."""
        return super().missing(owed) + self.unseen

    def gaps(self) -> int:
        """How much is missing of what must have come by now, whatever has been sent."""
        return self.unseen + sum(stream.missing(stream.expected) for stream in self.streams.values())

    def _discover(self, source: int, number: int) -> Stream | None:
        """See Subscriber. The first value is where this topic begins for us."""
        if source >= self._topics:
            return None
        stream = self.streams[source] = Topic(number)
        self.unseen -= 1
        if not self.unseen:
            self.filled.set()
        return stream

    def _take_irregular(self, stream: Stream, number: int, packet: Publish) -> None:
        """See Subscriber. No value that came once more counts as another one, harmless or not."""
        assert isinstance(stream, Topic)
        errors = stream.order_errors
        if stream.is_old(number, packet.retain):
            self._board.duplicates += 1
            self._board.order_errors += stream.order_errors - errors
        else:
            super()._take_irregular(stream, number, packet)


class Dashboards:
    """The dashboards of a worker: each opens, fills, shows updates for a while, closes, and opens again."""

    def __init__(self, plan: Plan, habit: Viewing, clients: list[Subscriber], board: Board) -> None:
        self._plan = plan
        self._habit = habit
        self._clients = clients
        self._numbers = [client.number for client in clients]
        self._board = board
        self._over = asyncio.Event()
        self.views = Views()

    def end(self) -> None:
        """What is open stays open, for the last values."""
        self._over.set()

    async def run(self, at_ns: int) -> None:
        """Until `end`."""
        await asyncio.gather(*(self._show(place) for place in range(len(self._numbers))))

    async def _show(self, place: int) -> None:
        """Open one dashboard again and again; the last view is left to the worker, for the last values."""
        number, seconds = self._numbers[place], self._habit.view_seconds
        if await is_set_within(self._over, seconds * number / self._plan.subscribers):
            return
        while True:
            view = self._clients[place] = View(number, self._plan, self._board)
            try:
                await self._open(view)
            except ConnectFailed as error:
                self._board.faults.append(f"{view.name}: {error}")
                return
            if await is_set_within(self._over, seconds):
                return
            self._close(view)
            await view.disconnect()
            self._board.away += 1

    async def _open(self, view: View) -> None:
        plan, views = self._plan, self.views
        client_id = plan.client_id("s", view.number)
        await view.connect(
            plan.subscriber_target(view.number, views.opened), connect_packet(plan.account, client_id)
        )
        self._board.away -= 1
        views.opened += 1
        begun = view.begin()
        await view.subscribe(plan.topic_filter(view.number), plan.qos, retained=True)
        unseen = 0
        while unseen != view.unseen and not view.filled.is_set():  # as long as there is some progress
            unseen = view.unseen
            await is_set_within(view.filled, plan.drain_seconds)
        if view.filled.is_set():
            views.complete.record((time.monotonic_ns() - begun) // 1000)
        else:
            views.incomplete += 1

    def _close(self, view: View) -> None:
        """Its account, as long as everything that came is there."""
        self.views.missing += view.gaps()
        self.views.duplicates += sum(stream.duplicates for stream in view.streams.values())
        self.views.order_errors += sum(stream.order_errors for stream in view.streams.values())


async def remove_retained(plan: Plan, publisher: int) -> None:
    """Take away what this publisher has left on its topics. Raises ConnectFailed.

    The broker closes after DISCONNECT, when it has read what came before.
    """
    client = Client(f"publisher {publisher}", plan.account, [])
    packet = connect_packet(plan.account, plan.client_id("r", publisher))
    await client.connect(plan.publisher_target(publisher), packet)
    for source in plan.sources_of(publisher):
        client.write(encode(Publish(plan.topic(source), b"", 0, True, False, 0, None), plan.account.version))
    await client.depart()
