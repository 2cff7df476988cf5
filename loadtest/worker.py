"""One worker: holds its share of the connections, publishes, verifies, and tells what it saw."""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from typing import Final

import uvloop

from loadtest.board import Board, Snapshot
from loadtest.client import Client, ConnectFailed, connect_packet
from loadtest.dashboard import Dashboards, View, Views, remove_retained
from loadtest.group import GroupPart, GroupStream, Member
from loadtest.histogram import Histogram
from loadtest.link import (
    Assign,
    Begin,
    Closed,
    Endpoint,
    Expect,
    Extra,
    Failed,
    Halt,
    Outcome,
    Progress,
    Published,
    Ready,
    SocketEndpoint,
)
from loadtest.pacer import Schedule, Ticker
from loadtest.plan import CONNECTING_AT_ONCE, Plan, Shape, Share, Sleep, Storm, Viewing
from loadtest.publisher import Publisher, RotatingPublisher
from loadtest.returns import Sleepers, Storms
from loadtest.stream import Stream
from loadtest.subscriber import Credit, Subscriber
from loadtest.timeline import telling_laps

PROGRESS_SECONDS: Final = 0.25
_STALL_SECONDS: Final = 2.0
"""At QoS 0, a full window without news for this long is lost; the load must go on."""
_LINGER_SECONDS: Final = 0.1
"""How long to listen for repeated messages after the last expected one has come."""
_UNKNOWN: Final = 1 << 62
"""More than can come: the wait ends when nothing comes any more."""


async def run_all(jobs: Iterable[Coroutine[None, None, None]], at_once: int) -> None:
    """Run the jobs, a bounded number at a time. The first failure cancels the rest and is raised as it is."""
    gate = asyncio.Semaphore(at_once)

    async def run(job: Coroutine[None, None, None]) -> None:
        async with gate:
            await job

    waiting = list(jobs)
    tasks = [asyncio.ensure_future(run(job)) for job in waiting]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in waiting:
            job.close()  # of those that never began; without it Python complains


class Worker:
    """The clients of one share and the counts they write."""

    def __init__(self, share: Share, endpoint: Endpoint) -> None:
        self._plan = share.plan
        self._endpoint = endpoint
        self._board = Board()
        self._publishers = {
            number: Publisher.of(number, share.plan, self._board) for number in share.publishers
        }
        # Only at QoS 0 and in a closed loop a delivery makes room in its publisher's window.
        closed_loop = share.plan.qos == 0 and share.plan.rate_per_second is None
        credit = self._credit if closed_loop else None
        self._group: dict[int, Stream] = {}
        self._subscribers = self._make_subscribers(share, credit)
        self._board.away = len(self._subscribers)
        self._habit = self._make_habit()
        self._credited: dict[int, Publisher] = {}
        self._loop = asyncio.get_running_loop()
        self._halted = asyncio.Event()
        self._begin: asyncio.Future[Begin] = self._loop.create_future()
        self._expect: asyncio.Future[Expect] = self._loop.create_future()
        self._written_off = 0

    def _make_subscribers(self, share: Share, credit: Credit | None) -> list[Subscriber]:
        plan, board = self._plan, self._board
        if plan.shape is Shape.DASHBOARD:
            return [View(number, plan, board) for number in share.subscribers]
        if plan.shape is Shape.SHARED:
            self._group = {source: GroupStream() for source in range(plan.source_count)}
            return [Member(number, plan, board, credit, self._group) for number in share.subscribers]
        return [Subscriber(number, plan, board, credit) for number in share.subscribers]

    def _make_habit(self) -> Sleepers | Storms | Dashboards | None:
        plan, board, clients = self._plan, self._board, self._subscribers
        match plan.habit:
            case Sleep() as sleep:
                return Sleepers(plan, sleep, clients, board)
            case Storm() as storm:
                return Storms(plan, storm, clients, board)
            case Viewing() as viewing:
                return Dashboards(plan, viewing, clients, board)
            case None:
                return None

    # Connections.

    async def connect(self) -> None:
        """Open everything: subscribers first. Raises ConnectFailed."""
        if self._plan.shape is not Shape.DASHBOARD:  # which open when there is something to see
            await run_all((self._open_subscriber(client) for client in self._subscribers), CONNECTING_AT_ONCE)
        await run_all(
            (self._open_publisher(client) for client in self._publishers.values()), CONNECTING_AT_ONCE
        )
        if self._plan.shape is Shape.DASHBOARD:
            await self._seed()

    async def _open_subscriber(self, client: Subscriber) -> None:
        plan = self._plan
        client_id = plan.client_id("s", client.number)
        await client.connect(
            plan.subscriber_target(client.number),
            connect_packet(plan.account, client_id, persistent=plan.persistent),
        )
        await client.subscribe(plan.topic_filter(client.number), plan.qos)
        self._board.away -= 1

    async def _open_publisher(self, client: Publisher) -> None:
        plan = self._plan
        client_id = plan.client_id("p", client.number)
        packet = connect_packet(plan.account, client_id, persistent=plan.persistent_publishers)
        await client.open(plan.publisher_target(client.number), packet)
        client.ended.add_done_callback(lambda _: self._end_if_alone())

    async def _seed(self) -> None:
        """Publish a first, retained message to each topic. Raises ConnectFailed."""
        publishers = [p for p in self._publishers.values() if isinstance(p, RotatingPublisher)]
        for publisher in publishers:
            publisher.seed()
        self._board.expect(acknowledged=sum(publisher.limit for publisher in publishers))
        if not await self._board.reached(self._plan.drain_seconds):
            raise ConnectFailed("what is to be retained was not acknowledged")
        for publisher in publishers:
            publisher.stop_seeding()

    def _end_if_alone(self) -> None:
        """Without a connection to publish on, the rest of the time would show nothing."""
        if not any(publisher.is_open for publisher in self._publishers.values()):
            self._halt()

    async def disconnect(self) -> None:
        """Close everything; persistent sessions are removed from the broker."""
        for publisher in self._publishers.values():
            publisher.leave()
        await run_all((client.disconnect() for client in self._subscribers), CONNECTING_AT_ONCE)
        await run_all(
            (remove_session(self._plan, name) for name in self._kept_sessions()), CONNECTING_AT_ONCE
        )
        if self._plan.shape is Shape.DASHBOARD:
            await run_all((remove_retained(self._plan, n) for n in self._publishers), CONNECTING_AT_ONCE)

    def _kept_sessions(self) -> Iterator[str]:
        plan = self._plan
        if plan.persistent:
            yield from (plan.client_id("s", client.number) for client in self._subscribers)
        if plan.persistent_publishers:
            yield from (plan.client_id("p", number) for number in self._publishers)

    # The run.

    async def run(self) -> None:
        """Do the share; the endpoint gets a Failed if it can't be done."""
        listener = asyncio.ensure_future(self._listen())
        reporter = asyncio.ensure_future(self._report_progress())
        try:
            await self.connect()
            gc.collect()
            gc.freeze()
            self._endpoint.send(Ready())
            at_ns = (await self._begin).at_ns
            async with telling_laps(self._plan.sample_seconds, at_ns, self._board, self._endpoint.send):
                outcome = await self._measure(at_ns)
            reporter.cancel()
            self._endpoint.send(outcome)
            await self.disconnect()
        except ConnectFailed as error:
            self._endpoint.send(Failed(str(error)))
            for client in (*self._publishers.values(), *self._subscribers):
                client.abort()
        finally:
            reporter.cancel()
            listener.cancel()
            gc.unfreeze()

    async def _listen(self) -> None:
        """Take what the conductor says. If it is gone, so is the reason for this load."""
        try:
            while True:
                message = await self._endpoint.receive()
                if isinstance(message, Begin):
                    self._begin.set_result(message)
                elif isinstance(message, Expect):
                    self._expect.set_result(message)
                elif isinstance(message, Halt):
                    self._halt()
        except Closed:
            self._begin.cancel()
            self._expect.cancel()
            self._halt()

    def _halt(self) -> None:
        self._halted.set()
        self._board.changed.set()

    async def _measure(self, at_ns: int) -> Outcome:
        await self._until(at_ns)
        async with self._living(at_ns):
            begun, ended = await self._publish(at_ns)
        await self._settle_publishers()
        self._endpoint.send(self._published())
        expect = await self._expect
        await self._drain(expect)
        finished = self._board.snapshot()
        if self._plan.count is not None and self._board.last_delivery_ns:
            ended = Snapshot(
                self._board.last_delivery_ns, finished.sent, finished.delivered, finished.cpu_seconds
            )
        return self._outcome(expect, begun, ended, finished)

    @contextlib.asynccontextmanager
    async def _living(self, at_ns: int) -> AsyncIterator[None]:
        """Meanwhile the subscribers do what their shape has them do; afterwards all of them are there."""
        if self._habit is None:
            yield
            return
        living = asyncio.ensure_future(self._habit.run(at_ns))
        try:
            yield
            self._habit.end()
            await living
        finally:
            living.cancel()

    async def _until(self, at_ns: int) -> None:
        """Wait for a moment, or for the operator's halt."""
        seconds = (at_ns - time.monotonic_ns()) / 1e9
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._halted.wait()
            except TimeoutError:
                return

    async def _publish(self, at_ns: int) -> tuple[Snapshot, Snapshot]:
        """Publish as planned; the counts when measuring began and when publishing ended."""
        plan, publishers = self._plan, self._publishers.values()
        for publisher in publishers:
            publisher.start()
        ticker = self._start_open_loop(at_ns) if plan.rate_per_second is not None and publishers else None
        try:
            if plan.count is not None:
                begun = self._board.snapshot()
                await self._until_all_sent()
            else:
                await self._until(at_ns + int(plan.warm_up_seconds * 1e9))
                self._board.begin_measuring()
                self._board.stored = Histogram()
                begun = self._board.snapshot()
                await self._until(at_ns + int((plan.warm_up_seconds + plan.duration_seconds) * 1e9))
        finally:
            if ticker is not None:
                ticker.stop()
        for publisher in publishers:
            publisher.stop()
        return begun, self._board.snapshot()

    def _start_open_loop(self, at_ns: int) -> Ticker:
        """Publish in turn, at the share of the rate that falls to this worker's publishers."""
        plan, publishers = self._plan, list(self._publishers.values())
        assert plan.rate_per_second is not None
        schedule = Schedule(plan.rate_per_second * len(publishers) / plan.publishers, at_ns)
        turn = 0

        def tick() -> None:
            nonlocal turn
            due = schedule.due(time.monotonic_ns())
            touched: dict[int, Publisher] = {}
            for intended in due:
                publisher = publishers[turn]
                turn = (turn + 1) % len(publishers)
                publisher.publish_at(intended)
                touched[publisher.number] = publisher
            for publisher in touched.values():
                publisher.pump()

        return Ticker(schedule.step_ns, at_ns, tick)

    async def _until_all_sent(self) -> None:
        """Wait until each publisher has sent its count or lost its connection, or the run is halted."""
        publishers, board = self._publishers.values(), self._board
        board.expect(sent=sum(publisher.limit for publisher in publishers))
        while not self._halted.is_set() and not all(publisher.finished for publisher in publishers):
            await board.reached(PROGRESS_SECONDS)

    async def _settle_publishers(self) -> None:
        """Wait until what was published is acknowledged."""
        if self._plan.qos > 0:
            self._board.expect(acknowledged=self._board.sent)
            await self._board.reached(self._patience)

    async def _drain(self, expect: Expect) -> None:
        """Wait until everything that was sent has come, or nothing comes any more."""
        self._board.expect_more(self._missing(expect.owed))
        if await self._board.reached(self._patience):
            await asyncio.sleep(_LINGER_SECONDS)

    @property
    def _patience(self) -> float:
        """After the operator's halt nobody wants to wait."""
        return min(1.0, self._plan.drain_seconds) if self._halted.is_set() else self._plan.drain_seconds

    def _missing(self, owed: dict[int, int]) -> int:
        """How many messages have to come yet. What the other members of a group got, only they know."""
        if self._plan.shape is not Shape.SHARED:
            return sum(client.missing(owed) for client in self._subscribers)
        if self._plan.processes > 1:
            return _UNKNOWN
        return sum(stream.missing(owed.get(source, 0)) for source, stream in self._group.items())

    def _published(self) -> Published:
        sent: dict[int, int] = {}
        owed: dict[int, int] = {}
        for publisher in self._publishers.values():
            sent |= publisher.sent_by_source()
            owed |= publisher.owed_by_source()
        return Published(sent, owed)

    def _outcome(self, expect: Expect, begun: Snapshot, ended: Snapshot, finished: Snapshot) -> Outcome:
        board, habit = self._board, self._habit
        views = habit.views if isinstance(habit, Dashboards) else Views()
        # Of a group the conductor makes the account.
        clients = [] if self._group else self._subscribers
        streams = [stream for client in clients for stream in client.streams.values()]
        return Outcome(
            begun=begun,
            ended=ended,
            finished=finished,
            # What the broker wasn't answerable for may have come all the same.
            missing=views.missing + sum(client.missing(expect.owed) for client in clients),
            duplicates=views.duplicates + sum(stream.duplicates for stream in streams),
            order_errors=views.order_errors + sum(stream.order_errors for stream in streams),
            corrupt=board.corrupt,
            refused=board.refused,
            unacknowledged=sum(p.outstanding for p in self._publishers.values()) if self._plan.qos else 0,
            written_off=self._written_off,
            latency=board.measured(),
            faults=board.faults,
            extra=Extra(
                stored=board.stored,
                returns=habit.returns if isinstance(habit, Sleepers | Storms) else None,
                views=habit.views if isinstance(habit, Dashboards) else None,
                group=GroupPart.of(self._group) if self._group else None,
            ),
        )

    # While it runs.

    def _credit(self, number: int, run: int, expected: int) -> None:
        """A subscriber got messages: their publisher's window has room, filled once per tick of the loop."""
        publisher = self._publishers.get(number)
        if publisher is None:
            return
        publisher.delivered(run, expected)
        if not self._credited:
            self._loop.call_soon(self._pump_credited)
        self._credited[number] = publisher

    def _pump_credited(self) -> None:
        credited, self._credited = self._credited, {}
        for publisher in credited.values():
            publisher.pump()

    async def _report_progress(self) -> None:
        """Tell the counts at fixed times, and find windows that are stuck."""
        stuck_since: dict[int, tuple[int, float]] = {}
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self._endpoint.send(Progress(self._board.sent, self._board.delivered, self._board.away))
            if self._plan.qos == 0 and self._plan.rate_per_second is None:
                self._write_off_stuck(stuck_since, time.monotonic())

    def _write_off_stuck(self, stuck_since: dict[int, tuple[int, float]], now: float) -> None:
        for number, publisher in self._publishers.items():
            settled, since = stuck_since.setdefault(number, (publisher.settled, now))
            if (
                publisher.settled != settled
                or not publisher.active
                or publisher.outstanding < publisher.window
            ):
                stuck_since[number] = (publisher.settled, now)
            elif now - since > _STALL_SECONDS:
                self._written_off += publisher.outstanding
                publisher.write_off()


async def remove_session(plan: Plan, client_id: str) -> None:
    """End a persistent session: begin a new one that ends with its connection."""
    client = Client(client_id, plan.account, [])
    await client.connect(plan.target, connect_packet(plan.account, client_id, clean=True))
    await client.disconnect()


async def _work_for_parent(fd: int) -> None:
    endpoint = await SocketEndpoint.inherit(fd)
    assignment = await endpoint.receive()
    if isinstance(assignment, Assign):
        await Worker(assignment.share, endpoint).run()
    await endpoint.close()


if __name__ == "__main__":  # python -m loadtest.worker FD: one of several worker processes
    # Cancelled: the parent is gone, nobody wants to know.
    with contextlib.suppress(asyncio.CancelledError):
        uvloop.run(_work_for_parent(int(sys.argv[1])))
