"""What a fault happens to, and the tools that faults have in common."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.cluster.driver import Client, Move
from tests.cluster.nodes import Cluster, ClusterNode, State
from tests.cluster.proxy import Trap
from tests.cluster.traffic import Scene
from tests.cluster.waiting import poll_until

REAPED_SECONDS: Final = 20.0
"""A node that gives no sign of life is reaped within so long."""
DOWN_SECONDS: Final = 0.3
MOMENT_SECONDS: Final = 0.03
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Stage:
    """What a fault happens to. `chance` decides what it leaves open."""

    cluster: Cluster
    scene: Scene
    chance: random.Random

    def node_of(self, clients: Sequence[Client]) -> ClusterNode:
        """One that some of these clients are connected to, or any."""
        names = sorted({client.node for client in clients if client.node})
        living = [node for node in self.cluster.living() if node.name in names] or self.cluster.living()
        return self.chance.choice(living)

    async def moment(self, seconds: float = MOMENT_SECONDS) -> None:
        """A short while, of any length."""
        await asyncio.sleep(self.chance.uniform(0.0, seconds))


Fault = Callable[[Stage], Awaitable[None]]


def set_trap(node: ClusterNode, trap: Trap) -> Trap:
    """At the node's calls from now on."""
    node.proxy.trap = trap
    return trap


async def first_sprung(traps: Sequence[Trap], seconds: float) -> bool:
    """Whether one of them has sprung within so long."""
    return await poll_until(lambda: any(trap.sprung.is_set() for trap in traps), seconds)


async def restore(stage: Stage, kind: str) -> None:
    """No traps any more; nodes that were killed in one are started again."""
    for node in stage.cluster.nodes:
        node.proxy.mend()
    dead = [node for node in stage.cluster.nodes if node.state is State.DOWN]
    await stage.moment(DOWN_SECONDS)
    for node in dead:
        await node.restart_after_strike()
        stage.cluster.ended(kind, node.name)


async def until_gone(cluster: Cluster, incarnation: str) -> None:
    """Until it is no member any more."""
    deadline = asyncio.get_running_loop().time() + REAPED_SECONDS
    while incarnation in await cluster.incarnations():
        assert asyncio.get_running_loop().time() < deadline, f"{incarnation} is not reaped"
        await asyncio.sleep(_LOOK_SECONDS)


async def rejoined(stage: Stage, node: ClusterNode, incarnation: str) -> None:
    """A node that was declared dead joins again as another incarnation, by itself or since it is started
    again."""
    deadline = asyncio.get_running_loop().time() + REAPED_SECONDS
    while True:
        if not node.process.is_running():
            await node.start()
        current = node.proxy.incarnation
        if current != incarnation and current in await stage.cluster.incarnations():
            return
        assert asyncio.get_running_loop().time() < deadline, (
            f"{node.name} does not come back as another incarnation"
        )
        await asyncio.sleep(_LOOK_SECONDS)


async def end_stop(stage: Stage, node: ClusterNode, trap: Trap, is_kill: bool) -> None:
    """A node that stands in a trap is killed, or its clients go elsewhere and it goes on. A call before which
    it was stopped has not been made: its connection is lost, and the node has to decide again what it
    sends."""
    if is_kill:
        await node.kill()
        node.proxy.mend()
        await node.start()
        return
    for client in stage.scene.clients:
        if client.node == node.name:
            client.move(stage.chance.choice([Move.ABANDON, Move.CUT]))
    await stage.moment(0.5)
    if not trap.after:
        node.proxy.reset()
    node.thaw()
    node.proxy.mend()
