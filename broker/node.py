"""A node's life: what is started and stopped, in which order. What it is made of: `broker.assembly`.

Start: private Redis (if no URL is given), store, membership, subscription index, services, admin, listeners.
Stop: listeners, the clients at a pace, what is still to be stored, membership, store, private Redis.

A node that the others have declared dead closes everything that belongs to this incarnation and starts again
as another one, in the same process."""

import asyncio
import gc
import secrets
import signal
from collections.abc import AsyncIterator
from functools import partial
from itertools import islice
from typing import Final

import anyio
from anyio.abc import TaskGroup

from broker import __version__
from broker.admin import make_api, make_app, serve_admin, serve_socket
from broker.assembly import Node, Parent, RedisWatch, Surroundings, build
from broker.client import Client, disconnect_all, look_now_and_then, withdraw_unused
from broker.listeners import listen_tcp
from broker.mqtt import ReasonCode
from broker.observability.health import Health
from broker.observability.logs import get_logger
from broker.observability.metrics import Counters
from broker.process import reach_store, say_where
from broker.routing import load_index
from broker.settings import Address, Settings
from cluster.control import Desk
from cluster.drain import Departure
from cluster.store.embedded import PrivateRedis
from cluster.store.errors import NodeGone
from cluster.store.lane import StoreStatus

_SWEEP_SECONDS: Final = 0.5
_ROUNDS_TO_FOLLOW: Final = 2  # sweeps: an idle node follows the log of subscriptions, too
_ROUNDS_TO_WITHDRAW: Final = 20
_GC_THRESHOLDS: Final = (50_000, 50, 1000)
_GROUPS_SHOWN: Final = 100  # shared subscriptions with metrics of their own: more would be too many series

logger = get_logger(__name__)


async def run(settings: Settings, parent: Parent | None = None) -> int:
    """Runs a node until SIGTERM or SIGINT; the exit code. Raises StartError if it can't be started here."""
    stopping = Departure()
    desk = Desk()
    health = Health()
    counters = Counters(settings.node.name, __version__)
    watch = RedisWatch(health, counters, settings.redis.away_limit_seconds)
    code = 1
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as process:
            process.start_soon(_watch_signals, signals, stopping, parent is not None)
            admin: Address | None = None
            if parent is not None:
                await process.start(serve_socket, parent.admin, make_app(health, counters))
                admin = settings.node.admin  # where it answers for us
            elif settings.node.admin is not None:  # first of all: probes may ask while we wait for Redis
                api = make_api(health, counters, desk, settings.node.admin)
                admin = await process.start(serve_admin, settings.node.admin, health, counters, [api])
            listen = list(settings.node.listen)
            around = Surroundings(settings, health, counters, watch, admin, parent, stopping, desk, listen)
            code = await _run_with_redis(around)
            process.cancel_scope.cancel()
    return code


async def _watch_signals(
    signals: AsyncIterator[signal.Signals], stopping: Departure, has_parent: bool
) -> None:
    is_second = False  # not of a node that was asked to drain before
    async for number in signals:
        if is_second and has_parent:
            continue  # the parent's, beside one from whoever told all of us; in a hurry it kills
        if is_second:
            logger.warning("second signal: stopping at once", extra={"signal": number.name})
            raise SystemExit(1)
        stopping.begin(number.name)
        is_second = True


async def _run_with_redis(around: Surroundings) -> int:
    url = around.settings.redis.url
    if url is not None:
        return await _run_with_store(around, url)
    async with PrivateRedis(around.settings.node.data_dir) as private:
        return await _run_with_store(around, private.url)


async def _run_with_store(around: Surroundings, url: str) -> int:
    """Runs one incarnation after the other; all but the last were declared dead."""
    while True:
        incarnation = f"{around.settings.node.name}.{secrets.token_hex(6)}"
        store = await reach_store(url, around.settings, incarnation, around.stopping, around.watch)
        if store is None:
            return 0
        is_gone = False
        try:
            async with store:
                await _serve(build(around, store, incarnation))
        except* NodeGone as gone:
            is_gone = True
            logger.error(
                "the cluster has declared this node dead: it starts again as another incarnation",
                extra={"incarnation": incarnation, "error": str(gone)},
            )
        if not is_gone:
            return 0
        around.health.starting()


async def _serve(node: Node) -> None:
    """Runs services and listeners until told to stop. Raises NodeGone (in a group) if this incarnation is
    dead."""
    around = node.surroundings
    hub = node.hub
    listeners: list[asyncio.Server] = []
    try:
        async with anyio.create_task_group() as services:
            await _join(node, services)
            services.start_soon(_sweep, node)
            listeners += await _listen(node)
            node.info.listen = [str(address) for address in around.listen]
            hub.tick()
            node.info.started_ms = hub.clock.now_ms
            gc.collect()
            gc.freeze()  # what is here now stays; a full collection need not look at it
            gc.set_threshold(*_GC_THRESHOLDS)
            around.health.started()
            _say_where(node)
            await around.stopping.wait()
            await _stop(node, listeners)
            services.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.close()
        for client in list(hub.connections):
            client.abort()


async def _join(node: Node, services: TaskGroup) -> None:
    """Becomes a member, and is all that one must be before clients come."""
    hub = node.hub
    await node.heartbeat.join()
    await node.inbox.open()
    await load_index(hub.index, node.store)
    node.surroundings.watch(StoreStatus(None))
    node.tasks.open(services)
    for service in (
        hub.pulse.run,
        hub.committer.run,
        node.inbox.run,
        node.bells.run,
        node.broadcast.run,
        node.heartbeat.run,
        node.janitor.run,
        node.reaper.run,
        node.scrub.run,
        node.sys_topics.run,
        partial(look_now_and_then, hub),
    ):
        services.start_soon(service)
    await node.broadcast.is_listening.wait()


async def _listen(node: Node) -> list[asyncio.Server]:
    hub = node.hub
    around = node.surroundings
    backlog = around.settings.node.backlog
    is_shared = around.parent is not None
    listeners: list[asyncio.Server] = []
    try:
        for place, address in enumerate(around.listen):
            listener = await listen_tcp(lambda: Client(hub), address, backlog, shared=is_shared)
            listeners.append(listener)
            around.listen[place] = Address(*listener.sockets[0].getsockname()[:2])
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _say_where(node: Node) -> None:
    around = node.surroundings
    if around.parent is not None:
        around.parent.tell_up()
        return
    name = around.settings.node.name
    say_where(f"node {name}", around.listen, around.admin, around.settings, node.store)


async def _stop(node: Node, listeners: list[asyncio.Server]) -> None:
    """Ends in order what clients see, then what they have been promised."""
    hub = node.hub
    node.surroundings.health.drain()
    hub.is_stopping = True
    for listener in listeners:
        listener.close()
    timeout_seconds = node.surroundings.settings.node.shutdown_timeout_seconds
    with anyio.move_on_after(timeout_seconds) as scope:
        await node.shedder.drain(node.surroundings.stopping.moved, timeout_seconds)
        await hub.committer.until_idle()
        await node.inbox.close()
        await node.heartbeat.leave()
    if scope.cancelled_caught:
        logger.error("not everything could be stored within %g s", timeout_seconds)
    else:
        logger.info("stopped")


async def _sweep(node: Node) -> None:
    """Deadlines of connections, what is due when Redis stays away, and how late this loop is."""
    loop = asyncio.get_running_loop()
    hub = node.hub
    around = node.surroundings
    rounds = 0
    while True:
        expected = loop.time() + _SWEEP_SECONDS
        await anyio.sleep(_SWEEP_SECONDS)
        around.counters.loop_lag.observe(max(0.0, loop.time() - expected))
        hub.tick()
        if not hub.pulse.in_doubt:  # what clients have sent meanwhile has not been looked at
            hub.wheel.sweep()
        rounds += 1
        if rounds % _ROUNDS_TO_FOLLOW == 0:
            hub.committer.follow_log()
        if rounds % _ROUNDS_TO_WITHDRAW == 0:
            withdraw_unused(hub)
        if around.watch.is_away_too_long():
            disconnect_all(hub, ReasonCode.SERVER_BUSY, "the session store is away")
        _count(around.counters, node)
        hub.after_input()


def _count(counters: Counters, node: Node) -> None:
    """Carries over what others count by themselves."""
    hub = node.hub
    counters.inbox_records = node.inbox.records
    counters.handed_over = hub.router.transit.handed_over
    counters.channel_lost = node.broadcast.lost
    counters.doubts = hub.pulse.doubts
    counters.fights = len(hub.fights)
    counters.fights_delayed = hub.fights.delayed
    counters.subscriptions = hub.index.count
    counters.shared = dict(islice(hub.members.waiting.items(), _GROUPS_SHOWN))
    counters.sessions = len(hub.clients)
    counters.sent_qos0, counters.sent_qos1, counters.sent_qos2 = hub.drops.sent
    for reason, count in hub.dropped().items():
        counters.messages_dropped.raise_to(reason, count)
    counters.received_qos0, counters.received_qos1, counters.received_qos2 = hub.ingress.received
    counters.connections_maximum = hub.settings.connections_maximum
    counters.redis_full = hub.committer.refusals
