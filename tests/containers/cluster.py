"""Brokers in containers on one Redis, behind HAProxy on the host; and what is done to them.

A node has one of the places that HAProxy knows, each with an address of its own. HAProxy asks /readyz of all
of them, as in docs/haproxy.cfg: so it finds a new node by itself, and gives a draining one no more clients.
The place that has been free for longest is used next.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tests.cluster.driver import Place
from tests.cluster.haproxy import HaproxyProcess, Server
from tests.cluster.record import FaultBegan, FaultEnded, Record
from tests.cluster.waiting import in_thread
from tests.containers.podman import HARDENED, Container, Network, network, start_redis
from tests.ports import free_port

PLACES: Final = 9
MQTT_PORT: Final = 1883
ADMIN_PORT: Final = 8080
DRAIN_PAUSE_SECONDS: Final = 3
"""By then HAProxy has noticed that a node isn't ready: nobody who is told to go is sent back to it."""
GRACE_SECONDS: Final = DRAIN_PAUSE_SECONDS + 20
"""A node that has been told to stop is killed after so long: its shutdown timeout (10 s) and 10 s more."""


class Node(Container):
    """A broker in a container, at one of the places."""

    def __init__(self, network: Network, place: int, redis_address: str, serial: int) -> None:
        self.place = place
        self.server = f"node-{place}"
        environment = {
            "MOORLINE_NODE__NAME": f"{self.server}.{serial}",
            "MOORLINE_NODE__ALLOW_ANONYMOUS": "true",
            "MOORLINE_CLUSTER__DRAIN_PAUSE_SECONDS": str(DRAIN_PAUSE_SECONDS),
            "MOORLINE_REDIS__URL": f"redis://{redis_address}:6379",
        }
        settings = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        flags = ("--network", network.name, "--ip", network.address(place), *HARDENED, *settings)
        super().__init__(f"{network.name}-{self.server}-{serial}", flags)


class _Proxy:
    """Where all clients connect."""

    name = "haproxy"

    def __init__(self, port: int) -> None:
        self.port = port


class ContainerCluster:
    """Made by `running_cluster`. `record` is told of what is done."""

    def __init__(self, network: Network, redis: Container, proxy: HaproxyProcess, record: Record) -> None:
        self.nodes: list[Node] = []
        self.record = record
        self._network = network
        self._redis = redis
        self._proxy = proxy
        self._entrance = _Proxy(proxy.port)
        self._free = list(range(1, PLACES + 1))
        self._serial = 0
        self._started: list[Node] = []

    def choose(self, chance: random.Random, avoid: str = "") -> Place | None:
        """For the drivers: HAProxy."""
        return self._entrance

    @contextlib.contextmanager
    def phase(self, kind: str) -> Iterator[None]:
        """Whatever is done in it belongs to this."""
        self.record.add(FaultBegan(self.record.clock(), "", kind, ""))
        yield
        self.record.add(FaultEnded(self.record.clock(), "", kind, ""))

    # What a Deployment does

    async def start(self, count: int) -> list[Node]:
        """So many nodes more; HAProxy uses them when this returns."""
        nodes = [await in_thread(self._run) for _ in range(count)]
        await in_thread(partial(self._proxy.wait_for_states, {node.server: "UP" for node in nodes}))
        return nodes

    async def stop(self, *nodes: Node) -> None:
        """These are told to stop, and drain. Raises AssertionError if one ends otherwise than in order."""
        codes = await asyncio.gather(*[in_thread(partial(node.stop, GRACE_SECONDS)) for node in nodes])
        assert not any(codes), f"exit codes {codes}: {[node.logs()[-2000:] for node in nodes]}"
        self._forget(nodes)

    async def scale(self, count: int) -> None:
        """To so many nodes. Those with the most clients go: for the clients that is the worst case."""
        if count > len(self.nodes):
            await self.start(count - len(self.nodes))
        else:
            await self.stop(*self.fullest()[: len(self.nodes) - count])

    async def roll(self) -> None:
        """Each node is replaced, a new one first (maxSurge 1, maxUnavailable 0).

        The next one is started while the old one drains, which doesn't count any more.
        """
        async with asyncio.TaskGroup() as group:
            for old in list(self.nodes):
                await self.start(1)
                group.create_task(self.stop(old))

    # Faults

    async def kill(self, node: Node) -> None:
        """kill -9, and another one in its place."""
        await in_thread(node.kill)
        self._forget([node])
        await self.start(1)

    async def pause(self, node: Node, seconds: float) -> None:
        """It stands still for so long."""
        await in_thread(node.pause)
        await asyncio.sleep(seconds)
        await in_thread(node.unpause)
        await self._until_used(node)

    async def partition(self, node: Node, seconds: float) -> None:
        """It can't reach Redis for so long, nor Redis it; clients can."""
        await in_thread(partial(node.cut_off, self._network.address(0)))
        await asyncio.sleep(seconds)
        await in_thread(node.join_again)
        await self._until_used(node)

    async def close(self) -> None:
        """Removes all of them."""
        for node in self._started:
            await in_thread(node.remove)

    async def _until_used(self, node: Node) -> None:
        await in_thread(partial(self._proxy.wait_for_states, {node.server: "UP"}))

    def _run(self) -> Node:
        self._serial += 1
        node = Node(self._network, self._free.pop(0), self._network.address(0), self._serial)
        self._started.append(node)
        self.nodes.append(node)
        return node

    def _forget(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self.nodes.remove(node)
            self._free.append(node.place)

    def fullest(self) -> list[Node]:
        """All nodes, that with the most clients first."""
        clients = {row["svname"]: int(row["scur"]) for row in self._proxy.statistics()}
        return sorted(self.nodes, key=lambda node: -clients[node.server])


@contextlib.asynccontextmanager
async def running_cluster(haproxy: str, directory: Path, nodes: int) -> AsyncIterator[ContainerCluster]:
    """All of it, ended afterwards. `haproxy`: where the program is."""
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(network())
        redis = start_redis(net)
        stack.callback(redis.remove)
        servers = [
            Server(f"node-{place}", net.address(place), MQTT_PORT, ADMIN_PORT)
            for place in range(1, PLACES + 1)
        ]
        proxy = HaproxyProcess(haproxy, directory, servers, "haproxy-1", {"haproxy-1": free_port()})
        stack.callback(proxy.close)
        proxy.start(away=[server.name for server in servers])
        cluster = ContainerCluster(net, redis, proxy, Record())
        try:
            await cluster.start(nodes)
            yield cluster
        finally:
            await cluster.close()
