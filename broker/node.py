"""The composition root: builds every object of a node, starts and stops them in order. The only file that
wires.

Start: private Redis (if no URL is given), store, membership, subscription index, services, admin, listeners.
Stop: listeners, the clients at a pace, what is still to be stored, membership, store, private Redis.

A node that the others have declared dead closes everything that belongs to this incarnation and starts again
as another one, in the same process."""

import asyncio
import gc
import resource
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskGroup

from broker import __version__
from broker.admin import make_api, make_app, serve_admin, serve_socket
from broker.client import (
    HANDLERS,
    Client,
    ClientSettings,
    DeadlineWheel,
    Fights,
    Hub,
    Shedder,
    disconnect_all,
    drop_rows,
    on_failed,
    on_interest,
    on_kicked,
    on_lost,
    on_messages,
    on_overrun,
    on_records,
    on_rung,
    on_stale,
    route_wills,
    withdraw_unused,
)
from broker.listeners import listen_tcp
from broker.mqtt import ConnectionLimits, ReasonCode
from broker.observability.health import Health
from broker.observability.logs import get_logger
from broker.observability.metrics import Counters
from broker.process import reach_store, say_where
from broker.routing import (
    CommitSurroundings,
    Committer,
    Ingress,
    Interest,
    Router,
    SessionWrites,
    SubscriptionIndex,
    load_index,
    load_unversioned,
)
from broker.session import Clock, Drops, Intake, Outbox, StoredSession, TokenSource
from broker.settings import Address, Settings
from cluster import commands
from cluster.bells import Bells
from cluster.broadcast import Broadcast
from cluster.control import Control, Desk
from cluster.drain import Departure
from cluster.heartbeat import Heartbeat
from cluster.inbox import Inbox
from cluster.janitor import Janitor
from cluster.node_info import NodeInfo
from cluster.pulse import Pulse
from cluster.reaper import Reaper
from cluster.reassurance import Reassurance
from cluster.scrub import Scrub
from cluster.store.deadlines import EndedSession
from cluster.store.embedded import PrivateRedis
from cluster.store.errors import NodeGone, StoreError
from cluster.store.lane import StoreStatus
from cluster.store.store import Store

TOKEN_GRACE_SECONDS: Final = 3600
"""How long the store remembers, at least, who got a QoS 2 message that nobody has acknowledged: longer than
Redis may be away while a batch waits to be sent again."""

_FILE_RESERVE: Final = 64  # files of a node that are not clients: Redis, listeners, admin, the event loop
_SWEEP_SECONDS: Final = 0.5
_ROUNDS_TO_FOLLOW: Final = 2  # sweeps: an idle node follows the log of subscriptions, too
_ROUNDS_TO_WITHDRAW: Final = 20
_GC_THRESHOLDS: Final = (50_000, 50, 1000)

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parent:
    """The process that runs this node as one of several on the same addresses."""

    admin: Path
    """The unix socket that it asks for health and metrics; the node makes it."""
    tell_up: Callable[[], None]
    """Called when clients can connect. The parent tells people where."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is there before Redis is, and outlives it."""

    settings: Settings
    health: Health
    counters: Counters
    watch: "_RedisWatch"
    admin: Address | None
    parent: Parent | None
    stopping: Departure
    desk: Desk
    listen: list[Address]
    """Where this node listens; a port 0 is replaced by the one that it got, for the next incarnation."""

    def observe_exchange(self, seconds: float, requests: int) -> None:
        """Counts a batch that Redis has answered."""
        self.counters.redis_round_trip.observe(seconds)
        self.counters.redis_batch_items.observe(requests)


@dataclass(frozen=True, slots=True)
class Node:
    """The objects of a running node that its services share."""

    surroundings: Surroundings
    store: Store
    hub: Hub
    heartbeat: Heartbeat
    inbox: Inbox
    bells: Bells
    broadcast: Broadcast
    janitor: Janitor
    reaper: Reaper
    scrub: Scrub
    tasks: "_Tasks"
    info: NodeInfo
    shedder: Shedder


class _RedisWatch:
    """What the node knows of Redis being there, from its lane; monotonic seconds."""

    def __init__(self, health: Health, counters: Counters, limit_seconds: float) -> None:
        self._health = health
        self._counters = counters
        self._limit_seconds = limit_seconds
        self._away_since: float | None = None

    def __call__(self, status: StoreStatus) -> None:
        """The lane has lost Redis, or has it back."""
        if status.away_since is None:
            if self._away_since is not None:
                self._counters.redis_reconnects += 1
            self._counters.redis_away = 0
            self._health.redis_back()
        else:
            self._counters.redis_away = 1
            self._health.redis_away(status.reason)
        self._away_since = status.away_since

    def is_away_too_long(self) -> bool:
        """Whether clients are to be told."""
        return self._away_since is not None and time.monotonic() - self._away_since > self._limit_seconds


class _Following:
    """What the channel of interest says while what may have been missed is read from the store: that is
    newer."""

    def __init__(self, index: SubscriptionIndex, store: Store, hub: Callable[[], Hub]) -> None:
        self._index = index
        self._store = store
        self._hub = hub
        self._told: set[tuple[str, str]] = set()

    def take(self, node: str, added: list[str], removed: list[str]) -> None:
        """From the channel."""
        self._told.update((node, field) for field in (*added, *removed))
        on_interest(self._hub(), node, added, removed)

    async def catch_up(self) -> None:
        """The channel is listened to again."""
        self._told.clear()
        await load_unversioned(self._index, self._store, self._told)
        self._told.clear()


class _Tasks:
    """Short tasks of connections; each ends with the node. An error in one is logged and harms nobody."""

    def __init__(self) -> None:
        self._group: TaskGroup | None = None

    def open(self, group: TaskGroup) -> None:
        """Runs them in `group`."""
        self._group = group

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Starts one; nothing is started while the node stops."""
        if self._group is None:
            work.close()
            return
        self._group.start_soon(_run_logged, work)


async def run(settings: Settings, parent: Parent | None = None) -> int:
    """Runs a node until SIGTERM or SIGINT; the exit code. Raises StartError if it can't be started here."""
    stopping = Departure()
    desk = Desk()
    health = Health()
    counters = Counters(settings.node.name, __version__)
    watch = _RedisWatch(health, counters, settings.redis.away_limit_seconds)
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
                await _serve(_build(around, store, incarnation))
        except* NodeGone as gone:
            is_gone = True
            logger.error(
                "the cluster has declared this node dead: it starts again as another incarnation",
                extra={"incarnation": incarnation, "error": str(gone)},
            )
        if not is_gone:
            return 0
        around.health.starting()


def _build(around: Surroundings, store: Store, incarnation: str) -> Node:
    """Makes every object of the node; nothing runs yet."""
    settings = around.settings
    clock = Clock()
    index = SubscriptionIndex(incarnation)
    router = Router(
        index,
        clock,
        incarnation,
        settings.session.queue_limit,
        settings.session.queue_policy == "drop_oldest",
    )
    ingress = Ingress(router, clock, TokenSource(secrets.token_bytes(10)))
    changed: list[StoredSession] = []
    ready: list[Outbox] = []
    resumable: list[Intake] = []
    drops = Drops()
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    # These meet the hub in their callbacks only; it is made last.
    pulse = Pulse(lambda: committer.wake())
    inbox = Inbox(store, incarnation, pulse, lambda records: on_records(hub, records))
    bells = Bells(store, incarnation, lambda *rung: on_rung(hub, *rung), lambda *gone: on_kicked(hub, *gone))
    following = _Following(index, store, lambda: hub)
    broadcast = Broadcast(
        store, incarnation, lambda record: on_messages(hub, record), following.take, following.catch_up
    )

    def transmit() -> None:
        for node, record in router.transit.take_messages():
            broadcast.publish(node, record)

    committer = Committer(
        store,
        router,
        SessionWrites(changed, ingress, 2 * settings.mqtt.receive_maximum),
        index,
        drops,
        ready,
        resumable,
        CommitSurroundings(
            incarnation=incarnation,
            pulse=pulse,
            reassure=Reassurance(incarnation, pulse, bells, inbox),
            after_inbox=inbox.after,
            go_on=lambda: hub.go_on(),
            transmit=transmit,
            on_stale=lambda session: on_stale(hub, session),
            on_overrun=lambda session: on_overrun(hub, session),
            on_failed=lambda session, reason: on_failed(hub, session, reason),
            observe=around.observe_exchange,
        ),
    )
    tasks = _Tasks()
    hub = Hub(
        settings=_client_settings(settings),
        incarnation=incarnation,
        clock=clock,
        index=index,
        router=router,
        ingress=ingress,
        committer=committer,
        counters=around.counters,
        drops=drops,
        wheel=DeadlineWheel(asyncio.get_running_loop().time),
        changed=changed,
        ready=ready,
        resumable=resumable,
        handlers=HANDLERS,
        on_lost=on_lost,
        spawn=tasks.spawn,
        interest=Interest(),
        pulse=pulse,
        fights=Fights(settings.session.takeovers_per_minute),
        is_redis_away=around.watch.is_away_too_long,
        transmit=transmit,
        on_command=lambda command: carry_out(command),
    )
    info = NodeInfo(settings.node.name, __version__, admin=str(around.admin) if around.admin else None)
    heartbeat = Heartbeat(
        store,
        incarnation,
        partial(committer.ask, frees_memory=True),
        hub.set_redis_time,
        partial(_say_of_itself, info, hub, around.stopping),
    )
    shedder = Shedder(hub, settings.cluster.server_reference, settings.cluster.drain_clients_per_second)
    carry_out = commands.handler(
        lambda order: around.stopping.begin("asked to drain", moved=order.moved), shedder.shed
    )
    around.desk.control = Control(store, incarnation, carry_out)
    on_wills = partial(route_wills, hub, then=_nothing)
    on_ended = partial(_drop_ended, hub)
    janitor = Janitor(store, on_wills, on_ended)
    reaper = Reaper(store, on_wills, on_ended)
    return Node(
        around,
        store,
        hub,
        heartbeat,
        inbox,
        bells,
        broadcast,
        janitor,
        reaper,
        Scrub(store),
        tasks,
        info,
        shedder,
    )


def _say_of_itself(info: NodeInfo, hub: Hub, stopping: Departure) -> bytes:
    """What the others are told of this node with its life signs."""
    info.connections = len(hub.connections)
    info.sessions = len(hub.clients)
    info.draining = stopping.is_set()
    return info.pack()


def _client_settings(settings: Settings) -> ClientSettings:
    return ClientSettings(
        connection=ConnectionLimits(
            maximum_packet_size=settings.mqtt.maximum_packet_size,
            receive_maximum=settings.mqtt.receive_maximum,
            topic_alias_maximum=settings.mqtt.topic_alias_maximum,
            connect_timeout_seconds=settings.mqtt.connect_timeout_seconds,
        ),
        keep_alive_maximum_seconds=settings.mqtt.keep_alive_maximum_seconds,
        session_expiry_maximum_seconds=settings.mqtt.session_expiry_maximum_seconds,
        inflight_limit=settings.session.inflight_limit,
        direct_inflight_limit=settings.session.direct_inflight_limit,
        direct_queue_limit=settings.session.direct_queue_limit,
        drop_oldest=settings.session.queue_policy == "drop_oldest",
        outbound_buffer_bytes=settings.limits.outbound_buffer_bytes,
        inbound_unacknowledged_bytes=settings.limits.inbound_unacknowledged_bytes,
        subscriptions_maximum=settings.limits.subscriptions_per_session,
        topic_levels_maximum=settings.mqtt.topic_levels_maximum,
        qos2_retry_limit_seconds=settings.session.qos2_retry_limit_seconds,
        token_grace_seconds=TOKEN_GRACE_SECONDS,
        connections_maximum=settings.limits.connections_maximum or _file_limit() - _FILE_RESERVE,
    )


def _file_limit() -> int:
    """How many files this process may open, after asking for as many as it is allowed to ask for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


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
        _count(around.counters, hub)
        hub.after_input()


def _count(counters: Counters, hub: Hub) -> None:
    """Carries over what the compiled rooms count by themselves."""
    counters.subscriptions = hub.index.count
    counters.sessions = len(hub.clients)
    counters.sent_qos0, counters.sent_qos1, counters.sent_qos2 = hub.drops.sent
    dropped = dict(hub.drops.counts)
    statistics = hub.router.statistics  # what the store dropped, to make room in a queue or for want of it
    in_queues = statistics.dropped_oldest + statistics.dropped_new
    dropped["queue_full"] = dropped.get("queue_full", 0) + in_queues
    for reason, count in dropped.items():
        counters.messages_dropped.raise_to(reason, count)
    counters.received_qos0, counters.received_qos1, counters.received_qos2 = hub.ingress.received
    counters.connections_maximum = hub.settings.connections_maximum
    counters.redis_full = hub.committer.refusals


def _drop_ended(hub: Hub, ended: EndedSession) -> None:
    logger.info("session ended", extra={"client_id": ended.client_id})
    drop_rows(hub, ended.client_id, ended.rows)


async def _run_logged(work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except StoreError as error:
        logger.error("a task of a connection failed: %s", error)
    except Exception:  # the top of this task
        logger.exception("a task of a connection failed")


def _nothing() -> None:
    """Nobody waits for a will that the janitor or the reaper has found."""
