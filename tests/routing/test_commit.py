"""Cycles of the group commit, with a lane that answers by a table in place of Redis."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import anyio
import pytest

from broker.mqtt import Packet, Puback, Publish, Pubrel
from broker.routing import CommitSurroundings, Committer, GroupCommit, Timing
from broker.routing.gathering import Gathering
from broker.session import Delivery, Message, Session
from cluster.pulse import Pulse
from cluster.store import records, subscriptions
from cluster.store.call import Call, Reply, Request
from cluster.store.errors import CallFailed, ItemError, RedisFull, StoreError
from cluster.store.identity import Identity
from cluster.store.keys import bucket_of
from cluster.store.lane import Ask, CallReplies, Exchange, Revise
from cluster.store.store import Store
from tests.routing.nodes import message
from tests.routing.room import NODE, Room, appended, new_queue

pytestmark = pytest.mark.anyio

HERE = NODE.encode()
OPTIONS = records.pack_options(1, False, False, 0, 0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TableLane:
    """Answers requests by their operation: 1, or what `replies` has (the last one again and again).

    `asked` is what it was asked, exchange by exchange. `refusals` exchanges find Redis full, `failure` is the
    answer to every call. While it is held, an exchange waits before it is answered.
    """

    def __init__(self) -> None:
        self.asked: list[list[Request]] = []
        self.functions: list[list[str]] = []
        self.replies: dict[str, list[object]] = {}
        self.version = "1.0"
        self.versions_read = 0
        self.refusals = 0
        self.failure: StoreError | None = None
        self.began = anyio.Event()
        self.on_asked: Callable[[list[Request]], None] = lambda requests: None
        self.is_lost = False  # the next exchange is lost, and sent again, perhaps to another server
        self.identity: Identity | None = None
        self.next_identity: Identity | None = None
        self.drops = 0
        self.lost: list[list[Request]] = []
        self._go = anyio.Event()
        self._go.set()

    def hold(self) -> None:
        self._go = anyio.Event()
        self.began = anyio.Event()

    def release(self) -> None:
        self._go.set()

    def drop(self, reason: str) -> None:
        """The next exchange is to find out where the primary is."""
        self.drops += 1

    def operations(self) -> list[list[object]]:
        """Operations by exchange, without the log."""
        return [[request[0] for request in requests] for requests in self.asked]

    async def exchange(
        self, calls: Sequence[Call], read_version: bool = False, revise: Revise | None = None
    ) -> Exchange:
        if self.is_lost and revise is not None:
            self.is_lost = False
            self.lost.append([r for call in calls for r in call.requests if r[0] != "fence"])
            self.identity = self.next_identity or self.identity
            calls = await revise(self._ask)
        return await self._exchange(calls, read_version)

    async def _ask(self, calls: Sequence[Call]) -> list[CallReplies]:
        return (await self._exchange(calls, False)).replies

    async def _exchange(self, calls: Sequence[Call], read_version: bool) -> Exchange:
        self.asked.append([r for call in calls for r in call.requests if r[0] != "fence"])
        self.functions.append([call.function for call in calls])
        if self.asked[-1]:
            self.on_asked(self.asked[-1])
        self.began.set()
        await self._go.wait()
        is_full = self.refusals > 0
        self.refusals -= is_full
        self.versions_read += read_version
        answers = [self._answer(call, is_full) for call in calls]
        return Exchange(answers, self.version if read_version else None)

    def _answer(self, call: Call, is_full: bool) -> list[Reply] | StoreError:
        if self.failure is not None:
            return self.failure
        if is_full and call.function == "write":
            return RedisFull("full")
        return [self._reply(cast(str, request[0])) for request in call.requests]

    def _reply(self, operation: str) -> object:
        replies = self.replies.get(operation)
        if replies is None:
            if operation == "inbox_tail":
                return b"0-0"
            if operation == "fence":
                return []
            return [self.version.encode(), False, []] if operation == "log_since" else 1
        return replies.pop(0) if len(replies) > 1 else replies[0]


class TableStore:
    """The lane, and rows to be loaded."""

    def __init__(self, lane: TableLane) -> None:
        self.lane = lane
        self.rows: list[tuple[str, str, int]] = []  # client, filter, stamp
        self.interest: dict[str, list[str]] = {}
        self.loads = 0

    async def load_subscriptions(self, take: Callable[[list[bytes]], None]) -> str:
        self.loads += 1
        for client_id, filter, stamp in self.rows:
            take([f"{filter}\0{client_id}".encode(), b"%d:%b" % (stamp, OPTIONS)])
        return self.lane.version

    async def load_interest(self) -> AsyncIterator[tuple[str, list[str]]]:
        for node, fields in self.interest.items():
            yield node, fields


class Commit:
    """A node's committer, and what it told."""

    def __init__(self) -> None:
        self.room = Room()
        self.lane = TableLane()
        self.store = TableStore(self.lane)
        self.told: list[tuple[str, str]] = []
        self.observed: list[int] = []
        self.timed: list[str] = []
        self.now = 0.0
        self.pulse = Pulse(lambda: self.committer.wake(), lambda: self.now)
        self.lost_meanwhile: list[Session] = []
        self.holds_inbox = False
        self.behind_tail: list[tuple[str, Callable[[], None]]] = []
        self.transmitted: list[tuple[str, bytes]] = []
        room = self.room
        store = cast(Store, self.store)
        self.committer = Committer(
            store.lane,
            room.router,
            room.writes,
            room.index,
            room.drops,
            room.ready,
            room.resumable,
            CommitSurroundings(
                incarnation=NODE,
                pulse=self.pulse,
                renew=self._renew,
                reassure=self._reassure,
                after_inbox=self._after_inbox,
                go_on=lambda: self.told.append(("node", "goes on")),
                transmit=lambda: self.transmitted.extend(room.router.transit.take_messages()),
                on_given=lambda given: self.told.extend((name, each.id) for name, each in given),
                on_stale=self._teller("stale"),
                on_overrun=self._teller("overrun"),
                on_failed=lambda session, reason: self.told.append((session.client_id, reason)),
                observe=lambda seconds, requests: self.observed.append(requests),
                timing=Timing(
                    room.drops,
                    delivered_direct=lambda seconds: self.timed.append("direct"),
                    delivered_stored=lambda seconds: self.timed.append("stored"),
                    acknowledged=lambda seconds: self.timed.append("acknowledged"),
                    probe=lambda ready: None,
                ),
            ),
        )
        self.group = GroupCommit(self.committer, store, room.index)

    async def _renew(self, ask: Ask) -> None:
        """No other primary has come."""

    async def _reassure(self, ask: Ask) -> None:
        """Asks something, and learns that others have taken some sessions."""
        await ask([Call("free", [["reassure"]])])
        for session in self.lost_meanwhile:
            session.is_lost = True

    def _after_inbox(self, tail: str, action: Callable[[], None]) -> None:
        """At once, unless the inbox is held."""
        self.behind_tail.append((tail, action))
        if not self.holds_inbox:
            action()

    def _teller(self, word: str) -> Callable[[Session], None]:
        return lambda session: self.told.append((session.client_id, word))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.group.run)
            yield
            tasks.cancel_scope.cancel()

    async def run_until_idle(self) -> None:
        """Works until nothing is left to do."""
        self.committer.wake()
        async with self.running():
            await self.group.until_idle()

    def in_flight(self, client_id: str) -> Session:
        """A persistent session which has sent its client entry 1 at QoS 1."""
        session = self.room.connect(client_id, queue=new_queue())
        assert session.queued is not None
        session.queued.take(Delivery(Message("t", b"x", 1, False), 1, False, (), 1, 1))
        self.room.got(client_id)
        return session

    def replies_to(self, request: Request, replies: list[Reply], *, frees_memory: bool = False) -> None:
        self.committer.request(request, replies.append, frees_memory=frees_memory)


def log(version: str, *changes: tuple[str, str, str, bytes, int], more: bool = False) -> list[object]:
    """The reply to `log_since`."""
    flat: list[object] = []
    for kind, who, filter, options, stamp in changes:
        flat += (kind.encode(), who.encode(), filter.encode(), options, stamp)
    return [version.encode(), more, flat]


@pytest.fixture
def commit() -> Commit:
    made = Commit()
    made.room.index.version = made.lane.version
    return made


# The order of a cycle


async def test_calls_are_in_this_order_sessions_connections_batch(commit: Commit) -> None:
    room = commit.room
    room.subscribe("away", "t")
    room.publish(None, "t", b"x")
    commit.committer.request(["asked"], lambda _: None)
    commit.in_flight("client").outbound.puback(1)
    commit.lane.replies["enqueue"] = [appended()]
    await commit.run_until_idle()
    assert commit.lane.operations() == [["ack", "asked", "enqueue"]]
    assert commit.lane.functions == [["free", "write", "write"]]
    assert commit.lane.versions_read == 1
    assert commit.observed == [4]  # with the fence


async def test_an_acknowledgement_goes_with_what_comes_next(commit: Commit) -> None:
    session = commit.in_flight("client")
    async with commit.running():
        session.outbound.puback(1)
        commit.committer.linger()
        assert not commit.lane.asked
        commit.committer.request(["asked"], lambda _: None)
        await commit.group.until_idle()
    assert commit.lane.operations() == [["ack", "asked"]]


async def test_an_acknowledgement_does_not_wait_for_ever(commit: Commit) -> None:
    session = commit.in_flight("client")
    async with commit.running():
        await commit.group.until_idle()
        session.outbound.puback(1)
        commit.committer.linger()
        await commit.group.until_idle()
    assert commit.lane.operations() == [["ack"]]


async def test_the_version_is_read_only_for_a_batch(commit: Commit) -> None:
    commit.committer.request(["asked"], lambda _: None)
    await commit.run_until_idle()
    commit.room.publish(None, "t", b"x")
    assert commit.lane.versions_read == 0
    await commit.run_until_idle()
    assert commit.lane.operations() == [["asked"], []]  # a batch for nobody
    assert commit.lane.versions_read == 1


async def test_without_work_nothing_is_asked(commit: Commit) -> None:
    await commit.run_until_idle()
    assert commit.lane.asked == []


async def test_what_may_leave_does_not_wait_for_the_store(commit: Commit) -> None:
    room = commit.room
    direct = room.connect("direct")
    publisher = room.connect("publisher")
    room.subscribe(direct, "t")
    commit.lane.hold()
    async with commit.running():
        room.publish(publisher, "t", b"x", packet_id=5)
        commit.committer.wake()
        await commit.lane.began.wait()
        assert room.wires["direct"].take() == [Publish("t", b"x", 1, False, False, 1)]
        assert room.wires["publisher"].take() == []
        commit.lane.release()
        await commit.group.until_idle()
    assert room.wires["publisher"].take() == [Puback(5)]


async def test_what_comes_while_an_exchange_is_under_way_goes_with_the_next_one(commit: Commit) -> None:
    commit.lane.hold()
    replies: list[Reply] = []
    async with commit.running():
        commit.replies_to(["first"], replies)
        await commit.lane.began.wait()
        commit.replies_to(["second"], replies)
        commit.replies_to(["third"], replies)
        commit.lane.release()
        await commit.group.until_idle()
    assert commit.lane.operations() == [["first"], ["second", "third"]]
    assert replies == [1, 1, 1]


async def test_requests_are_split_into_calls_and_keep_their_order(commit: Commit) -> None:
    got: list[Reply] = []
    names = [f"r{i}" for i in range(70)]
    for i, name in enumerate(names):
        commit.lane.replies[name] = [i]
        commit.replies_to([name], got, frees_memory=i >= 68)
    await commit.run_until_idle()
    assert commit.lane.operations() == [names]
    assert commit.lane.functions == [["write", "write", "free"]]
    assert got == list(range(70))


# The log of subscriptions


async def test_whoever_subscribed_meanwhile_is_served_before_the_acknowledgement(commit: Commit) -> None:
    room, lane = commit.room, commit.lane
    publisher = room.connect("publisher")
    room.subscribe("away", "t")
    room.publish(publisher, "t", b"x", packet_id=5)
    lane.version = "1.7"
    lane.replies["enqueue"] = [appended()]
    lane.replies["log_since"] = [log("1.7", ("sub+", "late", "t", OPTIONS, 9))]
    await commit.run_until_idle()
    assert lane.operations() == [["enqueue"], ["log_since", "inbox_tail"], ["enqueue"]]
    assert [lane.asked[0][0][2], lane.asked[2][0][2]] == ["away", "late"]
    assert lane.asked[1][0] == subscriptions.log_since("1.0")
    assert room.got("publisher") == [Puback(5)]
    assert room.index.version == "1.7"


async def test_a_long_log_is_read_to_its_end(commit: Commit) -> None:
    commit.lane.version = "1.9"
    commit.lane.replies["log_since"] = [
        log("1.8", ("sub+", "one", "t", OPTIONS, 9), more=True),
        log("1.9", ("sub+", "two", "t", OPTIONS, 9)),
    ]
    commit.room.publish(None, "other", b"x")
    await commit.run_until_idle()
    assert [exchange[0] for exchange in commit.lane.asked[1:]] == [
        subscriptions.log_since("1.0"),
        subscriptions.log_since("1.8"),
    ]
    assert [commit.room.index.stamps_of(name) for name in ("one", "two")] == [{"t": 9}, {"t": 9}]


async def test_a_log_that_does_not_reach_back_makes_it_load_all(commit: Commit) -> None:
    room, lane = commit.room, commit.lane
    room.subscribe("gone", "t")
    room.subscribe("kept", "t")
    commit.store.rows = [
        ("kept", "t", 50),
        ("new", "t", 51),
        ("new", "t", 51),  # a row may be in two pages
    ]
    lane.version = "2.9"
    lane.replies["log_since"] = [False, log("2.9")]
    lane.replies["enqueue"] = [appended()]
    room.publish(None, "other", b"x")
    await commit.run_until_idle()
    assert commit.store.loads == 1
    assert (room.index.stamps_of("kept"), room.index.stamps_of("new")) == ({"t": 50}, {"t": 51})
    assert room.index.count == 2
    assert room.index.version == "2.9"


async def test_actions_run_after_the_log_was_followed(commit: Commit) -> None:
    seen: list[str] = []
    commit.lane.version = "1.7"
    commit.lane.replies["log_since"] = [log("1.7")]
    commit.committer.request(
        ["rows"], lambda _: commit.committer.after_log(lambda: seen.append(commit.room.index.version))
    )
    await commit.run_until_idle()
    assert commit.lane.operations() == [["rows"], ["log_since", "inbox_tail"]]
    assert seen == ["1.7"]


async def test_an_action_may_ask_for_more(commit: Commit) -> None:
    got: list[Reply] = []
    commit.committer.after_log(lambda: commit.replies_to(["next"], got))
    await commit.run_until_idle()
    assert commit.lane.operations() == [[], ["log_since", "inbox_tail"], ["next"]]
    assert got == [1]


async def test_an_action_that_fails_stops_nobody_else(
    commit: Commit, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    commit.committer.after_log(lambda: [].pop())
    commit.committer.after_log(lambda: seen.append("second"))
    await commit.run_until_idle()
    assert seen == ["second"]
    assert "IndexError" in caplog.text


async def test_a_log_that_cannot_be_read_ends_the_loop(commit: Commit) -> None:
    commit.committer.after_log(lambda: None)
    commit.lane.replies["log_since"] = [ItemError("WRONGTYPE")]
    with pytest.raises(ItemError):
        await commit.group.run()


async def test_a_refused_log_ends_the_loop(commit: Commit) -> None:
    commit.committer.after_log(lambda: None)
    commit.lane.failure = CallFailed("no such function")
    with pytest.raises(CallFailed):
        await commit.group.run()


# Replies


async def test_a_handler_that_fails_stops_nobody_else(
    commit: Commit, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Reply] = []
    commit.committer.request(["bad"], lambda _: [].pop())
    commit.replies_to(["good"], got)
    await commit.run_until_idle()
    commit.replies_to(["later"], got)
    await commit.run_until_idle()
    assert got == [1, 1]
    assert "IndexError" in caplog.text


async def test_a_call_that_failed_ends_the_loop(commit: Commit) -> None:
    commit.committer.request(["asked"], lambda _: None)
    commit.lane.failure = CallFailed("no such function")
    with pytest.raises(CallFailed):
        await commit.group.run()


async def test_asking_waits_for_the_reply(commit: Commit) -> None:
    commit.lane.replies = {"good": [7], "bad": [ItemError("WRONGTYPE")]}
    async with commit.running():
        assert await commit.committer.ask(["good"]) == 7
        with pytest.raises(ItemError):
            await commit.committer.ask(["bad"], frees_memory=True)
    assert commit.lane.functions == [["write"], ["free"]]


async def test_whoever_has_stopped_asking_harms_nobody(
    commit: Commit, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(operation: str) -> None:
        await commit.committer.ask([operation])

    commit.lane.hold()
    async with commit.running():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "given up")
            await commit.lane.began.wait()
            tasks.cancel_scope.cancel()
        commit.lane.release()
        assert await commit.committer.ask(["other"]) == 1
    assert caplog.text == ""


async def test_being_idle_means_that_all_is_acknowledged(commit: Commit) -> None:
    room = commit.room
    publisher = room.connect("publisher")
    commit.lane.hold()
    is_idle = anyio.Event()

    async def wait_until_idle() -> None:
        await commit.group.until_idle()
        is_idle.set()

    async with commit.running():
        await commit.group.until_idle()
        room.publish(publisher, "t", b"x", packet_id=5)
        commit.committer.wake()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_until_idle)
            await commit.lane.began.wait()
            await anyio.wait_all_tasks_blocked()
            assert not is_idle.is_set()
            commit.lane.release()
        assert room.wires["publisher"].take() == [Puback(5, 0x10)]


# Redis is full


async def test_a_full_redis_holds_the_batch_and_is_tried_again(
    commit: Commit, caplog: pytest.LogCaptureFixture
) -> None:
    room, lane = commit.room, commit.lane
    publisher = room.connect("publisher")
    room.subscribe("away", "t")
    lane.replies["enqueue"] = [appended()]
    lane.refusals = 2
    asked: list[Reply] = []
    freed: list[Reply] = []
    async with commit.running():
        room.publish(publisher, "t", b"x", packet_id=5)
        commit.replies_to(["asked"], asked)
        commit.replies_to(["freed"], freed, frees_memory=True)
        await lane.began.wait()
        await anyio.wait_all_tasks_blocked()
        assert commit.committer.is_full
        assert isinstance(asked[0], RedisFull)
        assert freed == [1]
        assert room.got("publisher") == []
        assert len(lane.asked) == 1  # a pause, not a storm
        await commit.group.until_idle()
    assert lane.operations() == [["asked", "freed", "enqueue"], ["enqueue"], ["enqueue"]]
    assert room.got("publisher") == [Puback(5)]
    assert commit.committer.refusals == 2
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "Redis is full (maxmemory)",
        "there is room again",
    ]


async def test_a_full_redis_is_told_to_whoever_asks(commit: Commit) -> None:
    commit.lane.refusals = 1
    async with commit.running():
        with pytest.raises(RedisFull):
            await commit.committer.ask(["asked"])


# What is left to clean up


async def test_stale_rows_are_deleted(commit: Commit) -> None:
    room = commit.room
    stamp = room.index.stamps_of(room.subscribe("away", "t").client_id)["t"]
    room.publish(None, "t", b"x")
    commit.lane.replies["enqueue"] = [[1, 0, False, [1], 0]]
    await commit.run_until_idle()
    assert commit.lane.asked[-1] == [subscriptions.rows([], [("away", "t", stamp)])]
    assert commit.lane.functions[-1] == ["free"]
    assert room.router.answers.stale_rows == []


async def test_tokens_of_settled_messages_are_cut_short_bucket_by_bucket(commit: Commit) -> None:
    room = commit.room
    publisher = room.connect("publisher")
    for i, topic in enumerate(("one", "one", "three"), 1):  # buckets of "one" and "three" differ
        room.subscribe(topic, topic, 2)
        publisher.inbound.begin(i)
        room.publish(publisher, topic, b"x", 2, packet_id=i, token=b"token-%d" % i)
    commit.lane.replies["enqueue"] = [appended()]
    await commit.run_until_idle()
    assert commit.lane.asked[-1] == [
        ["settle_tokens", bucket_of("one"), [b"token-1", b"token-2"]],
        ["settle_tokens", bucket_of("three"), [b"token-3"]],
    ]
    assert commit.lane.functions[-1] == ["free"]


async def test_a_failure_to_clean_up_is_logged(commit: Commit, caplog: pytest.LogCaptureFixture) -> None:
    commit.room.drops.add(3, "client", "t", "expired")
    commit.lane.replies["letter"] = [ItemError("WRONGTYPE")]
    await commit.run_until_idle()
    assert commit.lane.operations() == [["letter"]]
    assert commit.lane.asked[0][0][2:] == ["client", "t", "expired"]
    assert commit.lane.functions == [["free"]]
    assert "WRONGTYPE" in caplog.text


async def test_sessions_in_trouble_are_told(commit: Commit, caplog: pytest.LogCaptureFixture) -> None:
    room = commit.room
    stale, failed, overrun = (
        room.connect(name, queue=new_queue()) for name in ("stale", "failed", "overrun")
    )
    room.ingress.receive(stale, [Publish("t", b"x", 2, False, False, 1)], 0)
    room.ingress.receive(failed, [Publish("t", b"x", 2, False, False, 1)], 0)
    room.ingress.receive(overrun, [Publish("t", b"x", 2, False, False, 1)], 0)
    room.subscribe("damaged", "t")
    room.publish(None, "t", b"x")
    commit.lane.replies["receive"] = [0, ItemError("WRONGTYPE"), [-1]]
    commit.lane.replies["enqueue"] = [ItemError("no stream")]
    await commit.run_until_idle()
    assert sorted(commit.told) == [("failed", "WRONGTYPE"), ("overrun", "overrun"), ("stale", "stale")]
    (record,) = caplog.records
    assert record.__dict__["owner_of_keys"] == "damaged"
    assert record.__dict__["reason"] == "no stream"


async def test_connections_that_have_room_again_are_read_from(commit: Commit) -> None:
    resumed: list[str] = []

    class Connection:
        def resume_reading(self) -> None:
            resumed.append("publisher")

    room = commit.room
    publisher = room.connect("publisher")
    publisher.intake.source = Connection()
    room.publish(publisher, "t", b"x")
    publisher.intake.is_held = True
    await commit.run_until_idle()
    assert resumed == ["publisher"]
    assert room.resumable == []


# Doubt, and what is sent again


async def test_a_node_that_was_stopped_asks_before_it_goes_on() -> None:
    """Nothing that came before is delivered or sent until the store has said that this node lives; and what
    lost clients have published is left out."""
    commit = Commit()
    room = commit.room
    receiver = room.connect("receiver")
    room.subscribe(receiver, "t")
    lost, kept = room.connect("lost"), room.connect("kept")
    commit.lost_meanwhile = [lost]
    room.publish(lost, "t", b"lost")
    room.publish(kept, "t", b"kept")
    commit.now = 10.0
    await commit.run_until_idle()
    assert commit.lane.operations()[0] == ["reassure"]
    assert commit.told == [("node", "goes on")]
    assert [p.payload for p in room.got("receiver") if isinstance(p, Publish)] == [b"kept"]
    assert room.got("lost") == []
    assert room.got("kept") == [Puback(1)]
    assert not commit.pulse.in_doubt


async def test_an_answer_that_comes_after_a_gap_waits_for_the_doubt() -> None:
    commit = Commit()
    room = commit.room
    publisher = room.connect("publisher")
    commit.lane.hold()
    async with commit.running():
        room.publish(publisher, "t", b"hello")
        commit.committer.wake()
        await commit.lane.began.wait()
        commit.now = 10.0
        commit.lane.release()
        await commit.group.until_idle()
    assert commit.lane.operations()[1] == ["reassure"]
    assert commit.told == [("node", "goes on")]
    assert len(room.got("publisher")) == 1


async def test_what_was_decided_before_a_gap_waits_for_the_doubt() -> None:
    """The node is stopped while it reads the log, and PUBREL waits to be written."""
    commit = Commit()
    client = commit.room.connect("client", queue=new_queue())
    assert client.queued is not None
    client.queued.take(Delivery(Message("t", b"", 2, False), 2, False, (), 1, 1))
    commit.room.got("client")
    client.outbound.pubrec(1, 0)
    written: list[list[Packet]] = []

    def answer(requests: list[Request]) -> None:
        if requests[0][0] == "log_since":
            commit.now += 10.0
        elif requests[0][0] == "reassure":
            written.append(commit.room.wires["client"].take())

    commit.lane.on_asked = answer
    commit.committer.follow_log()
    await commit.run_until_idle()
    assert written == [[]]
    assert commit.room.got("client") == [Pubrel(1)]


async def test_who_subscribes_late_gets_nothing_of_lost_clients() -> None:
    """Their new node has acknowledged it, perhaps before there was this subscription. That they are lost is
    in the inbox, if the subscription is in the log."""
    commit = Commit()
    room = commit.room
    lost, kept = room.connect("lost"), room.connect("kept")
    commit.lane.replies["log_since"] = [
        [b"1.1", False, [b"int+", b"node-2", b"t", b"", 0]],
        [b"1.1", False, []],
    ]
    commit.lane.version = "1.1"
    commit.holds_inbox = True
    room.publish(lost, "t", b"lost")
    room.publish(kept, "t", b"kept")
    async with commit.running():
        commit.committer.wake()
        with anyio.fail_after(5):
            while not commit.behind_tail:  # noqa: ASYNC110 - what is waited for is that something waits
                await anyio.sleep(0.01)
        lost.is_lost = True  # as the inbox says
        commit.holds_inbox = False
        commit.behind_tail[0][1]()
        await commit.group.until_idle()
    (send,) = [request for requests in commit.lane.asked for request in requests if request[0] == "send"]
    assert b"kept" in cast(bytes, send[2])
    assert b"lost" not in cast(bytes, send[2])


async def test_a_doubt_is_settled_while_the_inbox_is_waited_for() -> None:
    """The inbox waits for that, too."""
    commit = Commit()
    commit.holds_inbox = True
    commit.committer.follow_log()
    async with commit.running():
        with anyio.fail_after(5):
            while not commit.behind_tail:  # noqa: ASYNC110 - what is waited for is that something waits
                await anyio.sleep(0.01)
            commit.now += 10.0
            while not commit.told:  # noqa: ASYNC110 - likewise
                await anyio.sleep(0.01)
            commit.behind_tail[0][1]()
            await commit.group.until_idle()
    assert commit.told == [("node", "goes on")]


async def test_what_is_sent_again_leaves_out_what_lost_clients_published() -> None:
    commit = Commit()
    room = commit.room
    room.subscribe("away", "t")
    lost, kept = room.connect("lost"), room.connect("kept")
    commit.lost_meanwhile = [lost]
    commit.lane.is_lost = True
    commit.lane.replies["enqueue"] = [[1, 0, False, [2, 0], 0]]
    room.publish(lost, "t", b"lost")
    room.publish(kept, "t", b"kept")
    await commit.run_until_idle()
    (before,) = commit.lane.lost
    assert commit.lane.operations()[0] == ["reassure"]
    (after,) = [request for requests in commit.lane.asked for request in requests if request[0] == "enqueue"]
    assert [bool(head) for head in cast(list[object], before[0][5])[1::5]] == [True, True]
    assert [bool(head) for head in cast(list[object], after[5])[1::5]] == [False, True]
    assert room.got("kept") == [Puback(1)]


async def test_a_request_may_be_revised_when_it_is_sent_again() -> None:
    commit = Commit()
    commit.lane.is_lost = True
    commit.lane.replies["later"] = ["revised"]
    answers: list[Reply] = []
    commit.committer.request(["claim", 1], answers.append, revise=lambda: ["later", 1])
    commit.committer.request(["detach", 1], answers.append)
    await commit.run_until_idle()
    assert commit.lane.operations()[-1] == ["later", "detach"]
    assert answers == ["revised", 1]


async def test_what_follows_the_tail_of_the_inbox_waits_for_its_reader() -> None:
    commit = Commit()
    commit.lane.replies["inbox_tail"] = [b"7-0"]
    commit.holds_inbox = True
    done: list[str] = []
    commit.committer.request(["claim"], lambda _: commit.committer.after_tail(lambda: done.append("claim")))
    commit.committer.read_tail()
    commit.committer.read_tail()
    await commit.run_until_idle()
    assert commit.lane.operations() == [["claim", "inbox_tail"]]
    ((tail, action),) = commit.behind_tail
    assert (tail, done) == ("7-0", [])
    action()
    assert done == ["claim"]


async def test_a_tail_that_can_not_be_read_keeps_nobody_waiting() -> None:
    commit = Commit()
    commit.lane.replies["inbox_tail"] = [ItemError("damaged")]
    commit.committer.read_tail()
    await commit.run_until_idle()
    assert [tail for tail, _ in commit.behind_tail] == ["0-0"]


async def test_entries_for_an_owner_elsewhere_are_handed_over() -> None:
    commit = Commit()
    commit.room.subscribe("away", "t")
    publisher = commit.room.connect("publisher")
    commit.lane.replies["enqueue"] = [appended(0, owner=b"node-2")]
    commit.room.publish(publisher, "t", b"hello")
    await commit.run_until_idle()
    (send,) = [request for requests in commit.lane.asked for request in requests if request[0] == "send"]
    assert send[1] == "node-2"
    assert commit.room.got("publisher") == [Puback(1)]


async def test_the_log_is_followed_on_demand() -> None:
    commit = Commit()
    commit.committer.follow_log()
    await commit.run_until_idle()
    assert commit.lane.operations() == [[], ["log_since", "inbox_tail"]]


async def test_what_goes_wrong_before_the_task_has_its_turn_ends_it(
    commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And isn't left to the event loop, which would go on."""
    failure = RuntimeError("a bug")

    def transmit() -> None:
        raise failure

    committer = commit.committer
    failing = Gathering(committer.router.transit, committer.around.pulse, transmit)
    ended: list[BaseException] = []

    async def run() -> None:
        try:
            await commit.group.run()
        except RuntimeError as error:
            ended.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await commit.group.until_idle()
        monkeypatch.setattr(committer, "gathering", failing)
        commit.room.publish(None, "t", b"x")
        committer.router.transit.publish("another.1", message(qos=0))
        committer.wake()
    assert ended == [failure]


async def test_what_comes_alone_leaves_at_once(commit: Commit) -> None:
    """Not in the next turn of the event loop, when the task that stores wakes."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit.group.run)
        await commit.group.until_idle()
        commit.room.publish(None, "t", b"x")
        commit.committer.wake(at_once=True)
        assert not commit.committer.router.incoming
        await commit.group.until_idle()
        tasks.cancel_scope.cancel()
