"""The store on a real Redis Cluster of three primaries: batches over all of them, slots that move, a primary
that is full, has lost its functions, or its connections."""

import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, cast

import anyio
import anyio.lowlevel
import pytest

from cluster.store import (
    bans,
    deadlines,
    entry,
    inboxes,
    keys,
    letters,
    membership,
    queues,
    sessions,
    subscriptions,
)
from cluster.store.call import Call, Request
from cluster.store.confirm import Need
from cluster.store.errors import (
    ItemError,
    NodeGone,
    RedisFull,
    SlotMoved,
    SlotMoving,
    StoreUnavailable,
    UnsupportedRedis,
)
from cluster.store.keys import BUCKETS
from cluster.store.lane import Ask, Exchange, PartlyRefused
from cluster.store.outage import StoreStatus
from cluster.store.slots import hash_slot
from cluster.store.store import Store, open_store
from cluster.store.witness import Witness
from tests.redis.slots import SlotMove, keys_in
from tests.redis.topology import Topology, cluster, standalone

pytestmark = pytest.mark.anyio

NODE = "node-1.abc"
Stream = list[tuple[bytes, dict[bytes, bytes]]]
KINDS: Sequence[Literal["redis", "valkey"]] = ("redis", "valkey")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=KINDS)
def topology(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    with cluster(Path(tmp_path_factory.mktemp("cluster")), 3, 0, software=request.param) as running:
        yield running


class Opened:
    """A node's store, and what it was told of Redis."""

    def __init__(self, store: Store, statuses: list[StoreStatus]) -> None:
        self.store = store
        self.lane = store.lane
        self.prefix = store.prefix
        self.statuses = statuses

    async def exchange(self, *requests: Request, function: str = "free") -> list[object]:
        """One call by the lane; all of it has to work."""
        exchange = await self.lane.exchange([Call(function, list(requests))])
        return replies_of(exchange)


@asynccontextmanager
async def opened(topology: Topology, incarnation: str = NODE, prefix: str = "") -> AsyncIterator[Opened]:
    statuses: list[StoreStatus] = []
    prefix = prefix or f"{secrets.token_hex(4)}:"
    async with await open_store(
        topology.url, prefix, incarnation, on_status=statuses.append, exchange_timeout_seconds=2.0
    ) as store:
        yield Opened(store, statuses)


def replies_of(exchange: Exchange, number: int = 0) -> list[object]:
    replies = exchange.replies[number]
    assert isinstance(replies, list)
    assert not isinstance(replies, PartlyRefused)
    assert not any(isinstance(reply, ItemError) for reply in replies), replies
    return replies


def claim(client_id: str, nonce: bytes = b"nonce") -> list[object]:
    return sessions.claim(
        client_id,
        nonce=nonce,
        clean_start=False,
        expiry_seconds=100,
        protocol=5,
        window=10,
        will=None,
        will_delay_seconds=0,
    )


def client_in(bucket: int) -> str:
    return next(name for number in range(10_000) if keys.bucket_of(name := f"c{number}") == bucket)


def bells() -> list[Request]:
    return [inboxes.take_bell(bucket, NODE, False) for bucket in range(BUCKETS)]


async def test_a_batch_over_all_primaries_is_answered_as_by_one(topology: Topology) -> None:
    async with opened(topology) as node:
        await node.exchange(membership.join(NODE), inboxes.open_inbox(NODE))
        clients = [client_in(bucket) for bucket in range(BUCKETS)]
        calls = [
            Call("write", [claim(client_id) for client_id in clients]),
            Call("free", [*bells(), inboxes.inbox_tail(NODE)]),
        ]
        exchange = await node.lane.exchange(calls, read_version=True)
        assert [sessions.parse_claim(reply).present for reply in replies_of(exchange)] == [False] * BUCKETS
        assert replies_of(exchange, 1) == [[]] * BUCKETS + [b"0-0"]
        assert exchange.version == "1.0"
        assert all(
            keys_in(topology.primary(shard), hash_slot(_slot_key(topology, shard))) for shard in range(3)
        )
        assert node.statuses == []


def _slot_key(topology: Topology, shard: int) -> str:
    """Of a bucket that this shard has."""
    first, end = shard * 16384 // 3, (shard + 1) * 16384 // 3
    return next(f"{{{b}}}" for b in range(BUCKETS) if first <= hash_slot(f"{{{b}}}") < end)


async def test_side_calls_and_plain_commands_find_their_primaries(topology: Topology) -> None:
    async with opened(topology) as node:
        store = node.store
        await store.call([membership.join(NODE), inboxes.open_inbox(NODE)], function="free")
        assert await store.call(bells(), function="free") == [[]] * BUCKETS
        clients = [client_in(bucket) for bucket in (1, 2, 3, 40)]
        await store.call([claim(client_id) for client_id in clients])
        connection = await store.connect(NODE)
        assert await store.queue_lengths(connection, clients) == [0] * 4
        reply = await connection.ask_one("XREAD", "STREAMS", keys.inbox(node.prefix, NODE), "0-0")
        assert reply is None
        await connection.aclose()
        assert await store.subscriptions_of(clients[3]) == []
        pages: list[list[bytes]] = []
        assert (await store.load_subscriptions(pages.append), any(pages)) == ("1.0", False)
        await store.ping()
        await store.put_alarms({"node/alarm": b"{}"}, 60)
        assert await store.alarms() == {b"node/alarm": b"{}"}
        figures, info = await store.server_figures(), await store.info()
        assert 0 < figures["used_memory"] < int(info["used_memory"])


async def test_messages_on_channels_reach_everybody(topology: Topology) -> None:
    got: list[tuple[bytes, bytes]] = []
    has_come = anyio.Event()

    def take(channel: bytes, payload: bytes) -> None:
        got.append((channel, payload))
        has_come.set()

    async with opened(topology) as node:
        listening = await node.store.connect_to_channels([f"{node.prefix}news"], take)
        sending = await node.store.connect_to_channels([], take)
        assert sending.publish(f"{node.prefix}news", b"x")
        with anyio.fail_after(5):
            await has_come.wait()
        assert got == [(f"{node.prefix}news".encode(), b"x")]
        for connection in (listening, sending):
            await connection.aclose()


async def test_a_slot_that_has_moved_is_followed(topology: Topology) -> None:
    async with opened(topology) as node:
        client_id = client_in(5)
        (first,) = await node.exchange(claim(client_id), function="write")
        SlotMove(topology, keys.slot(node.prefix, 5)).all_at_once()
        (again, other) = await node.exchange(claim(client_id), claim(client_in(6)), function="write")
        assert again == first
        assert sessions.parse_claim(other).epoch > 0
        assert node.statuses == []
        SlotMove(topology, keys.slot(node.prefix, 5)).all_at_once()
        assert (await node.store.call([claim(client_id)])) == [first]
        assert await node.store.subscriptions_of(client_id) == []


async def test_a_call_to_a_slot_on_its_way_changes_nothing_and_waits(topology: Topology) -> None:
    """At each step of the way: nothing, some, or all keys have been carried over."""
    async with opened(topology) as node:
        client_id = client_in(7)
        (first,) = await node.exchange(claim(client_id), function="write")
        revised: list[int] = []
        letter = letters.letter(client_id, "topic", "reason")
        calls = [Call("free", [letter, queues.ack(8, client_in(8), [1, 1])])]

        async def revise(ask: Ask) -> Sequence[Call]:
            revised.append(len(await ask([Call("free", [membership.members()])])))
            return calls

        async def store_letter() -> None:
            assert replies_of(await node.lane.exchange(calls, False, revise)) == [1, 0]

        moving = SlotMove(topology, keys.slot(node.prefix, 7))
        before = keys_in(moving.source, moving.slot)
        assert len(before) >= 4
        moving.begin()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store_letter)
                await anyio.sleep(0.1)
                with pytest.raises(StoreUnavailable):
                    await node.store.call([claim(client_id, b"other")])
                assert keys_in(moving.source, moving.slot) == before
                assert keys_in(moving.target, moving.slot) == []
                assert await anyio.to_thread.run_sync(moving.carry) == len(before)
                await anyio.sleep(0.1)
                assert keys_in(moving.target, moving.slot) == before, "nobody has followed ASK"
                moving.end()
        assert keys_in(moving.target, moving.slot) == sorted([*before, keys.letters(node.prefix, 7)])
        assert revised
        assert replies_of(await node.lane.exchange([Call("write", [claim(client_id)])]))[0] == first


async def test_another_primary_of_a_slot_is_another_identity(topology: Topology) -> None:
    async with opened(topology) as node:
        await node.exchange(*bells())
        identity = node.lane.identity
        node.lane.drop("test")
        await node.exchange(*bells())
        assert node.lane.identity is identity
        SlotMove(topology, keys.slot(node.prefix, 5)).all_at_once()
        await node.exchange(*bells())
        assert node.lane.identity is not identity


async def test_a_slot_that_is_not_there_any_more_is_confirmed_by_nobody(topology: Topology) -> None:
    """Its replicas may not have what came with it, and those from where it went don't keep it."""
    moving = SlotMove(topology, keys.slot("", 5))
    async with opened(topology) as node:
        seats = node.store.seats()
        (seat,) = [each for each in seats if each.name.endswith(f":{moving.source.port}")]
        assert (len(seats), sum(len(each.slots) for each in seats)) == (3, BUCKETS + 1)
        key = keys.fence(node.prefix, seat.slots[0], "node-1", "none")
        witness = Witness(seat, key, Need(0, False), 100, lambda: None)
        assert await witness.ask([]) == ""
        moving.begin()
        with pytest.raises(SlotMoving):
            await witness.ask([])
        moving.carry()
        moving.end()
        with pytest.raises(SlotMoved) as trouble:
            await witness.ask([])
        await node.store.look_again(trouble.value)
        others = [each.name for each in node.store.seats() if 5 in each.slots]
        assert others == [f"127.0.0.1:{moving.target.port}"]
        witness.drop("end")


async def test_a_primary_that_has_lost_its_functions_gets_them_again(topology: Topology) -> None:
    async with opened(topology) as node:
        await node.exchange(*bells())
        for shard in range(3):
            with topology.client(shard) as client:
                client.execute_command("FUNCTION", "FLUSH")
        assert await node.exchange(*bells()) == [[]] * BUCKETS
        with topology.client(1) as client:
            client.execute_command("FUNCTION", "FLUSH")
        assert await node.store.call(bells(), function="free") == [[]] * BUCKETS
        assert node.statuses == []


async def test_a_full_primary_refuses_its_part_and_no_other(topology: Topology) -> None:
    async with opened(topology) as node:
        here, there = client_in(0), client_in(1)
        buckets = {0: hash_slot("{0}"), 1: hash_slot("{1}")}
        assert len({slot * 3 // 16384 for slot in buckets.values()}) == 2, "on two primaries"
        with topology.client(buckets[0] * 3 // 16384) as client:
            client.config_set("maxmemory", 1)
            try:
                (replies, alone) = (
                    await node.lane.exchange(
                        [Call("write", [claim(here), claim(there)]), Call("write", [claim(here)])]
                    )
                ).replies
                with pytest.raises(RedisFull):
                    await node.store.call([claim(there), claim(here)])
            finally:
                client.config_set("maxmemory", 0)
        assert isinstance(replies, PartlyRefused)
        assert isinstance(replies[0], RedisFull)
        assert sessions.parse_claim(replies[1]).epoch > 0
        assert isinstance(alone, RedisFull)


async def test_a_tombstone_in_any_bucket_ends_the_incarnation(topology: Topology) -> None:
    async with opened(topology) as node:
        await node.exchange(*bells())
        async with opened(topology, "node-2.abc", node.prefix) as other:
            await other.store.call([membership.bury(9, NODE)], function="free")
        with pytest.raises(NodeGone):
            await node.exchange(*bells())
        with pytest.raises(NodeGone):
            await node.store.call(bells(), function="free")


@pytest.mark.parametrize("qos", [1, 2])
async def test_between_a_fence_and_what_it_guards_a_token_decides(topology: Topology, qos: int) -> None:
    """A publisher goes on by another node while its message is on its way to a primary that is slow. It
    sends the message again: at QoS 2 that comes once, at QoS 1 twice, and the next one of the first node
    is held back."""
    publisher, subscriber = client_in(0), client_in(1)
    here, there = (hash_slot(f"{{{bucket}}}") * 3 // 16384 for bucket in (0, 1))
    assert here != there
    tokens = [b"old" if qos == 2 else False, b"new" if qos == 2 else False]

    def routed(epoch: int, *numbers: int) -> Call:
        head = entry.pack_head(qos, False, ())
        entries: list[object] = []
        for number in numbers:
            entries += ["f", head, number, tokens[number], 60_000]
        requests: list[Request] = [
            queues.fence([0, publisher, epoch]),
            queues.enqueue(1, subscriber, 1000, False, entries),
        ]
        return Call("write", requests, [b"old", b"new"])

    async with opened(topology) as node, opened(topology, "node-2.abc", node.prefix) as other:
        claimed = await node.exchange(claim(publisher), claim(subscriber), function="write")
        epochs = [sessions.parse_claim(reply).epoch for reply in claimed]
        await node.exchange(
            subscriptions.subscribe(subscriber, epochs[1], [("f", b"o", 0)]), function="write"
        )
        await other.exchange(*bells())
        answers: dict[str, list[object]] = {}

        async def route(name: str, by: Opened, epoch: int, *numbers: int) -> None:
            exchange = await by.lane.exchange([routed(epoch, *numbers)])
            answers[name] = replies_of(exchange)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                slow = topology.primary(there)
                slow.freeze()
                try:
                    before = _calls(topology, here)
                    tasks.start_soon(route, "first", node, epochs[0], 0)
                    while _calls(topology, here) == before:  # until the fence has been asked
                        await anyio.lowlevel.checkpoint()
                    (reply,) = await other.exchange(claim(publisher, b"other"), function="write")
                    tasks.start_soon(route, "second", other, sessions.parse_claim(reply).epoch, 0, 1)
                    await anyio.sleep(0.05)
                finally:
                    slow.thaw()
        assert answers["first"][0] == answers["second"][0] == []
        await route("late", node, epochs[0], 1)
        assert answers["late"] == [[0], False]
        with slow.client(decodes=False) as client:
            found = cast(Stream, client.xrange(keys.queue(node.prefix, 1, subscriber)))
        payloads = [fields[b"p"][-3:] for _, fields in found]
        assert payloads.count(b"new") == 1
        assert payloads.count(b"old") == (1 if qos == 2 else 2)


def _calls(topology: Topology, shard: int) -> int:
    """How many functions a primary has carried out."""
    with topology.client(shard) as client:
        statistics = cast(dict[str, dict[str, int]], client.info("commandstats"))
    return statistics["cmdstat_fcall"]["calls"]


async def test_a_lost_connection_has_the_batch_revised(topology: Topology) -> None:
    async with opened(topology) as node:
        await node.exchange(*bells())
        with topology.client(2) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        asked: list[int] = []

        async def revise(ask: Ask) -> Sequence[Call]:
            (replies,) = await ask([Call("free", bells())])
            assert isinstance(replies, list)
            asked.append(len(replies))
            return [Call("free", [deadlines.due(3, 1, 1000)])]

        await anyio.sleep(0.05)  # until that is known here
        calls = [Call("free", [deadlines.due(4, 1, 1000)])]
        (due,) = replies_of(await node.lane.exchange(calls, False, revise))
        assert deadlines.parse_due(due).wills == []
        assert asked == [BUCKETS]
        assert len((await node.lane.exchange(calls, False, revise)).replies) == 1
        assert asked == [BUCKETS]
        assert await node.store.call([bans.sweep(1)], function="free")


async def test_a_single_server_is_no_cluster_and_a_member_no_single_server(
    topology: Topology, tmp_path: Path
) -> None:
    member = f"redis://127.0.0.1:{topology.servers[0].port}"
    with pytest.raises(
        UnsupportedRedis, match=r"part of a Redis Cluster: its URL begins with redis\+cluster"
    ):
        await open_store(member, "t:", NODE)
    with standalone(tmp_path) as single:
        url = single.url.replace("redis://", "redis+cluster://")
        with pytest.raises(UnsupportedRedis, match="a single server, no part of a Redis Cluster"):
            await open_store(url, "t:", NODE)
