"""Makes what a node needs where not all is acknowledged as soon as it is stored: a confirmer for each level
that may be asked for."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

from broker.client import Hub
from broker.observability.durability import LevelStatus
from broker.routing import Settling, TopicLevels
from broker.session import (
    STORED,
    Confirmation,
    Confirmations,
    is_fsynced,
    level_name,
    make_level,
    replicas_of,
    stronger,
)
from broker.settings import ListenerSettings, Settings, parse_level
from cluster.confirmer import Confirmer
from cluster.store import keys
from cluster.store.confirm import Need
from cluster.store.embedded import PrivateRedis
from cluster.store.store import Store


def level_of(text: str) -> int:
    """A level as settings have it."""
    replicas, is_on_disk = parse_level(text)
    return make_level(replicas, is_on_disk)


def listener_level(settings: Settings, listener: ListenerSettings) -> int:
    """At which what the clients of a listener do is acknowledged."""
    return level_of(listener.durability or settings.node.durability)


def levels_in_use(levels: Iterable[int]) -> list[int]:
    """Those above `stored` that anything may be asked at: each, and what several of them together are."""
    found = {STORED}
    for level in levels:
        found |= {stronger(level, other) for other in found}
    return sorted(found - {STORED})


def configured_levels(settings: Settings) -> list[int]:
    """Those above `stored` that a node with these settings may ask for."""
    of_topics = [level_of(rule.level) for rule in settings.topics.durability]
    of_listeners = [listener_level(settings, listener) for listener in settings.all_listeners()]
    return levels_in_use([*of_topics, *of_listeners])


def private_redis(settings: Settings) -> PrivateRedis:
    """A server of the node's own, which can give it the levels that it may ask for."""
    must_fsync = any(is_fsynced(level) for level in configured_levels(settings))
    return PrivateRedis(settings.node.data_dir, is_fsynced=must_fsync)


@dataclass(frozen=True, slots=True)
class Durability:
    """Of a node."""

    confirmations: Confirmations
    confirmers: dict[int, Confirmer]
    statuses: dict[int, LevelStatus]

    def services(self) -> Sequence[Callable[[], Coroutine[object, object, None]]]:
        """What runs as long as the node is a member."""
        return [confirmer.run for confirmer in self.confirmers.values()]

    def count(self) -> None:
        """How much waits now."""
        for level, status in self.statuses.items():
            status.waiting = self.confirmations.waiting(level)


def make_durability(settings: Settings, store: Store, hub: Hub) -> Durability | None:
    """Makes it, and has the hub and its router know of it; None if all is acknowledged when it is stored."""
    in_use = configured_levels(settings)
    hub.counters.durability = []
    if not in_use:
        return None
    by_topic = TopicLevels(_by_filter(settings))
    confirmers: dict[int, Confirmer] = {}
    strongest = reduce(stronger, in_use)
    confirmations = Confirmations(by_topic.of, strongest, lambda level: confirmers[level].want())
    committer = hub.committer

    def keep(confirmation: Confirmation) -> None:
        hub.tick()
        confirmations.keep(confirmation)
        committer.resume_reading()
        hub.after_input()

    statuses = {level: LevelStatus(level_name(level)) for level in in_use}
    for level in in_use:
        confirmers[level] = Confirmer(
            Need(replicas_of(level), is_fsynced(level)),
            partial(keys.fence, store.prefix, node=settings.node.name, level=level_name(level)),
            store.seats,
            store.look_again,
            partial(confirmations.take, level),
            keep,
            committer.look_for_primary,
            statuses[level],
            settings.redis.exchange_timeout_seconds,
        )
    confirmations.when_kept = committer.note_kept
    hub.confirmations = confirmations
    hub.router.settling = Settling(confirmations, hub.router.spent)
    hub.counters.durability = list(statuses.values())
    return Durability(confirmations, confirmers, statuses)


def _by_filter(settings: Settings) -> dict[str, int]:
    """A filter may be there twice."""
    levels: dict[str, int] = {}
    for rule in settings.topics.durability:
        levels[rule.filter] = stronger(levels.get(rule.filter, STORED), level_of(rule.level))
    return levels
