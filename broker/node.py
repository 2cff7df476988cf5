"""A node's life: what is started and stopped, in which order. What it is made of: `broker.assembly`.

Start: private Redis (if no URL is given), store, membership, subscription index, services, admin, listeners.
Stop: a pause for load balancers, listeners, the clients at a pace, what is still to be stored, membership,
store, private Redis.

A node that the others have declared dead closes everything that belongs to this incarnation and starts again
as another one, in the same process."""

import asyncio
import gc
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskGroup

from broker import __version__
from broker.admin import front_routes, make_api, make_app, make_door, serve_admin, serve_socket
from broker.adopting import adopt
from broker.assembly import Node, build
from broker.auth import EnhancedAuthenticator
from broker.chores import Chores, plan
from broker.client import (
    Client,
    disconnect_all,
    disconnect_revoked,
    look_now_and_then,
    open_spans,
    tell_what_is_read,
    withdraw_unused,
)
from broker.counting import carry_over
from broker.durability import listener_level, private_redis
from broker.guarding import make_guarding
from broker.listeners import Listener, ListenerSurroundings, Wires, open_listener, open_wires
from broker.mqtt import ReasonCode
from broker.observability import logs
from broker.observability.audit import audit_file, reopen_audit_file
from broker.observability.health import Health
from broker.observability.logs import get_logger
from broker.observability.metrics import Counters
from broker.process import given_url, reach_store, say_where
from broker.reloading import Read, Reloading
from broker.routing import load_index
from broker.settings import Address, ListenerSettings, Settings
from broker.settings.live import with_live
from broker.surroundings import Parent, RedisWatch, Surroundings
from cluster.control import Desk
from cluster.drain import Departure
from cluster.kubernetes.environment import whereabouts
from cluster.kubernetes.pod import State
from cluster.looking import keep_looking
from cluster.store.errors import NodeGone
from cluster.store.lane import StoreStatus

REREAD: Final = signal.SIGUSR2
"""From a node to its parent: somebody has had the settings read again."""
HURRY: Final = signal.SIGUSR1
"""From the parent to a node: don't pause before the drain. A second SIGTERM may be from somebody else."""

_SWEEP_SECONDS: Final = 0.5
_ROUNDS_TO_FOLLOW: Final = 2  # sweeps: an idle node follows the log of subscriptions, too
_ROUNDS_TO_WITHDRAW: Final = 20
_GC_THRESHOLDS: Final = (50_000, 50, 1000)

logger = get_logger(__name__)


async def run(
    settings: Settings,
    parent: Parent | None = None,
    authenticators: Mapping[str, EnhancedAuthenticator] | None = None,
    read: Read | None = None,
    given: Settings | None = None,
) -> int:
    """Runs a node until SIGTERM or SIGINT; the exit code. Raises StartError if it can't be started here.

    `authenticators` are the Authentication Methods that clients may name, by their names. `read` reads the
    settings again; None: they stay as they are. `given`: as they were read, if `settings` are others.
    """
    stopping = Departure()
    desk = Desk(stopping, [settings.node.name])
    health = Health()
    counters = Counters(settings.node.name, __version__)
    chores = plan(settings, stopping, desk, counters.chores) if parent is None else None
    place = chores.place if chores is not None else whereabouts(os.environ)
    watch = RedisWatch(health, counters, settings.redis.away_limit_seconds)
    code = 1
    auth = settings.auth
    own_signals = [signal.SIGHUP, *([] if parent is None else [HURRY])]
    with (
        audit_file(auth.audit_file, settings.node.name, auth.audit_logins),
        open_spans(settings.telemetry, settings.node.name, __version__) as spans,
        anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *own_signals) as signals,
    ):
        async with anyio.create_task_group() as process:
            guarding = make_guarding(settings, counters, authenticators or {})
            admin = list(settings.node.admin)
            around = Surroundings(
                settings,
                health,
                counters,
                watch,
                admin,
                parent,
                stopping,
                desk,
                place,
                {**guarding.authenticators, **(authenticators or {})},
                guarding,
                settings.all_listeners(),
                spans,
            )
            await _open_admin(process, around, admin)  # probes may ask while we wait for Redis
            adopt_all = partial(_adopt, around, chores)
            reloading = Reloading(
                given or settings, read or (lambda: settings), adopt_all, counters.settings_reloads
            )
            around.answerers["reload_settings"] = partial(_reload_settings, reloading, parent)
            hangup = partial(process.start_soon, _hang_up, reloading)
            process.start_soon(_watch_signals, signals, stopping, hangup, parent is not None)
            if chores is not None:  # else the parent's
                process.start_soon(chores.run, partial(_state, around))
            code = await _run_with_redis(around)
            process.cancel_scope.cancel()
    return code


async def _open_admin(process: TaskGroup, around: Surroundings, admin: list[Address]) -> None:
    """`admin` gets the ports that the system picks."""
    settings, counters, health = around.settings, around.counters, around.health
    if around.parent is not None:  # which answers there for us
        await process.start(serve_socket, around.parent.admin, make_app(health, counters))
        return
    door, watches = make_door(settings.admin, counters, around.desk)
    front = front_routes(door)
    for follow in watches:
        process.start_soon(follow)
    for number, address in enumerate(admin):
        api = make_api(
            health, counters, around.desk, address, settings.auth.scram_keys, asks=door.asks,
            settings=lambda: around.settings,
        )  # fmt: skip
        admin[number] = await process.start(serve_admin, address, health, counters, [*front, api], door)


def _state(around: Surroundings) -> State:
    """What others are told of this process."""
    ready = around.health.ready()
    return State(around.counters.connections, ready.ok, around.stopping.is_set(), ready.reasons)


async def _reload_settings(reloading: Reloading, parent: Parent | None, _: bytes) -> object:
    reloaded = await reloading.reload()
    if parent is not None:
        parent.tell_reread()
    return asdict(reloaded)


async def _hang_up(reloading: Reloading) -> None:
    reopen_audit_file()
    await reloading.at_signal()


def _adopt(around: Surroundings, chores: Chores | None, names: frozenset[str], settings: Settings) -> None:
    """In this process; by a later incarnation, too."""
    around.settings = with_live(around.settings, settings)
    logs.set_level(settings.node.log_level)
    if around.adopt is not None:
        around.adopt(names)
    if chores is not None:
        chores.change(settings.cluster)


async def _watch_signals(
    signals: AsyncIterator[signal.Signals],
    stopping: Departure,
    hang_up: Callable[[], object],
    has_parent: bool,
) -> None:
    is_second = False  # not of a node that was asked to drain before
    async for number in signals:
        if number == HURRY:
            stopping.hurry()
            continue
        if number == signal.SIGHUP:
            hang_up()
            continue
        if is_second and has_parent:
            continue  # the parent's, beside one from whoever told all of us; in a hurry it says so, or kills
        if is_second and not stopping.hurry():
            logger.warning("second signal: stopping at once", extra={"signal": number.name})
            raise SystemExit(1)
        stopping.begin(number.name)
        is_second = True


async def _run_with_redis(around: Surroundings) -> int:
    url = given_url(around.settings.redis)
    if url is not None:
        return await _run_with_store(around, url)
    async with private_redis(around.settings) as private:
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
                node = build(around, store, incarnation)
                around.adopt = partial(adopt, node)
                await _serve(node)
        except* NodeGone as gone:
            is_gone = True
            around.counters.node_restarts += 1
            logger.error(
                "the cluster has declared this node dead: it starts again as another incarnation",
                extra={"incarnation": incarnation, "error": str(gone)},
            )
        around.adopt = None
        if not is_gone:
            return 0
        around.health.starting()


async def _serve(node: Node) -> None:
    """Runs services and listeners until told to stop. Raises NodeGone (in a group) if this incarnation is
    dead."""
    around = node.surroundings
    hub = node.hub
    listeners: list[Listener] = []
    wires = open_wires()
    try:
        async with anyio.create_task_group() as services:
            services.start_soon(node.store.watch_primary)
            await _join(node, services)
            services.start_soon(_sweep, node)
            listeners += await _listen(node, wires)
            services.start_soon(node.operations.forwarding.run)
            node.info.listen = [str(listener.address) for listener in around.listeners]
            hub.tick()
            node.info.started_ms = hub.clock.now_ms
            gc.collect()
            gc.freeze()  # what is here now stays; a full collection need not look at it
            gc.set_threshold(*_GC_THRESHOLDS)
            around.health.started()
            _say_where(node)
            await around.stopping.wait()
            around.health.drain()
            await around.stopping.pause(around.settings.cluster.drain_pause_seconds)
            await _stop(node, listeners)
            services.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.close()
        for client in list(hub.connections):
            client.abort()
        if wires is not None:
            wires.close()


async def _join(node: Node, services: TaskGroup) -> None:
    """Becomes a member, and is all that one must be before clients come."""
    hub = node.hub
    await node.heartbeat.join()
    await node.inbox.open()
    await _load(node)
    node.surroundings.watch(StoreStatus(None))
    node.tasks.open(services)
    for service in (
        partial(keep_looking, hub.pulse),
        node.group_commit.run,
        node.inbox.run,
        node.bells.run,
        node.broadcast.run,
        node.heartbeat.run,
        node.janitor.run,
        node.reaper.run,
        node.scrub.run,
        node.pressure.run,
        node.bans.run,
        partial(look_now_and_then, hub),
    ):
        services.start_soon(service)
    for beside in [*node.operations.services(), *(node.durability.services() if node.durability else ())]:
        services.start_soon(beside)
    guarding = node.surroundings.guarding
    for watch in guarding.watches:
        services.start_soon(watch, hub)
    if guarding.follow is not None:
        await services.start(guarding.follow, hub, node.store)
    await node.broadcast.is_listening.wait()
    await node.bans.is_loaded.wait()
    tell_what_is_read(hub)
    await hub.committer.follow_now()  # what has changed while the rows were read


async def _load(node: Node) -> None:
    """All subscriptions; the others see that this node is alive meanwhile."""
    gc.disable()  # of a million rows a fifth of the time went into looking for what there isn't
    try:
        async with anyio.create_task_group() as loading:
            loading.start_soon(node.heartbeat.run_beside)
            await load_index(node.hub.index, node.store)
            loading.cancel_scope.cancel()
    finally:
        gc.enable()


async def _listen(node: Node, wires: Wires | None) -> list[Listener]:
    around = node.surroundings
    common = ListenerSurroundings(
        connect=partial(Client, node.hub),
        spawn=node.tasks.spawn,
        counters=around.counters,
        backlog=around.settings.node.backlog,
        is_shared=around.parent is not None,
        maximum_packet_size=around.settings.mqtt.maximum_packet_size,
        lets_anybody_in=partial(_lets_anybody_in, around.settings),
        review=partial(disconnect_revoked, node.hub),
        is_banned=node.hub.refuses_address,
        admission=node.admission,
        limits=around.settings.limits,
        level_of=partial(listener_level, around.settings),
        wires=wires,
    )
    names = around.settings.listener_names()
    listeners: list[Listener] = []
    try:
        for place, settings in enumerate(around.listeners):
            listener = await open_listener(names[place], settings, common)
            listeners.append(listener)
            around.listeners[place] = listener.settings
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _lets_anybody_in(settings: Settings, listener: ListenerSettings) -> bool:
    return listener.lets_anybody_in(settings.node.allow_anonymous, settings.auth.asks)


def _say_where(node: Node) -> None:
    around = node.surroundings
    if around.parent is not None:
        around.parent.tell_up()
        return
    name = around.settings.node.name
    say_where(f"node {name}", around.listeners, around.admin, around.settings, node.store)


async def _stop(node: Node, listeners: list[Listener]) -> None:
    """Ends in order what clients see, then what they have been promised."""
    hub = node.hub
    hub.is_stopping = True
    for listener in listeners:
        listener.close()
    timeout_seconds = node.surroundings.settings.node.shutdown_timeout_seconds
    with anyio.move_on_after(timeout_seconds) as scope:
        await node.operations.forwarding.stop()
        await node.shedder.drain(node.surroundings.stopping.moved, timeout_seconds)
        await node.group_commit.until_idle()
        await node.inbox.close()
        await node.operations.alarming.withdraw()
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
        hub.router.trim()
        hub.offences.flush()
        carry_over(around.counters, node)
        hub.after_input()
