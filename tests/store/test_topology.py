"""Where the primaries are, by what nodes of a Cluster say that is made of a dictionary."""

from collections.abc import Mapping
from typing import cast

import anyio
import anyio.lowlevel
import pytest

from cluster.store.connection import Connection
from cluster.store.endpoint import Endpoint, parse_url
from cluster.store.errors import SlotMoved, StoreUnavailable
from cluster.store.keys import META_SLOT
from cluster.store.slots import SLOTS, hash_slot
from cluster.store.topology import Topology

pytestmark = pytest.mark.anyio

META = hash_slot("{m}")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Nodes:
    """What each says, by its port; who is not there can't be reached. `asked`: in this order."""

    def __init__(self, said: Mapping[int, list[tuple[int, int]]]) -> None:
        self.said = dict(said)
        self.asked: list[int] = []

    async def connect(self, endpoint: Endpoint) -> Connection:
        self.asked.append(endpoint.port)
        await anyio.lowlevel.checkpoint()
        if endpoint.port not in self.said:
            raise StoreUnavailable(f"{endpoint}: refused")
        return cast(Connection, Node(endpoint.port, self.said[endpoint.port]))


class Node:
    """A connection to one: slots up to a number, and the port of who has them."""

    def __init__(self, port: int, ranges: list[tuple[int, int]]) -> None:
        self.address = f"h:{port}"
        self._ranges = ranges

    async def ask_one(self, *command: str) -> object:
        assert command == ("CLUSTER", "SLOTS")
        first, reply = 0, []
        for last, port in self._ranges:
            reply.append([first, last, [b"h", port, b"id"]])
            first = last + 1
        return reply

    async def aclose(self) -> None:
        pass


def halves(first: int, second: int) -> list[tuple[int, int]]:
    return [(SLOTS // 2 - 1, first), (SLOTS - 1, second)]


def topology_of(nodes: Nodes, url: str = "redis+cluster://h:1,h:2,h:3") -> Topology:
    return Topology(parse_url(url), nodes.connect)


async def test_the_first_that_answers_counts() -> None:
    nodes = Nodes({2: halves(2, 3)})
    topology = topology_of(nodes)
    with pytest.raises(StoreUnavailable, match="no primary serves"):
        topology.primary_of(META_SLOT)
    await topology.refresh(topology.generation)
    assert nodes.asked == [1, 2]
    assert topology.primaries == [("h", 2), ("h", 3)]
    assert topology.primary_of(META_SLOT) == topology.primary_of_key("mq:{m}:ver") == ("h", 3)
    assert topology.homes()["h", 3] == META_SLOT
    assert topology.endpoint_of(("h", 3)) == parse_url("redis://h:3")


async def test_another_one_is_asked_first_each_time() -> None:
    """One that is cut off and does not know it is not believed for ever."""
    nodes = Nodes({1: halves(1, 2), 2: halves(3, 2), 3: halves(3, 2)})
    topology = topology_of(nodes)
    for _ in range(3):
        await topology.refresh(topology.generation)
    assert set(nodes.asked) == {1, 2, 3}
    assert topology.primary_of_hash_slot(0) == ("h", 3)


async def test_who_comes_late_does_not_ask_again() -> None:
    nodes = Nodes({1: halves(1, 2)})
    topology = topology_of(nodes)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(topology.refresh, 0)
    await topology.look()
    assert nodes.asked == [1]


async def test_nobody_answers() -> None:
    nodes = Nodes({})
    topology = topology_of(nodes, "redis+cluster://" + ",".join(f"h:{port}" for port in range(1, 10)))
    with pytest.raises(StoreUnavailable, match="refused"):
        await topology.refresh(topology.generation)
    assert len(nodes.asked) == 4
    with pytest.raises(StoreUnavailable):
        await topology.refresh(topology.generation)
    assert len(set(nodes.asked)) == 5


async def test_one_that_serves_and_knows_nothing_is_passed_over() -> None:
    nodes = Nodes({1: [], 2: halves(2, 3)})
    topology = topology_of(nodes)
    await topology.refresh(topology.generation)
    assert topology.primaries == [("h", 2), ("h", 3)]


async def test_a_moved_slot_is_believed_and_its_new_primary_is_asked() -> None:
    nodes = Nodes({1: halves(1, 2), 9: halves(9, 2)})
    topology = topology_of(nodes)
    await topology.refresh(topology.generation)
    nodes.asked.clear()
    await topology.note_moved(SlotMoved("MOVED 5 h:9"), ("h", 1))
    assert nodes.asked == [9]
    assert topology.primary_of_hash_slot(5) == topology.primary_of_hash_slot(0) == ("h", 9)
    await topology.note_moved(SlotMoved("MOVED 5 :9"), ("h", 1))
    assert nodes.asked == [9], "it was known already"
    with pytest.raises(StoreUnavailable):
        await topology.note_moved(SlotMoved("MOVED"), ("h", 1))
