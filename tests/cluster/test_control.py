"""The cluster as seen and steered from Redis: nodes that are only rows there, with inboxes nobody reads."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import commands
from cluster.commands import Drain, Order, Shed
from cluster.control import (
    AmbiguousNode,
    Control,
    InboxFull,
    NodeNotThere,
    UnknownNode,
    surplus,
)
from cluster.node_info import NodeInfo
from cluster.store import inbox_records, inboxes, keys, membership
from cluster.store.inbox_records import Command
from cluster.store.store import open_store
from tests.store.caller import Caller
from tests.store.servers import RunningServer


@pytest.fixture
def caller(node_caller: Caller) -> Caller:
    """A node."""
    return node_caller


@asynccontextmanager
async def controlling(
    server: RunningServer, caller: Caller, incarnation: str = "parent"
) -> AsyncIterator[tuple[Control, list[Command]]]:
    """A control, and the commands that were for its own node."""
    own: list[Command] = []
    async with await open_store(server.url, caller.prefix, incarnation) as store:
        yield Control(store, incarnation, own.append), own


def live(caller: Caller, incarnation: str, sessions: int = 0, *, draining: bool = False) -> Caller:
    """A node joins and says how it is."""
    node = caller.other(incarnation)
    node.ask(membership.join(incarnation))
    node.ask(inboxes.open_inbox(incarnation))
    say(node, sessions, draining=draining)
    return node


def say(node: Caller, sessions: int, *, draining: bool = False) -> None:
    info = NodeInfo(node.incarnation, "1", connections=sessions, sessions=sessions, draining=draining)
    node.ask(membership.beat(node.incarnation, info.pack()), function="free")


def let_die(caller: Caller, incarnation: str) -> None:
    """It is seen no more."""
    caller.redis.zadd(keys.nodes(caller.prefix), {incarnation: -membership.DEAD_TICKS})


def orders(caller: Caller, incarnation: str) -> list[Order]:
    """What a node finds in its inbox."""
    found: list[Order] = []
    carry_out = commands.handler(found.append, found.append, found.append)
    for _, fields in caller.stream(keys.inbox(caller.prefix, incarnation)):
        record = inbox_records.unpack(fields[b"p"])
        assert isinstance(record, Command)
        carry_out(record)
    return found


# Who there is


@pytest.mark.anyio
async def test_all_nodes_are_listed_by_name(server: RunningServer, caller: Caller) -> None:
    live(caller, "b.2", 7)
    live(caller, "a.1", 5, draining=True)
    caller.ask(membership.join("c.3"))
    let_die(caller, "b.2")
    async with controlling(server, caller) as (control, _):
        a, b, c = await control.nodes()
    assert [node.name for node in (a, b, c)] == ["a", "b", "c"]
    assert [node.is_alive for node in (a, b, c)] == [True, False, True]
    assert [node.takes_clients for node in (a, b, c)] == [False, False, False]
    assert a.info == NodeInfo("a.1", "1", connections=5, sessions=5, draining=True)
    assert c.info is None


# Drain


@pytest.mark.anyio
@pytest.mark.parametrize("wanted", ["a", "a.1"])
async def test_drain_goes_to_the_node_and_no_other(
    server: RunningServer, caller: Caller, wanted: str
) -> None:
    live(caller, "a.1")
    live(caller, "b.2")
    async with controlling(server, caller) as (control, own):
        assert await control.drain(wanted) == "a.1"
        assert await control.drain(wanted, moved=True) == "a.1"
    assert orders(caller, "a.1") == [Drain(), Drain(moved=True)]
    assert orders(caller, "b.2") == []
    assert own == []


@pytest.mark.anyio
async def test_names_that_lead_nowhere(server: RunningServer, caller: Caller) -> None:
    for incarnation in ("a.1", "twin.1", "twin.2", "dead.1"):
        live(caller, incarnation)
    let_die(caller, "dead.1")
    async with controlling(server, caller) as (control, _):
        with pytest.raises(UnknownNode, match=r"no node b; there are: a, dead, twin$"):
            await control.drain("b")
        with pytest.raises(AmbiguousNode, match=r"say which: twin\.1, twin\.2$"):
            await control.drain("twin")
        with pytest.raises(NodeNotThere, match=r"dead\.1 is dead"):
            await control.drain("dead")
        assert await control.drain("twin.2") == "twin.2"
        let_die(caller, "twin.1")
        assert await control.drain("twin") == "twin.2"  # the other one was killed, and this is its successor
    assert orders(caller, "twin.1") == orders(caller, "dead.1") == []


@pytest.mark.anyio
async def test_a_node_that_is_about_to_leave(server: RunningServer, caller: Caller) -> None:
    live(caller, "a.1")
    caller.ask(inboxes.close_inbox("a.1"))
    async with controlling(server, caller) as (control, _):
        with pytest.raises(NodeNotThere, match="about to leave"):
            await control.drain("a")


@pytest.mark.anyio
async def test_a_node_that_does_not_read(server: RunningServer, caller: Caller) -> None:
    live(caller, "a.1")
    caller.redis.set(keys.inbox(caller.prefix, "a.1") + ":bytes", 64 << 20)
    async with controlling(server, caller) as (control, _):
        with pytest.raises(InboxFull, match=r"a\.1 does not read"):
            await control.drain("a")


@pytest.mark.anyio
async def test_the_own_node_needs_no_inbox(server: RunningServer, caller: Caller) -> None:
    """By its incarnation it does not even need Redis."""
    live(caller, "a.1", 4)
    live(caller, "b.2")
    async with controlling(server, caller, "a.1") as (control, own):
        await control.drain("a")
        await control.rebalance()
        let_die(caller, "a.1")  # as far as Redis knows
        await control.drain("a.1", moved=True)
    assert own == [commands.pack(order) for order in (Drain(), Shed(2), Drain(True))]
    assert orders(caller, "a.1") == []


@pytest.mark.anyio
async def test_commands_are_given_when_redis_is_full(server: RunningServer, caller: Caller) -> None:
    live(caller, "a.1", 4)
    live(caller, "b.2")
    async with controlling(server, caller) as (control, _):
        caller.redis.config_set("maxmemory", 1)
        try:
            assert len(await control.nodes()) == 2
            await control.drain("a")
            await control.rebalance()
        finally:
            caller.redis.config_set("maxmemory", 0)
    assert orders(caller, "a.1") == [Drain(), Shed(2)]


# Rebalance


def test_surplus_is_what_is_beyond_the_mean() -> None:
    assert surplus({"a": 100, "b": 20, "c": 0}, 0.1) == {"a": 60}
    assert surplus({"a": 110, "b": 100, "c": 90}, 0.1) == {}
    assert surplus({"a": 111, "b": 99, "c": 90}, 0.1) == {"a": 11}
    assert surplus({"a": 3, "b": 0}, 0.0) == {"a": 1}
    assert surplus({"a": 2, "b": 1}, 0.0) == {}
    assert surplus({"a": 9}, 0.0) == {}
    assert surplus({}, 0.0) == {}


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 10_000), min_size=1, max_size=20),
    st.floats(0, 2),
)
def test_nobody_falls_below_the_mean_and_all_come_within_the_tolerance(
    clients: dict[str, int], tolerance: float
) -> None:
    mean = sum(clients.values()) / len(clients)
    shed = surplus(clients, tolerance)
    for node, count in clients.items():
        left = count - shed.get(node, 0)
        if node in shed:
            assert shed[node] > 0
            assert count > mean * (1 + tolerance)
            assert mean <= left < mean + 1
        else:
            assert count <= max(mean * (1 + tolerance), mean + 1)


@pytest.mark.anyio
async def test_rebalance_tells_overloaded_nodes_what_to_keep(server: RunningServer, caller: Caller) -> None:
    live(caller, "a.1", 100)
    live(caller, "b.2", 20)
    live(caller, "c.3", 0)
    live(caller, "leaving.4", 500, draining=True)
    live(caller, "dead.5", 500)
    let_die(caller, "dead.5")
    caller.ask(membership.join("new.6"))
    async with controlling(server, caller) as (control, _):
        plan = await control.plan(0.1)
        assert orders(caller, "a.1") == []
        assert await control.rebalance(0.1, clients_per_second=7.0) == plan
        await control.rebalance(2.0)
    assert plan.mean == 40
    assert [(share.node.name, share.clients, share.shed, share.problem) for share in plan.shares] == [
        ("a", 100, 60, ""),
        ("b", 20, 0, ""),
        ("c", 0, 0, ""),
    ]
    assert orders(caller, "a.1") == [Shed(40, 7.0)]
    for other in ("b.2", "c.3", "leaving.4", "dead.5"):
        assert orders(caller, other) == []


@pytest.mark.anyio
async def test_who_can_not_be_told_keeps_no_other_from_it(server: RunningServer, caller: Caller) -> None:
    live(caller, "a.1", 100)
    live(caller, "b.2", 100)
    live(caller, "c.3", 0)
    caller.ask(inboxes.close_inbox("a.1"))
    async with controlling(server, caller) as (control, _):
        plan = await control.rebalance()
    assert "about to leave" in plan.shares[0].problem
    assert plan.shares[1].problem == ""
    assert orders(caller, "b.2") == [Shed(67)]


@pytest.mark.anyio
async def test_a_cluster_without_nodes(server: RunningServer, caller: Caller) -> None:
    async with controlling(server, caller) as (control, _):
        plan = await control.rebalance()
        with pytest.raises(UnknownNode, match="there are: none"):
            await control.drain("a")
    assert (plan.mean, plan.shares) == (0.0, [])
