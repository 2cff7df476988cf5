"""What is done to a cluster under traffic, each as one small function; it returns when everything works
again.

The kinds of those which kill a process at once begin with `kill`: `timing` measures fail-over from them.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.cluster import publisher, subscriber
from tests.cluster.driver import Client, Move
from tests.cluster.nodes import CLIENTS, REDIS, ClusterNode
from tests.cluster.proxy import Trap
from tests.cluster.stage import (
    DOWN_SECONDS,
    REAPED_SECONDS,
    Fault,
    Stage,
    end_stop,
    first_sprung,
    rejoined,
    restore,
    set_trap,
    until_gone,
)
from tests.cluster.waiting import in_thread

_STRUCK_SECONDS: Final = 5.0
_TRAP_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 12.0
"""A will that a dead node had claimed is sent again by another one within so long."""
TRAPPED: Final = (
    *("claim", "subscribe", "unsubscribe", "rows", "enqueue", "receive", "routed", "release_received", "ack"),
    *("release", "complete", "raise_hi", "page", "detach", "done", "settle_tokens", "interest"),
)
"""Operations of the flows: where a node may be stopped."""


# Kills of nodes


async def kill_nodes(stage: Stage, kind: str, *nodes: ClusterNode) -> None:
    """kill -9 of these, all at once, and new ones after a while."""
    for node in nodes:
        stage.cluster.began(kind, node.name)
    await asyncio.gather(*[node.kill() for node in nodes])
    await stage.moment(DOWN_SECONDS)
    await asyncio.gather(*[node.start() for node in nodes])
    for node in nodes:
        stage.cluster.ended(kind, node.name)


async def kill_publishers_node(stage: Stage) -> None:
    await kill_nodes(stage, "kill the publisher's node", stage.node_of(stage.scene.publishers))


async def kill_subscribers_node(stage: Stage) -> None:
    await kill_nodes(stage, "kill the subscriber's node", stage.node_of(stage.scene.subscribers))


async def kill_both_nodes(stage: Stage) -> None:
    nodes = [stage.node_of(stage.scene.publishers), stage.node_of(stage.scene.subscribers)]
    await kill_nodes(stage, "kill the nodes of both", *dict.fromkeys(nodes))


async def kill_during_takeover(stage: Stage) -> None:
    """A client goes elsewhere, its old connection is still open; the old or the new node is killed."""
    client = stage.chance.choice([*stage.scene.subscribers, *stage.scene.publishers])
    old = stage.node_of([client])
    new = stage.cluster.other(old)
    client.move(Move.ABANDON, new)
    await stage.moment()
    await kill_nodes(stage, "kill during takeover", stage.chance.choice([old, new]))


async def kill_during_resume(stage: Stage) -> None:
    """A client resumes its session, and that node is killed."""
    client = stage.chance.choice([*stage.scene.subscribers, *stage.scene.publishers])
    new = stage.cluster.other(stage.node_of([client]))
    client.move(Move.CUT, new)
    await stage.moment()
    await kill_nodes(stage, "kill during resume", new)


async def kill_during_drain(stage: Stage) -> None:
    """SIGTERM, and before it has ended, kill -9."""
    kind = "kill during drain"
    node = stage.node_of(stage.scene.clients)
    node.terminate()
    await stage.moment(0.2)
    await kill_nodes(stage, kind, node)


async def kill_during_reaping(stage: Stage) -> None:
    """A node is killed, and the one that reaps it, too, at any of its calls. If it is the only one, it is
    started again before, and reaps what it was."""
    kind = "kill during reaping"
    first = stage.node_of(stage.scene.clients)
    operation = stage.chance.choice(["bury", "reap", "forget_node"])
    stage.cluster.began(kind, first.name)
    await first.kill()
    if not stage.cluster.living():
        await first.start()
    traps = [
        set_trap(
            node,
            Trap(1, _killing(stage, kind, node), stage.chance.random() < 0.5, frozenset({operation})),
        )
        for node in stage.cluster.living()
    ]
    await first_sprung(traps, REAPED_SECONDS)
    await restore(stage, kind)


def _killing(stage: Stage, kind: str, node: ClusterNode) -> Callable[[], None]:
    def kill() -> None:
        for other in stage.cluster.nodes:
            other.proxy.trap = None if other is not node else other.proxy.trap
        stage.cluster.began(kind, node.name)
        node.strike_dead()

    return kill


# Wills


async def kill_with_will(stage: Stage, kind: str, operation: str, containing: bytes) -> None:
    """A client with a will is lost; the node that has claimed the will is killed at its next such call."""
    client = stage.chance.choice(stage.scene.wills)
    async with asyncio.timeout(_STRUCK_SECONDS):
        await client.until(lambda: client.is_connected)
    traps = [
        set_trap(
            node,
            Trap(1, _killing(stage, kind, node), operations=frozenset({operation}), containing=containing),
        )
        for node in stage.cluster.living()
    ]
    client.move(Move.CUT)
    await first_sprung(traps, _STRUCK_SECONDS)
    await restore(stage, kind)


async def kill_before_routing_will(stage: Stage) -> None:
    """It knows the will, since the reply to `detach` was there; `enqueue` is what routes it."""
    await kill_with_will(stage, "kill before routing a will", "enqueue", b"/will/")


async def kill_after_routing_will(stage: Stage) -> None:
    """All subscribers have it; only the store does not know yet."""
    await kill_with_will(stage, "kill after routing a will", "done", b"")


async def kill_who_reaps_will(stage: Stage) -> None:
    """A client with a will is never heard of again, nor is its node; whoever reaps that is killed when it is
    about to route the will. Another node routes it when the lease is over."""
    kind = "kill who reaps a will"
    clients = [client for client in stage.scene.wills if client.comes_back and client.node]
    if not clients:
        return
    client = stage.chance.choice(clients)
    client.comes_back = False
    node = stage.cluster.node(client.node)
    await kill_nodes(stage, kind, node)
    traps = [
        set_trap(
            each,
            Trap(
                1,
                _killing(stage, kind, each),
                stage.chance.random() < 0.5,
                frozenset({"enqueue"}),
                b"%s %d " % (client.name.encode(), client.profile.will_qos),
            ),
        )
        for each in stage.cluster.living()
    ]
    await first_sprung(traps, REAPED_SECONDS)
    await restore(stage, kind)
    await asyncio.sleep(LEASE_SECONDS)


# Stops


async def freeze_until_reaped(stage: Stage) -> None:
    """SIGSTOP, until the others have given its sessions away; SIGCONT. It must not say anything any more to
    clients that have gone elsewhere."""
    kind = "stopped until reaped"
    node = stage.node_of(stage.scene.clients)
    incarnation = node.proxy.incarnation
    stage.cluster.began(kind, node.name)
    node.freeze()
    lost = [client for client in stage.scene.clients if client.node == node.name]
    for client in lost:
        client.move(Move.ABANDON)
    abandoned = [(client, client.abandoned[-1]) for client in lost]
    await until_gone(stage.cluster, incarnation)
    loop = asyncio.get_running_loop()
    thawed_at = loop.time()
    node.thaw()
    await rejoined(stage, node, incarnation)
    stage.cluster.ended(kind, node.name)
    for client, wire in abandoned:
        late = [
            f"{packet!r} {at - thawed_at:.3f} s after SIGCONT" for at, packet in wire.late if at > thawed_at
        ]
        if late:
            client.broken(f"{node.name} was reaped and sent {late}")


async def freeze_a_while(stage: Stage) -> None:
    """SIGSTOP for less than it takes to be declared dead; its clients have gone elsewhere when it goes on."""
    kind = "stopped 1 s"
    node = stage.node_of(stage.scene.clients)
    stage.cluster.began(kind, node.name)
    node.freeze()
    for client in stage.scene.clients:
        if client.node == node.name:
            client.move(stage.chance.choice([Move.ABANDON, Move.CUT]))
    await asyncio.sleep(1.0)
    node.thaw()
    stage.cluster.ended(kind, node.name)


async def stop_at_call(stage: Stage) -> None:
    """A node is stopped before a call, or between the call and its reply, and then killed or continued, when
    its clients are elsewhere."""
    node = stage.node_of(stage.scene.clients)
    trap = Trap(0, node.freeze)
    has_sprung = False
    while not has_sprung:  # not every operation is under way all the time
        node.proxy.mend()
        operation = stage.chance.choice(TRAPPED)
        trap = Trap(
            stage.chance.randint(1, 3), node.freeze, stage.chance.random() < 0.5, frozenset({operation})
        )
        has_sprung = await first_sprung([set_trap(node, trap)], _TRAP_SECONDS)
    where = "after" if trap.after else "before"
    is_kill = stage.chance.random() < 0.5
    kind = f"stopped {where} a call, then {'killed' if is_kill else 'continued'}"
    stage.cluster.began(kind, node.name)
    await end_stop(stage, node, trap, is_kill)
    stage.cluster.ended(kind, node.name)


# Redis


def cut_redis(seconds: float) -> Fault:
    """The connections between a node and Redis are reset, and refused for so long."""

    async def fault(stage: Stage) -> None:
        kind = f"cut from Redis {seconds:g} s"
        node = stage.node_of(stage.scene.clients)
        stage.cluster.began(kind, node.name)
        node.proxy.cut()
        await asyncio.sleep(seconds)
        node.proxy.mend()
        stage.cluster.ended(kind, node.name)

    return fault


async def swallow_redis(stage: Stage) -> None:
    """What a node and Redis say to each other is delayed by a second: nothing is reset."""
    kind = "no answer from Redis 1 s"
    node = stage.node_of(stage.scene.clients)
    stage.cluster.began(kind, node.name)
    node.proxy.swallow()
    await asyncio.sleep(1.0)
    node.proxy.mend()
    stage.cluster.ended(kind, node.name)


async def slow_redis(stage: Stage) -> None:
    """Each way takes 5 ms for a while."""
    kind = "slow Redis"
    node = stage.node_of(stage.scene.clients)
    stage.cluster.began(kind, node.name)
    node.proxy.latency_seconds = 0.005
    await asyncio.sleep(1.0)
    node.proxy.mend()
    stage.cluster.ended(kind, node.name)


async def kill_redis(stage: Stage) -> None:
    """kill -9 of Redis; it starts again on its append-only file."""
    stage.cluster.began("kill Redis", REDIS)
    await in_thread(stage.cluster.redis.kill)
    await stage.moment(DOWN_SECONDS)
    await in_thread(stage.cluster.redis.start)
    stage.cluster.ended("kill Redis", REDIS)


def pause_redis(seconds: float) -> Fault:
    """Redis stands still."""

    async def fault(stage: Stage) -> None:
        kind = f"Redis paused {seconds:g} s"
        stage.cluster.began(kind, REDIS)
        stage.cluster.redis.freeze()
        await asyncio.sleep(seconds)
        stage.cluster.redis.thaw()
        stage.cluster.ended(kind, REDIS)

    return fault


# Orderly


async def rolling_restart(stage: Stage) -> None:
    """SIGTERM for each node in turn; it is back before the next one is told."""
    kind = "rolling restart"
    for node in stage.cluster.nodes:
        stage.cluster.began(kind, node.name)
        code = await node.stop()
        if code:
            stage.scene.clients[0].broken(f"{node.name} ended with {code} after SIGTERM")
        await node.start()
        stage.cluster.ended(kind, node.name)
        await stage.moment(DOWN_SECONDS)


# Clients


async def move_at_each_message(stage: Stage) -> None:
    """A client gives up its connection at each message, twelve times."""
    client: Client = stage.chance.choice([*stage.scene.publishers, *stage.scene.subscribers])
    step = "PUBLISH sent" if client in stage.scene.publishers else "PUBLISH received"
    await strike(stage, "moved at each message", client, step, 12)


async def cut_handshake(stage: Stage) -> None:
    """The connection is given up after any step of a handshake; the exchange goes on elsewhere."""
    publishers = stage.chance.random() < 0.5
    clients: Sequence[Client] = stage.scene.publishers if publishers else stage.scene.subscribers[:2]
    steps = publisher.STEPS if publishers else subscriber.STEPS
    await strike(stage, "handshake cut", stage.chance.choice(clients), stage.chance.choice(steps[2]), 1)


async def strike(stage: Stage, kind: str, client: Client, step: str, count: int) -> None:
    """Gives the connection up so often at this step, each time in another way; returns when that is done."""
    left = count

    def strike(happened: str) -> Move | None:
        nonlocal left
        if happened != step or not left:
            return None
        left -= 1
        stage.cluster.began(kind, CLIENTS)
        stage.cluster.ended(kind, CLIENTS)
        return stage.chance.choice(list(Move))

    client.strike = strike
    async with asyncio.timeout(_STRUCK_SECONDS):
        await client.until(lambda: not left and client.is_connected)


def duels(count: int) -> Fault:
    """So often two nodes get a CONNECT with one client id in the same moment."""

    async def fault(stage: Stage) -> None:
        client = stage.chance.choice(stage.scene.subscribers)
        for _ in range(count):
            stage.cluster.began("claimed by two nodes", CLIENTS)
            first = stage.node_of(stage.scene.clients)
            client.move(stage.chance.choice([Move.CUT, Move.ABANDON]), first, stage.cluster.other(first))
            await client.until(lambda: client.is_connected)
            stage.cluster.ended("claimed by two nodes", CLIENTS)

    return fault


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault of the long run. `nodes`: how many are needed to make sense. `weight`: how often it comes."""

    fault: Fault
    weight: float = 1.0
    nodes: int = 1


KINDS: Final = {
    "kill publisher's node": Kind(kill_publishers_node, 3),
    "kill subscriber's node": Kind(kill_subscribers_node, 3),
    "kill both": Kind(kill_both_nodes, 1.5),
    "kill during takeover": Kind(kill_during_takeover, 2),
    "kill during resume": Kind(kill_during_resume, 2),
    "kill during drain": Kind(kill_during_drain, 1.5),
    "kill during reaping": Kind(kill_during_reaping, 0.5),
    "kill before routing a will": Kind(kill_before_routing_will, 1),
    "kill after routing a will": Kind(kill_after_routing_will, 1),
    "kill who reaps a will": Kind(kill_who_reaps_will, 0.3),
    "stopped until reaped": Kind(freeze_until_reaped, 0.5, 2),
    "stopped 1 s": Kind(freeze_a_while, 1),
    "stopped at a call": Kind(stop_at_call, 5),
    "cut 0.2 s": Kind(cut_redis(0.2), 2),
    "cut 2 s": Kind(cut_redis(2.0), 1),
    "cut 20 s": Kind(cut_redis(20.0), 0.15, 2),
    "no answer": Kind(swallow_redis, 1),
    "slow": Kind(slow_redis, 1),
    "kill Redis": Kind(kill_redis, 1),
    "pause Redis": Kind(pause_redis(3.0), 0.7),
    "rolling restart": Kind(rolling_restart, 0.5),
    "move at each message": Kind(move_at_each_message, 2),
    "handshake cut": Kind(cut_handshake, 4),
    "two nodes at once": Kind(duels(50), 1.5, 2),
}
