"""The flows of DESIGN 5 one by one, with the node stopped at each of their calls to Redis in turn.

A flow is prepared (its clients are on the node), the proxy is armed for the k-th call from then on, the flow
is set off, and when the call comes the node stands still: before the call, or between the call and its reply.
Then it is killed, or its clients go elsewhere and it goes on. The flow must come to its end in any case.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.cluster.checker import undelivered
from tests.cluster.driver import Move
from tests.cluster.nodes import ClusterNode
from tests.cluster.proxy import Trap
from tests.cluster.stage import Stage, end_stop
from tests.cluster.traffic import Scene, Size
from tests.cluster.waiting import poll_until

QUIET_SCENE: Final = Size(
    publishers=1, messages_per_second=0.0, wills=1, direct=0, churners=0, is_restless=False
)
"""Clients that do only what a flow says."""
FLOW_SECONDS: Final = 30.0
LATE_SECONDS: Final = 0.15
"""What a node does after it has answered (marks, settled tokens) comes within so long."""
CALLS_MAXIMUM: Final = 20

Act = Callable[[Scene, ClusterNode], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Flow:
    """`away`: its subscriber begins on another node, or without a connection to this one."""

    act: Act
    away: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """Stop at the `call`-th call, before or `after` it; then kill, or go on."""

    call: int
    after: bool
    is_kill: bool

    def __str__(self) -> str:
        where = "after" if self.after else "before"
        return f"{where} call {self.call}, {'killed' if self.is_kill else 'continued'}"


async def _connect(scene: Scene, node: ClusterNode) -> None:
    subscriber = scene.subscribers[0]
    subscriber.move(Move.CUT, node)
    await subscriber.until(lambda: subscriber.is_connected)


async def _take_over(scene: Scene, node: ClusterNode) -> None:
    subscriber = scene.subscribers[0]
    subscriber.move(Move.ABANDON, node)
    await subscriber.until(lambda: subscriber.is_connected)


async def _subscribe(scene: Scene, _node: ClusterNode) -> None:
    subscriber = scene.subscribers[0]
    topic = f"{scene.prefix}/extra"
    await subscriber.subscribe(topic, 2)
    await scene.publishers[0].publish(topic, 1)
    await subscriber.unsubscribe(topic)


async def _publish_qos1(scene: Scene, _node: ClusterNode) -> None:
    await scene.publishers[0].publish(scene.topics[0], 1)
    await scene.publishers[0].settle()


async def _publish_qos2(scene: Scene, _node: ClusterNode) -> None:
    await scene.publishers[0].publish(scene.topics[0], 2)
    await scene.publishers[0].settle()


async def _deliver(scene: Scene, node: ClusterNode) -> None:
    """The publisher is on another node, if there is one: the calls here are those of the subscribers."""
    publisher = scene.publishers[0]
    away = scene.site.choose(scene.chance, avoid=node.name)
    assert away is not None
    publisher.move(Move.CUT, away)
    for qos in (1, 2, 1, 2):
        await publisher.publish(scene.topics[0], qos)
    await publisher.settle()
    await poll_until(lambda: not undelivered(scene.record.events), FLOW_SECONDS)


async def _will(scene: Scene, _node: ClusterNode) -> None:
    client = scene.wills[0]
    client.move(Move.CUT)
    await client.until(lambda: client.is_connected)
    await poll_until(lambda: not undelivered(scene.record.events), FLOW_SECONDS)


FLOWS: Final = {
    "connect": Flow(_connect, away=True),
    "takeover": Flow(_take_over, away=True),
    "subscribe": Flow(_subscribe),
    "publish QoS 1": Flow(_publish_qos1),
    "publish QoS 2": Flow(_publish_qos2),
    "deliver": Flow(_deliver),
    "will": Flow(_will),
}


async def stop_in_flow(stage: Stage, flow: Flow, case: Case) -> bool:
    """Whether there was such a call."""
    scene = stage.scene
    node = stage.chance.choice(stage.cluster.living())
    await _prepare(stage, flow, node)
    trap = Trap(case.call, node.freeze, case.after)
    node.proxy.trap = trap
    async with asyncio.timeout(FLOW_SECONDS), asyncio.TaskGroup() as group:
        flowing = group.create_task(_as_task(flow.act(scene, node)))
        sprung = group.create_task(trap.sprung.wait())
        await asyncio.wait([flowing, sprung], return_when=asyncio.FIRST_COMPLETED)
        if not trap.sprung.is_set():
            await asyncio.wait([sprung], timeout=LATE_SECONDS)
        if trap.sprung.is_set():
            stage.cluster.began(str(case), node.name)
            await end_stop(stage, node, trap, case.is_kill)
            stage.cluster.ended(str(case), node.name)
        node.proxy.trap = None
        sprung.cancel()
    return trap.sprung.is_set()


async def _as_task(act: Awaitable[None]) -> None:
    await act


async def _prepare(stage: Stage, flow: Flow, node: ClusterNode) -> None:
    """All clients are on the node, or the first subscriber isn't; and nothing is under way."""
    scene = stage.scene
    for client in scene.clients:
        is_away = flow.away and client is scene.subscribers[0]
        client.move(Move.CUT, stage.cluster.other(node) if is_away else node)
    for client in scene.clients:
        await client.until(lambda client=client: client.is_connected)  # type: ignore[misc]
    await poll_until(lambda: not undelivered(scene.record.events), FLOW_SECONDS)
    await asyncio.sleep(LATE_SECONDS)
