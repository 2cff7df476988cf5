"""What is there before Redis is, and outlives it: each incarnation of the node is made with it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.auth import EnhancedAuthenticator
from broker.client import Spans
from broker.guarding import Guarding
from broker.observability.health import Health
from broker.observability.metrics import Counters
from broker.settings import Address, ListenerSettings, Settings
from cluster.control import Desk
from cluster.drain import Departure
from cluster.kubernetes.environment import Whereabouts
from cluster.questions import Answerer
from cluster.store.lane import StoreStatus


class RedisWatch:
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

    def change(self, limit_seconds: float) -> None:
        """From now on."""
        self._limit_seconds = limit_seconds

    def is_away_too_long(self) -> bool:
        """Whether clients are to be told."""
        return self._away_since is not None and time.monotonic() - self._away_since > self._limit_seconds


@dataclass(frozen=True, slots=True)
class Parent:
    """The process that runs this node as one of several on the same addresses."""

    admin: Path
    """The unix socket that it asks for health and metrics; the node makes it."""
    tell_up: Callable[[], None]
    """Called when clients can connect. The parent tells people where."""
    tell_reread: Callable[[], None]
    """Called when somebody has had the settings read again here: the parent does so too."""


@dataclass(slots=True)
class Surroundings:
    """What is there before Redis is, and outlives it."""

    settings: Settings
    """In force: of what is live there may be newer ones, all the time."""
    health: Health
    counters: Counters
    watch: RedisWatch
    admin: Sequence[Address]
    parent: Parent | None
    stopping: Departure
    desk: Desk
    place: Whereabouts
    authenticators: Mapping[str, EnhancedAuthenticator]
    """Authentication Methods by name."""
    guarding: Guarding
    listeners: list[ListenerSettings]
    """Where this node listens; a port 0 is replaced by the one that it got, for the next incarnation."""
    spans: Spans | None
    answerers: dict[str, Answerer] = field(default_factory=dict)
    """What may be asked of every incarnation."""
    adopt: Callable[[frozenset[str]], None] | None = None
    """Has the incarnation that runs, if one does, go by the settings of these names as they are now."""

    def observe_exchange(self, seconds: float, requests: int) -> None:
        """Counts a batch that Redis has answered."""
        self.counters.redis_round_trip.observe(seconds)
        self.counters.redis_batch_items.observe(requests)
        if self.spans is not None:
            self.spans.observe_exchange(seconds)
