"""A cluster under test: nodes as processes on one Redis, each behind a proxy of its own.

Everything here is done from the loop of the test; what waits for a process is done in a thread meanwhile, as
the proxies must go on.
"""

import asyncio
import random
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final, cast

from cluster.store import keys
from tests.cluster.driver import Place
from tests.cluster.proxy import Proxy
from tests.cluster.record import FaultBegan, FaultEnded, Record
from tests.cluster.waiting import in_thread
from tests.node.harness import PROGRAM, NodeProcess
from tests.node.redis_server import RedisServer
from tests.ports import free_port

REDIS: Final = ""
"""In the place of a node's name: the fault is one of Redis."""
PREFIX: Final = "mq:"
CLIENTS: Final = "clients"
"""Likewise: the fault is one of the clients' own, all nodes work."""
START_SECONDS: Final = 40.0
"""Several start at once, while traffic goes on."""
QUICK: Final = {
    "MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "5",
    "MOORLINE_REDIS__EXCHANGE_TIMEOUT_SECONDS": "2",
}


DAMPING_OFF: Final = {"MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0"}
"""Clients may take their sessions over as often as they want."""


class State(Enum):
    """What the test has done to a node."""

    UP = "up"
    DOWN = "down"
    FROZEN = "frozen"
    LEAVING = "leaving"


class ClusterNode:
    """One node: its process, its proxy, its state."""

    def __init__(
        self,
        name: str,
        directory: Path,
        redis_port: int,
        environment: dict[str, str],
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.name = name
        self.state = State.DOWN
        self.proxy = Proxy(redis_port)
        self.process: NodeProcess
        self._directory = directory / name
        self._environment = QUICK | environment
        self._program = program
        self._directory.mkdir()

    def __repr__(self) -> str:
        return f"<node {self.name}: {self.state.value}>"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.process.port

    async def open(self) -> None:
        """Starts the proxy, then the node."""
        await self.proxy.start()
        self.process = NodeProcess(
            self._directory,
            *("--redis", self.proxy.url, "--node-name", self.name),
            environment=self._environment,
            program=self._program,
        )
        self.process.port = free_port()
        await self.start()

    async def start(self) -> None:
        """It was down."""
        await in_thread(partial(self.process.start, START_SECONDS))
        self.state = State.UP

    async def kill(self) -> None:
        """kill -9."""
        self.state = State.DOWN
        self.process.send_signal(signal.SIGKILL)
        await in_thread(self.process.wait)

    def strike_dead(self) -> None:
        """kill -9, and nobody waits for its end: see `restart_after_strike`."""
        self.state = State.DOWN
        self.process.send_signal(signal.SIGKILL)

    async def restart_after_strike(self) -> None:
        """Waits for the end, and starts it again."""
        await in_thread(self.process.wait)
        await self.start()

    def terminate(self) -> None:
        """SIGTERM, and nobody waits for its end."""
        self.state = State.LEAVING
        self.process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.state = State.FROZEN
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)
        self.state = State.UP

    async def stop(self) -> int:
        """SIGTERM; the exit code. A node that does not end is killed, which gives another one than 0."""
        self.terminate()
        try:
            code = await in_thread(self.process.wait)
        except subprocess.TimeoutExpired:
            self.strike_dead()
            code = await in_thread(self.process.wait)
        self.state = State.DOWN
        return code

    async def close(self) -> None:
        """Ends it, however it is."""
        if hasattr(self, "process"):
            if self.state is State.FROZEN:
                await self.kill()
            await in_thread(self.process.close)
        await self.proxy.close()


class Site(ABC):
    """Where scenes of traffic take place: their records are told of faults."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    @abstractmethod
    def choose(self, chance: random.Random, avoid: str = "") -> Place | None:
        """See `Places`."""

    def began(self, kind: str, node: str = REDIS) -> None:
        """A fault."""
        for record in self.records:
            record.add(FaultBegan(record.clock(), "", kind, node))

    def ended(self, kind: str, node: str = REDIS) -> None:
        """The end of it."""
        for record in self.records:
            record.add(FaultEnded(record.clock(), "", kind, node))


class Cluster(Site):
    """The nodes and their Redis."""

    def __init__(
        self,
        directory: Path,
        count: int,
        *,
        together: bool = False,
        environment: dict[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        super().__init__()
        self.redis = RedisServer(directory / "redis")
        self.redis.port = free_port()
        self.together = together  # all clients are on one node, and move together
        self.nodes: list[ClusterNode] = []
        self._directory = directory
        self._count = count
        self._environment = environment or {}
        self._program = program
        self._gathering = ""

    def choose(self, chance: random.Random, avoid: str = "") -> Place | None:
        """See `Places`."""
        living = self.living()
        if not living:
            return None
        if self.together:
            return self._gathering_place(living)
        others = [node for node in living if node.name != avoid]
        return chance.choice(others or living)

    def living(self) -> list[ClusterNode]:
        """Those that are meant to work."""
        return [node for node in self.nodes if node.state is State.UP]

    def node(self, name: str) -> ClusterNode:
        """By name."""
        return next(node for node in self.nodes if node.name == name)

    def other(self, node: ClusterNode) -> ClusterNode:
        """The next one that works; the same if there is no other."""
        index = self.nodes.index(node)
        following = self.nodes[index + 1 :] + self.nodes[:index]
        return next((each for each in following if each.state is State.UP), node)

    async def start(self) -> None:
        """Redis, then all nodes at once."""
        await in_thread(self.redis.start)
        self.nodes = [
            ClusterNode(name, self._directory, self.redis.port, self._environment, self._program)
            for name in "abcdefgh"[: self._count]
        ]
        await asyncio.gather(*[node.open() for node in self.nodes])

    async def heal(self) -> None:
        """Whatever a test has left: everything works again."""
        self.redis.thaw()
        for node in self.nodes:
            node.proxy.mend()
            if node.state is State.FROZEN:
                node.thaw()
        await self.revive()

    async def revive(self) -> None:
        """Starts the nodes that have ended by themselves, or were killed."""
        ended = [node for node in self.nodes if not node.process.is_running()]
        for node in ended:
            node.state = State.DOWN
        await asyncio.gather(*[node.start() for node in ended])

    async def incarnations(self) -> set[str]:
        """Those that are members now."""
        return await in_thread(self._incarnations)

    def _incarnations(self) -> set[str]:
        with self.redis.client() as client:
            names = cast(list[bytes], client.zrange(keys.nodes(PREFIX), 0, -1))
        return {name.decode() for name in names}

    async def close(self) -> None:
        """Ends everything."""
        self.redis.thaw()
        await asyncio.gather(*[node.close() for node in self.nodes])
        self.redis.close()

    def _gathering_place(self, living: Sequence[ClusterNode]) -> ClusterNode:
        for node in living:
            if node.name == self._gathering:
                return node
        self._gathering = living[0].name
        return living[0]


@asynccontextmanager
async def running_cluster(
    directory: Path,
    count: int,
    *,
    together: bool = False,
    environment: dict[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
) -> AsyncIterator[Cluster]:
    """A cluster that is up; ended afterwards."""
    cluster = Cluster(directory, count, together=together, environment=environment, program=program)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.close()
