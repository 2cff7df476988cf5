"""Nodes of a broker on a Redis in any shape, for scenes of traffic (`tests.cluster.traffic`)."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from tests.cluster.nodes import START_SECONDS, Site, State
from tests.cluster.waiting import in_thread
from tests.node.harness import NodeProcess
from tests.ports import free_port

_CHOICE: Final = "abcdefgh"


class StandNode:
    """One node, which reaches Redis by itself."""

    def __init__(self, name: str, directory: Path, url: str, environment: dict[str, str]) -> None:
        self.name = name
        self.state = State.DOWN
        (directory / name).mkdir()
        self.process = NodeProcess(
            directory / name, *("--redis", url, "--node-name", name), environment=environment
        )
        self.process.port = free_port()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.process.port

    async def start(self) -> None:
        """Until it serves."""
        await in_thread(partial(self.process.start, START_SECONDS))
        self.state = State.UP


class Stand(Site):
    """Nodes; their Redis is somebody else's."""

    def __init__(self, directory: Path, count: int, url: str, environment: dict[str, str]) -> None:
        super().__init__()
        self._nodes = [StandNode(name, directory, url, environment) for name in _CHOICE[:count]]

    async def start(self) -> None:
        """All nodes at once."""
        await asyncio.gather(*[node.start() for node in self._nodes])

    def choose(self, chance: random.Random, avoid: str = "") -> StandNode | None:
        """See `Places`."""
        living = [node for node in self._nodes if node.state is State.UP]
        others = [node for node in living if node.name != avoid]
        return chance.choice(others or living) if living else None

    async def close(self) -> None:
        """Ends them."""
        for node in self._nodes:
            await in_thread(node.process.close)


@asynccontextmanager
async def running_stand(
    directory: Path, count: int, url: str, environment: dict[str, str]
) -> AsyncIterator[Stand]:
    """Nodes that serve; ended afterwards."""
    stand = Stand(directory, count, url, environment)
    try:
        await stand.start()
        yield stand
    finally:
        await stand.close()
