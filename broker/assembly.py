"""The composition root: makes every object of a node and ties them together. Nothing here runs by itself.

Some of them need each other: what comes from the store goes to the hub, which sends to the store. Whoever is
made before the hub gets a function that finds it, to be called once the node runs."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from broker import __version__
from broker.auth.ban_list import BanList
from broker.client import (
    HANDLERS,
    Banning,
    DeadlineWheel,
    Fights,
    Hub,
    Pressure,
    Rewriting,
    Shedder,
    drop_rows,
    on_bans_added,
    on_failed,
    on_given,
    on_interest,
    on_kicked,
    on_lost,
    on_messages,
    on_overrun,
    on_records,
    on_rung,
    on_stale,
    probe,
    reclaim_all,
    route_wills,
    tell_session_ended,
)
from broker.client_settings import capabilities, client_settings, sharing
from broker.durability import Durability, make_durability
from broker.forwarding import EventMessages, event_messages, queue_limits
from broker.limiting import make_admission, make_banning, make_pressure, topic_limits
from broker.listeners import Admission
from broker.observability.logs import get_logger
from broker.observability.metrics import Counters
from broker.observability.offences import Offences
from broker.operating import Operations, make_operations
from broker.routing import (
    CommitSurroundings,
    Committer,
    GroupCommit,
    Ingress,
    Interest,
    Router,
    SessionWrites,
    SubscriptionIndex,
    Timing,
    load_unversioned,
)
from broker.session import Changes, Clock, Drops, Intake, Outbox, TokenSource
from broker.settings import Settings, advertised
from broker.surroundings import Surroundings
from broker.tasks import Tasks
from cluster import commands
from cluster.bans import BanBook, BanFollower
from cluster.bells import Bells
from cluster.broadcast import Broadcast
from cluster.control import Control
from cluster.drain import Departure
from cluster.heartbeat import Heartbeat
from cluster.inbox import Inbox
from cluster.janitor import Janitor
from cluster.kubernetes.environment import Whereabouts
from cluster.node_info import NodeInfo
from cluster.pulse import Pulse
from cluster.questions import Answering
from cluster.reaper import Reaper
from cluster.reassurance import Reassurance
from cluster.renewal import Renewal, Renewed
from cluster.scrub import Scrub
from cluster.store.deadlines import EndedSession
from cluster.store.inbox_records import Command
from cluster.store.store import Store

logger = get_logger(__name__)


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


@dataclass(frozen=True, slots=True)
class Node:
    """The objects of a running node that its services share."""

    surroundings: Surroundings
    store: Store
    hub: Hub
    group_commit: GroupCommit
    heartbeat: Heartbeat
    inbox: Inbox
    bells: Bells
    broadcast: Broadcast
    janitor: Janitor
    reaper: Reaper
    scrub: Scrub
    tasks: Tasks
    info: NodeInfo
    shedder: Shedder
    admission: Admission
    pressure: Pressure
    bans: BanFollower
    operations: Operations
    durability: Durability | None


@dataclass(frozen=True, slots=True)
class _Routing:
    """The core: what becomes of a message, without any I/O. Sessions and connections put themselves on the
    lists."""

    clock: Clock
    index: SubscriptionIndex
    router: Router
    ingress: Ingress
    drops: Drops
    changed: Changes
    ready: list[Outbox]
    resumable: list[Intake]


@dataclass(frozen=True, slots=True)
class _Links:
    """What ties the node to the others."""

    pulse: Pulse
    inbox: Inbox
    bells: Bells
    broadcast: Broadcast


def build(around: Surroundings, store: Store, incarnation: str) -> Node:
    """Makes every object of the node; nothing runs yet."""
    settings = around.settings
    made: list[Hub] = []

    def hub_of() -> Hub:
        return made[0]

    events = event_messages(settings.forwards, hub_of)
    routing = _routing(settings, incarnation, events)
    links = _links(store, incarnation, routing, hub_of)

    def transmit() -> None:
        for node, record in routing.router.transit.take_messages():
            links.broadcast.publish(node, record)

    committer = _committer(around, store, incarnation, routing, links, hub_of, transmit)
    tasks = Tasks()
    answerers = dict(around.answerers)
    on_command = commands.handler(
        lambda order: around.stopping.begin("asked to drain", moved=order.moved),
        lambda order: shedder.shed(order),
        Answering(store, incarnation, answerers, tasks.spawn).take,
        on_unknown=lambda: around.counters.unknown_records.add("command"),
    )
    bans = BanList()
    banning = make_banning(settings.bans, bans, around.counters.bans, tasks.spawn, BanBook(store))
    hub = _hub(around, incarnation, routing, links, committer, tasks, on_command, banning)
    made.append(hub)
    if events.wants_clients:
        hub.events.add(events.on_event)
    shedder = Shedder(hub, settings.cluster.server_reference, settings.cluster.drain_clients_per_second)
    admission = make_admission(settings.limits, hub.settings.connections_maximum, hub.offences)
    admin = advertised(around.admin, around.place.pod_ip)
    info = NodeInfo(settings.node.name, __version__, admin=str(admin) if admin else None)
    heartbeat = _heartbeat(around, store, hub, info)
    control = around.desk.control = Control(store, incarnation, on_command, answerers)
    operations = make_operations(around, hub, control, store, info, heartbeat, answerers)
    janitor, reaper = _tidying(store, hub)
    return Node(
        around,
        store,
        hub,
        GroupCommit(committer, store, routing.index),
        heartbeat,
        links.inbox,
        links.bells,
        links.broadcast,
        janitor,
        reaper,
        Scrub(store),
        tasks,
        info,
        shedder,
        admission,
        make_pressure(settings.limits, hub, admission, around.health),
        BanFollower(store, bans, partial(on_bans_added, hub)),
        operations,
        make_durability(settings, store, hub),
    )


def _tidying(store: Store, hub: Hub) -> tuple[Janitor, Reaper]:
    """Those who find what is due, and what a dead node has left."""
    on_wills = partial(route_wills, hub, then=_nothing)
    on_ended = partial(_drop_ended, hub)
    return Janitor(store, on_wills, on_ended, hub.router.retained_room.look), Reaper(
        store, on_wills, on_ended
    )


def _heartbeat(around: Surroundings, store: Store, hub: Hub, info: NodeInfo) -> Heartbeat:
    return Heartbeat(
        store,
        hub.incarnation,
        partial(hub.committer.ask, frees_memory=True),
        hub.set_redis_time,
        partial(_say_of_itself, info, hub, around.stopping, around.place),
    )


def _routing(settings: Settings, incarnation: str, events: EventMessages) -> _Routing:
    clock = Clock()
    reports = events.reports
    index = SubscriptionIndex(incarnation)
    router = Router(
        index,
        clock,
        incarnation,
        settings.session.queue_limit,
        settings.session.queue_policy == "drop_oldest",
        sharing(settings),
        settings.limits.retained_messages,
        queue_limits(settings.forwards),
        events.on_overflow if events.wants_drops else None,
        settings.session.queue_bytes,
    )
    ingress = Ingress(router, clock, TokenSource(secrets.token_bytes(10)), capabilities(settings))
    return _Routing(clock, index, router, ingress, reports or Drops(), Changes(), [], [])


def _links(store: Store, incarnation: str, routing: _Routing, hub_of: Callable[[], Hub]) -> _Links:
    pulse = Pulse(lambda: hub_of().committer.wake())
    following = _Following(routing.index, store, hub_of)
    return _Links(
        pulse,
        Inbox(store, incarnation, pulse, lambda records: on_records(hub_of(), records)),
        Bells(
            store,
            incarnation,
            lambda client_id, n: on_rung(hub_of(), client_id, n),
            lambda client_id, epoch: on_kicked(hub_of(), client_id, epoch),
        ),
        Broadcast(
            store,
            incarnation,
            lambda record: on_messages(hub_of(), record),
            following.take,
            following.catch_up,
        ),
    )


def _committer(
    around: Surroundings,
    store: Store,
    incarnation: str,
    routing: _Routing,
    links: _Links,
    hub_of: Callable[[], Hub],
    transmit: Callable[[], None],
) -> Committer:
    receive_limit = 2 * around.settings.mqtt.receive_maximum
    return Committer(
        store.lane,
        routing.router,
        SessionWrites(routing.changed, routing.ingress, receive_limit, sharing(around.settings)),
        routing.index,
        routing.drops,
        routing.ready,
        routing.resumable,
        CommitSurroundings(
            incarnation=incarnation,
            pulse=links.pulse,
            renew=_renewal(around, store, incarnation, links, hub_of),
            reassure=Reassurance(incarnation, links.pulse, links.bells, links.inbox),
            after_inbox=links.inbox.after,
            go_on=lambda: hub_of().go_on(),
            transmit=transmit,
            on_given=lambda given: on_given(hub_of(), given),
            on_stale=lambda session: on_stale(hub_of(), session),
            on_overrun=lambda session: on_overrun(hub_of(), session),
            on_failed=lambda session, reason: on_failed(hub_of(), session, reason),
            observe=around.observe_exchange,
            timing=_timing(around.counters, routing.drops, hub_of),
        ),
    )


def _renewal(
    around: Surroundings, store: Store, incarnation: str, links: _Links, hub_of: Callable[[], Hub]
) -> Renewal:
    renewal = Renewal(
        incarnation,
        store.primaries,
        links.inbox,
        lambda ask, slots: reclaim_all(hub_of(), ask, slots),
        partial(_count_renewed, around.counters),
    )
    renewal.on_another_primary.append(store.renew)
    return renewal


def _count_renewed(counters: Counters, renewed: Renewed) -> None:
    counters.primary_changes += 1
    counters.reclaimed.add("kept", renewed.kept)
    counters.reclaimed.add("made_again", renewed.made_again)
    counters.reclaimed.add("lost", renewed.lost)
    counters.reclaimed.add("given_back", renewed.given_back)
    counters.recovered.add("settled", renewed.settled)
    counters.recovered.add("exchange", renewed.differing)
    counters.recovered.add("missing", renewed.missing)


def _timing(counters: Counters, drops: Drops, hub_of: Callable[[], Hub]) -> Timing:
    return Timing(
        drops,
        delivered_direct=counters.delivery_latency["direct"].observe,
        delivered_stored=counters.delivery_latency["stored"].observe,
        acknowledged=counters.acknowledgement_latency.observe,
        probe=lambda ready: probe(hub_of(), ready),
    )


def _hub(
    around: Surroundings,
    incarnation: str,
    routing: _Routing,
    links: _Links,
    committer: Committer,
    tasks: Tasks,
    on_command: Callable[[Command], None],
    banning: Banning,
) -> Hub:
    settings = around.settings
    return Hub(
        settings=client_settings(settings),
        incarnation=incarnation,
        clock=routing.clock,
        index=routing.index,
        router=routing.router,
        ingress=routing.ingress,
        committer=committer,
        counters=around.counters,
        offences=Offences(around.counters),
        drops=routing.drops,
        wheel=DeadlineWheel(asyncio.get_running_loop().time),
        changed=routing.changed,
        ready=routing.ready,
        resumable=routing.resumable,
        handlers=HANDLERS,
        on_lost=on_lost,
        spawn=tasks.spawn,
        interest=Interest(),
        pulse=links.pulse,
        fights=Fights(settings.session.takeovers_per_minute),
        banning=banning,
        is_redis_away=around.watch.is_away_too_long,
        on_command=on_command,
        authenticators=around.authenticators,
        guard=around.guarding.guard,
        rewriting=Rewriting(settings.topics.rewrite) if settings.topics.rewrite else None,
        topic_limits=topic_limits(settings.limits),
    )


def _say_of_itself(info: NodeInfo, hub: Hub, stopping: Departure, place: Whereabouts) -> bytes:
    """What the others are told of this node with its life signs."""
    info.connections = len(hub.connections)
    info.sessions = len(hub.clients)
    info.draining = stopping.is_set()
    info.kubernetes_node = place.kubernetes_node
    info.zone = place.zone
    info.direct_sessions = hub.direct_sessions
    info.direct_subscriptions = hub.index.direct_count
    info.messages_received = sum(hub.ingress.received)
    info.messages_sent = sum(hub.drops.sent)
    info.bytes_received = hub.counters.bytes_received
    info.bytes_sent = hub.counters.bytes_sent
    info.said_ms = hub.clock.now_ms
    info.queued = hub.counters.soundings.queue_entries
    info.backlog = hub.counters.soundings.backlog_messages
    return info.pack()


def _drop_ended(hub: Hub, ended: EndedSession) -> None:
    logger.info("session ended", extra={"client_id": ended.client_id})
    tell_session_ended(hub, ended.client_id)
    drop_rows(hub, ended.client_id, ended.rows)


def _nothing() -> None:
    """Nobody waits for a will that the janitor or the reaper has found."""
