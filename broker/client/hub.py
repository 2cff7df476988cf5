"""What all connections of a node share."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from broker.auth import EnhancedAuthenticator
from broker.client.banning import Banning
from broker.client.deadlines import DeadlineWheel
from broker.client.fights import Fights
from broker.client.guard import Guard
from broker.client.members import Members
from broker.client.rewriting import Rewriting
from broker.client.topic_limits import TopicLimits
from broker.mqtt import (
    Capabilities,
    ConnectionLimits,
    Packet,
)
from broker.observability.events import Events
from broker.observability.logs import get_logger
from broker.observability.metrics import Counters
from broker.observability.offences import Offences
from broker.routing import Committer, Ingress, Interest, Router, SubscriptionIndex
from broker.session import Changes, Clock, Confirmations, Drops, Intake, Outbox
from broker.settings import TopicSettings
from cluster.pulse import Pulse
from cluster.store.inbox_records import Command
from cluster.store.shares import Policy

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client
    from broker.client.replaying import Replay
    from broker.client.tracing import Tracing

_PAGES_AT_A_TIME: Final = 2
_ALONE_SECONDS: Final = 0.0001
"""What comes so long after all else has nothing to share a write or an exchange with, and is not kept for the
next turn of the event loop. That was 5 us of the 28 between reading a message and writing it."""

logger = get_logger(__name__)


@dataclass(frozen=True)
class ClientSettings:
    """What holds for every connection of a node; see `broker.settings` for units and reasons."""

    connection: ConnectionLimits
    keep_alive_maximum_seconds: int
    session_expiry_maximum_seconds: int
    inflight_limit: int
    direct_inflight_limit: int
    direct_queue_limit: int
    direct_queue_bytes: int
    drop_oldest: bool
    outbound_buffer_bytes: int
    inbound_unacknowledged_bytes: int
    subscriptions_maximum: int
    filters_maximum: int
    stalled_seconds: float
    topic_levels_maximum: int
    sent_topic_aliases_maximum: int
    qos2_retry_limit_seconds: int
    token_grace_seconds: int
    connections_maximum: int
    queue_limit: int
    queue_bytes: int
    shared_inflight_limit: int
    sharing: Policy
    topics: TopicSettings
    capabilities: Capabilities
    response_information: str | None


@dataclass(slots=True)
class Hub:
    """What all connections of a node share. Built by `broker.node`, which fills the tables of flows.

    While the node is in doubt (`pulse`), what comes in is held: the sessions it is for may be another node's.
    `confirmations`: what replicas and disk have; None if nobody has to wait for that.
    """

    settings: ClientSettings
    incarnation: str
    clock: Clock
    index: SubscriptionIndex
    router: Router
    ingress: Ingress
    committer: Committer
    counters: Counters
    offences: Offences
    drops: Drops
    wheel: DeadlineWheel
    changed: Changes
    ready: list[Outbox]
    resumable: list[Intake]
    handlers: "Mapping[type[Packet], Callable[[Client, Packet], None]]"
    on_lost: "Callable[[Client, str], None]"
    spawn: Callable[[Coroutine[object, object, None]], None]
    interest: Interest
    pulse: Pulse
    fights: Fights
    banning: Banning
    is_redis_away: Callable[[], bool]
    on_command: Callable[[Command], None]
    authenticators: Mapping[str, EnhancedAuthenticator] = field(default_factory=dict)
    redis_offset_ms: int = 0
    clients: "dict[str, Client]" = field(default_factory=dict)
    connections: "set[Client]" = field(default_factory=set)
    detaching: "dict[str, Client]" = field(default_factory=dict)
    """Whose sessions are being given back to the store."""
    replays: "dict[Client, list[Replay]]" = field(default_factory=dict)
    """Those that put retained messages into queues, of clients connected here."""
    primary_changes: int = 0
    """How often another primary of Redis has come."""
    direct_sessions: int = 0
    rewriting: Rewriting | None = None
    topic_limits: TopicLimits | None = None
    events: Events = field(default_factory=Events)
    guard: Guard | None = None
    tracing: "Tracing | None" = None
    confirmations: Confirmations | None = None
    is_stopping: bool = False
    flush_scheduled: bool = False
    busy_at: float = 0.0
    """When something was last fed in or written, monotonic seconds."""
    members: Members = field(default_factory=Members)
    held: "list[Callable[[], None]]" = field(default_factory=list)
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    pages: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PAGES_AT_A_TIME))

    def tick(self) -> float:
        """Brings the clock of the core up to date, and notices a gap; monotonic seconds."""
        self.pulse.look()
        now = time.monotonic()
        self.clock.now_ms = int(now * 1000) + self.redis_offset_ms
        return now

    def refuses_address(self, address: str) -> bool:
        """Whether nobody from there comes in."""
        return self.banning.refuses_address(address, self.clock.now_ms)

    def dropped(self) -> dict[str, int]:
        """Messages that did not reach a session, by reason."""
        dropped = dict(self.drops.counts)
        # What the store dropped, to make room in a queue or for want of it.
        statistics = self.router.statistics
        in_queues = statistics.dropped_oldest + statistics.dropped_new
        dropped["queue_full"] = dropped.get("queue_full", 0) + in_queues
        return dropped

    def set_redis_time(self, offset_ms: int) -> None:
        """From the monotonic clock of this node to the time of Redis."""
        self.redis_offset_ms = offset_ms

    def after_input(self, now: float = 0.0) -> None:
        """To be called when something was fed into the core: sees to it that what came out is written and
        stored. `now`: when it came, if that is all that was fed in by the caller."""
        is_alone = now > self.busy_at + _ALONE_SECONDS
        if is_alone:
            self.busy_at = now
        if self.ready or self.router.transit.waiting:
            if is_alone:
                self._flush()
            elif not self.flush_scheduled:
                self.flush_scheduled = True
                asyncio.get_running_loop().call_soon(self._flush)
        if self.changed.is_urgent or self.router.incoming:
            self.committer.wake(is_alone)
        elif self.changed.sessions:
            self.committer.linger()

    def hold(self, action: Callable[[], None]) -> None:
        """Something has come in while the node is in doubt."""
        self.held.append(action)

    def when_sure(self, action: Callable[[], None]) -> None:
        """Does what somebody has been asked about: when the node is not in doubt."""
        self.tick()
        if self.pulse.in_doubt:
            self.hold(partial(self.when_sure, action))
            return
        action()
        self.after_input()

    def go_on(self) -> None:
        """The doubt is settled: does what was held, in order."""
        held, self.held = self.held, []
        for action in held:
            try:
                action()
            except Exception:  # each is of one connection: our bug must not harm the others
                logger.exception("what was held was not done")
        self.after_input()

    def _flush(self) -> None:
        self.flush_scheduled = False
        self.committer.flush()
        self.busy_at = time.monotonic()
