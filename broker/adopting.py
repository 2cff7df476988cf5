"""Has a node that runs go by other settings, as far as they are live. One line of `_SETTERS` for each place
where values were handed out; what is read of the settings when it is needed stands in `_AT_USE`.
"""

from collections.abc import Callable
from typing import Final

from broker.assembly import Node
from broker.client_settings import client_settings
from broker.limiting import admission_limits, ban_rules, topic_limits
from broker.observability.alarms import rules_with
from broker.settings import AlarmSettings, Settings

Setter = Callable[[Node, Settings], None]


def adopt(node: Node, names: frozenset[str]) -> None:
    """The settings of these names have changed."""
    for concerned, setter in _SETTERS:
        if not concerned.isdisjoint(names):
            setter(node, node.surroundings.settings)


def _clients(node: Node, settings: Settings) -> None:
    node.hub.settings = client_settings(settings)


def _queues(node: Node, settings: Settings) -> None:
    session = settings.session
    drops_oldest = session.queue_policy == "drop_oldest"
    node.hub.router.limit_queues(session.queue_limit, session.queue_bytes, drops_oldest)


def _retained(node: Node, settings: Settings) -> None:
    node.hub.router.retained_room.limit(settings.limits.retained_messages)


def _admission(node: Node, settings: Settings) -> None:
    node.admission.change(admission_limits(settings.limits, node.hub.settings.connections_maximum))


def _topics(node: Node, settings: Settings) -> None:
    node.hub.topic_limits = topic_limits(settings.limits)


def _fights(node: Node, settings: Settings) -> None:
    node.hub.fights.change(settings.session.takeovers_per_minute)


def _bans(node: Node, settings: Settings) -> None:
    node.hub.banning.change(ban_rules(settings.bans))


def _shedder(node: Node, settings: Settings) -> None:
    cluster = settings.cluster
    node.shedder.change(cluster.server_reference, cluster.drain_clients_per_second)


def _redis(node: Node, settings: Settings) -> None:
    node.surroundings.watch.change(settings.redis.away_limit_seconds)


def _alarms(node: Node, settings: Settings) -> None:
    node.operations.alarming.change(rules_with(settings.alarms.model_dump()))


def _sys_topics(node: Node, settings: Settings) -> None:
    node.operations.sys_topics.change(settings.mqtt.sys_interval_seconds)


_CLIENTS: Final = frozenset(
    {
        "mqtt.keep_alive_maximum_seconds",
        "mqtt.response_information",
        "mqtt.sent_topic_aliases_maximum",
        "mqtt.topic_levels_maximum",
        "session.direct_inflight_limit",
        "session.direct_queue_bytes",
        "session.direct_queue_limit",
        "session.inflight_limit",
        "session.qos2_retry_limit_seconds",
        "session.queue_bytes",
        "session.queue_limit",
        "session.queue_policy",
        "session.shared_inflight_limit",
        "limits.connections_maximum",
        "limits.filters_per_packet",
        "limits.inbound_unacknowledged_bytes",
        "limits.outbound_buffer_bytes",
        "limits.stalled_seconds",
        "limits.subscriptions_per_session",
        "topics.auto_subscribe",
        "topics.delayed_limit",
        "topics.delayed_maximum_seconds",
    }
)
_ADMISSION: Final = frozenset(
    {
        "limits.connections_maximum",
        "limits.connections_per_address",
        "limits.connects_per_second",
        "limits.connects_per_second_per_address",
        "limits.half_open_connections",
    }
)
_BANS: Final = frozenset(
    {
        "bans.exempt",
        "bans.flap_ban_seconds",
        "bans.flap_limit",
        "bans.flap_window_seconds",
        "bans.guess_ban_seconds",
        "bans.guess_limit",
        "bans.guess_window_seconds",
    }
)
_SETTERS: Final[tuple[tuple[frozenset[str], Setter], ...]] = (
    (_CLIENTS, _clients),
    (frozenset({"session.queue_bytes", "session.queue_limit", "session.queue_policy"}), _queues),
    (frozenset({"limits.retained_messages"}), _retained),
    (_ADMISSION, _admission),  # behind _clients, which knows how many files there may be
    (frozenset({"limits.topic_levels", "limits.topic_bytes"}), _topics),
    (frozenset({"session.takeovers_per_minute"}), _fights),
    (_BANS, _bans),
    (frozenset({"cluster.server_reference", "cluster.drain_clients_per_second"}), _shedder),
    (frozenset({"redis.away_limit_seconds"}), _redis),
    (frozenset({"mqtt.sys_interval_seconds"}), _sys_topics),
    (frozenset(f"alarms.{name}" for name in AlarmSettings.model_fields), _alarms),
)
_AT_USE: Final = frozenset({"node.shutdown_timeout_seconds", "cluster.drain_pause_seconds"})
_OF_PROCESS: Final = frozenset({"node.log_level"})
_OF_CHORES: Final = frozenset(
    {
        "cluster.rebalance_clients_per_minute",
        "cluster.rebalance_quiet_seconds",
        "cluster.rebalance_tolerance",
    }
)
"""Whose settings they are: beside serving, once a process."""
ADOPTED: Final = (
    frozenset[str]().union(*(names for names, _ in _SETTERS)) | _AT_USE | _OF_PROCESS | _OF_CHORES
)
