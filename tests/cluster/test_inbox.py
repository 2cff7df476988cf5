"""Inbox, bells, channels and reassurance on a real Redis."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker
import pytest

from cluster.bells import Bells
from cluster.broadcast import Broadcast
from cluster.inbox import Inbox
from cluster.pulse import Pulse
from cluster.reassurance import Reassurance
from cluster.store import inbox_records, inboxes, keys, membership, subscriptions
from cluster.store.call import Call
from cluster.store.errors import NodeGone
from cluster.store.inbox_records import Bursts, Command, Direct, Handover, Kick, Record
from cluster.store.lane import CallReplies
from cluster.store.store import Store, open_store
from tests.store.caller import Caller
from tests.store.servers import RunningServer

pytestmark = pytest.mark.anyio

NODE = "node-1"


@pytest.fixture
def caller(node_caller: Caller) -> Caller:
    """Another node."""
    return node_caller.other()


class Reader:
    """A node's inbox and bells, and what they told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 0.0
        self.records: list[Record] = []
        self.rung: list[tuple[str, int]] = []
        self.kicked: list[tuple[str, int]] = []
        self.arrived = anyio.Event()
        self.pulse = Pulse(lambda: None, lambda: self.now)
        self.inbox = Inbox(store, NODE, self.pulse, self._take)
        self.bells = Bells(
            store, NODE, lambda *rung: self.rung.append(rung), lambda *k: self.kicked.append(k)
        )
        self.reassure = Reassurance(NODE, self.pulse, self.bells, self.inbox)

    async def until(self, count: int) -> list[Record]:
        """Waits for so many records."""
        with anyio.fail_after(10):
            while len(self.records) < count:
                self.arrived = anyio.Event()
                await self.arrived.wait()
        return self.records

    async def ask(self, calls: Sequence[Call]) -> list[CallReplies]:
        """As the lane does."""
        return (await self.store.lane.exchange(calls)).replies

    def _take(self, records: list[Record]) -> None:
        self.records += records
        self.arrived.set()


@asynccontextmanager
async def reading(server: RunningServer, caller: Caller) -> AsyncIterator[Reader]:
    async with await open_store(server.url, caller.prefix, NODE) as store:
        reader = Reader(store)
        await reader.inbox.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.inbox.run)
            yield reader
            tasks.cancel_scope.cancel()


def send(caller: Caller, *records: bytes) -> None:
    assert caller.call([inboxes.send(NODE, record) for record in records]) == [1] * len(records)


def kick(number: int) -> bytes:
    return inbox_records.pack_kick("c", number)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - Redis tells nobody when it gets there
            await anyio.sleep(0.02)


async def until_trimmed(caller: Caller) -> None:
    await until(lambda: not caller.redis.xlen(keys.inbox(caller.prefix, NODE)))


# Records


async def test_every_kind_of_record_arrives(server: RunningServer, caller: Caller) -> None:
    direct = (("t", b"payload", b"", 0, 1, "p", b""),)
    handover = (("t", b"payload", b"", 0),), (("c", 1, (1, 1, False, (), 0)),)
    async with reading(server, caller) as reader:
        send(
            caller,
            inbox_records.pack_direct(direct),
            inbox_records.pack_bursts(("t", b"", 0, 1, "p", b"", [b"payload"])),
            inbox_records.pack_handover(*handover),
            kick(7),
            inbox_records.pack_command("drain", b'{"moved":true}'),
        )
        assert await reader.until(5) == [
            Direct([[b"t", b"payload", b"", 0, 1, b"p", b""]]),
            Bursts([b"t", b"", 0, 1, b"p", b"", [b"payload"]]),
            Handover([[b"t", b"payload", b"", 0]], [[b"c", 1, [1, 1, False, [], 0]]]),
            Kick("c", 7),
            Command("drain", b'{"moved":true}'),
        ]


async def test_what_nobody_can_read_is_skipped(server: RunningServer, caller: Caller) -> None:
    async with reading(server, caller) as reader:
        newer, unknown = (msgpack.packb(fields) for fields in ([2, 1, []], [1, 99, "x"]))
        endless = msgpack.packb([1, 3, "c", float("inf")])
        send(caller, b"\xc1", b"", newer, unknown, msgpack.packb([1, 3]), endless, kick(1))
        assert await reader.until(1) == [Kick("c", 1)]


async def test_records_come_once_in_order_and_are_trimmed(server: RunningServer, caller: Caller) -> None:
    async with reading(server, caller) as reader:
        for first in range(0, 1000, 250):
            send(caller, *[kick(number) for number in range(first, first + 250)])
        assert await reader.until(1000) == [Kick("c", number) for number in range(1000)]
        await until_trimmed(caller)
        assert caller.redis.get(keys.inbox(caller.prefix, NODE) + ":bytes") == b"0"
        send(caller, kick(1000))
        assert len(await reader.until(1001)) == 1001


@pytest.mark.parametrize(
    ("count", "size_bytes", "most_left"),
    [(64, 10, 20), (16, 50_000, 8)],
    ids=["many", "large"],
)
async def test_it_is_trimmed_while_more_comes(
    server: RunningServer, caller: Caller, count: int, size_bytes: int, most_left: int
) -> None:
    """Not only when nothing has come for a while."""
    async with reading(server, caller) as reader:
        for number in range(count):
            send(caller, inbox_records.pack_command("drain", b"x" * size_bytes))
            await reader.until(number + 1)
        assert caller.redis.xlen(keys.inbox(caller.prefix, NODE)) <= most_left


async def test_it_goes_on_where_it_was_when_redis_is_back(server: RunningServer, caller: Caller) -> None:
    async with reading(server, caller) as reader:
        send(caller, kick(0), kick(1))
        await reader.until(2)
        server.kill()
        server.start()
        send(caller, kick(2), kick(3))
        assert await reader.until(4) == [Kick("c", number) for number in range(4)]


async def test_an_action_waits_for_what_was_there_before_it(server: RunningServer, caller: Caller) -> None:
    async with reading(server, caller) as reader:
        done: list[int] = []
        reader.inbox.after("0-0", lambda: done.append(0))
        assert done == [0]  # nothing to wait for
        reader.inbox.after("99999999999999-0", lambda: done.append(99))
        send(caller, kick(1))
        tail = caller.ask(inboxes.inbox_tail(NODE))
        assert isinstance(tail, bytes)
        is_read = anyio.Event()
        reader.inbox.after(tail.decode(), is_read.set)
        with anyio.fail_after(10):
            await is_read.wait()
        assert reader.records == [Kick("c", 1)]
        assert done == [0]


async def test_nothing_is_handled_while_the_node_is_in_doubt(server: RunningServer, caller: Caller) -> None:
    """It may be for sessions that belong to others by now."""
    async with reading(server, caller) as reader:
        reader.now = 10.0
        reader.pulse.look()
        send(caller, kick(1))
        await anyio.sleep(0.3)
        assert reader.records == []
        reader.pulse.is_alive()
        assert await reader.until(1) == [Kick("c", 1)]


# Bells


async def test_a_bell_is_heard_once(server: RunningServer, caller: Caller) -> None:
    here = caller.other(NODE)
    claim = here.subscribed()
    caller.enqueue(2)
    async with reading(server, caller) as reader:
        for _ in range(3):
            reader.bells.take(await reader.store.call(reader.bells.requests(), function="free"))
        assert (reader.rung, reader.kicked) == ([("c", 2)], [])
        caller.claim()
        for _ in range(2):
            reader.bells.take(await reader.store.call(reader.bells.requests(), function="free"))
        assert reader.kicked == [("c", claim.epoch)]


async def test_an_answer_that_was_lost_is_asked_for_again(server: RunningServer, caller: Caller) -> None:
    caller.other(NODE).subscribed()
    caller.enqueue(1)
    async with reading(server, caller) as reader:
        await reader.store.call(reader.bells.requests(), function="free")  # nobody gets it
        reader.bells.take(await reader.store.call(reader.bells.requests(), function="free"))
        assert reader.rung == [("c", 1)]


# Reassurance


async def test_who_lives_learns_what_it_has_lost_and_was_sent(server: RunningServer, caller: Caller) -> None:
    here = caller.other(NODE)
    here.ask(membership.join(NODE))
    claim = here.claim()
    async with reading(server, caller) as reader:
        reader.now = 10.0
        reader.pulse.look()
        caller.claim()
        send(caller, kick(claim.epoch))
        await reader.reassure(reader.ask)
        assert reader.kicked == [("c", claim.epoch)]
        assert reader.records == [Kick("c", claim.epoch)]


async def test_who_is_dead_to_the_others_learns_it(server: RunningServer, caller: Caller) -> None:
    async with reading(server, caller) as reader:  # never joined, or reaped: no member
        with pytest.raises(NodeGone):
            await reader.reassure(reader.ask)


# Channels


class Listener:
    """Channels of a node, and what they told."""

    def __init__(self, store: Store, incarnation: str) -> None:
        self.messages: list[bytes] = []
        self.interest: list[tuple[str, list[str], list[str]]] = []
        self.listenings = 0
        self.broadcast = Broadcast(
            store,
            incarnation,
            self.messages.append,
            lambda *told: self.interest.append(told),
            self._listening,
        )

    async def _listening(self) -> None:
        self.listenings += 1


@asynccontextmanager
async def listening(server: RunningServer, caller: Caller, incarnation: str) -> AsyncIterator[Listener]:
    async with await open_store(server.url, caller.prefix, incarnation) as store:
        listener = Listener(store, incarnation)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.broadcast.run)
            with anyio.fail_after(10):
                await listener.broadcast.is_listening.wait()
            yield listener
            tasks.cancel_scope.cancel()


async def publish(sender: Listener, node: str, record: bytes, receiver: Listener) -> None:
    """Again and again, until it arrives: it may be lost while connections are made."""
    with anyio.fail_after(10):
        while record not in receiver.messages:
            sender.broadcast.publish(node, record)
            await anyio.sleep(0.02)


async def test_records_go_to_the_node_they_are_for(server: RunningServer, caller: Caller) -> None:
    async with (
        listening(server, caller, NODE) as one,
        listening(server, caller, "node-2") as two,
    ):
        await publish(two, NODE, b"for one", one)
        await publish(one, "node-2", b"for two", two)
        assert set(one.messages) == {b"for one"}
        assert set(two.messages) == {b"for two"}


async def test_interest_is_told_to_all(server: RunningServer, caller: Caller) -> None:
    async with listening(server, caller, NODE) as one:
        caller.ask(subscriptions.interest("node-2", ["0:a", "1:b"], []))
        caller.ask(subscriptions.interest("node-2", ["0:ü"], ["0:a"]))
        await until(lambda: len(one.interest) == 2)
        assert one.interest == [("node-2", ["0:a", "1:b"], []), ("node-2", ["0:ü"], ["0:a"])]


async def test_after_a_break_it_is_read_what_was_missed(server: RunningServer, caller: Caller) -> None:
    async with listening(server, caller, NODE) as one:
        assert one.listenings == 1
        server.kill()
        server.start()
        await until(lambda: one.listenings == 2)
        await publish(one, NODE, b"to myself", one)
        caller.redis.publish(keys.interest_channel(caller.prefix), b"\xc1")  # nonsense harms nobody
        await publish(one, NODE, b"and again", one)
        assert one.listenings == 2


async def test_what_can_not_leave_is_counted(server: RunningServer, caller: Caller) -> None:
    async with await open_store(server.url, caller.prefix, NODE) as store:
        listener = Listener(store, NODE)
        listener.broadcast.publish("node-2", b"nobody is connected yet")
        assert listener.broadcast.lost == 1
