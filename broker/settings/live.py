"""Which settings may change while a node runs, and what of newly read settings may so be taken over.

What sockets, files, plug-ins, other nodes or sessions in Redis have been made with needs a restart. What a
connection or session is made with counts for those who come after the change.
"""

from collections.abc import Iterator
from typing import Final

from broker.settings.root import Settings
from broker.settings.source import TABLES, dump

LIVE: Final = frozenset(
    {
        "node.log_level",
        "node.shutdown_timeout_seconds",
        "redis.away_limit_seconds",
        "mqtt.keep_alive_maximum_seconds",
        "mqtt.response_information",
        "mqtt.sent_topic_aliases_maximum",
        "mqtt.sys_interval_seconds",
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
        "session.takeovers_per_minute",
        "limits.connections_maximum",
        "limits.connections_per_address",
        "limits.connects_per_second",
        "limits.connects_per_second_per_address",
        "limits.filters_per_packet",
        "limits.half_open_connections",
        "limits.inbound_unacknowledged_bytes",
        "limits.outbound_buffer_bytes",
        "limits.retained_messages",
        "limits.stalled_seconds",
        "limits.subscriptions_per_session",
        "limits.topic_bytes",
        "limits.topic_levels",
        "topics.auto_subscribe",
        "topics.delayed_limit",
        "topics.delayed_maximum_seconds",
        "alarms.certificate_days",
        "alarms.cpu_share",
        "alarms.drops_per_second",
        "alarms.loop_lag_seconds",
        "alarms.qos2_exchange_seconds",
        "alarms.queue_share",
        "alarms.redis_latency_seconds",
        "alarms.redis_memory_share",
        "bans.exempt",
        "bans.flap_ban_seconds",
        "bans.flap_limit",
        "bans.flap_window_seconds",
        "bans.guess_ban_seconds",
        "bans.guess_limit",
        "bans.guess_window_seconds",
        "cluster.drain_clients_per_second",
        "cluster.drain_pause_seconds",
        "cluster.rebalance_clients_per_minute",
        "cluster.rebalance_quiet_seconds",
        "cluster.rebalance_tolerance",
        "cluster.server_reference",
    }
)


def changed(before: Settings, after: Settings) -> list[str]:
    """Names of those that differ; a listener or forward counts as one, `listeners.NAME`."""
    return list(_changed(before, after))


def _changed(before: Settings, after: Settings) -> Iterator[str]:
    old, new = dump(before), dump(after)
    for group, fields in new.items():
        was = old[group]
        assert isinstance(fields, dict)
        assert isinstance(was, dict)
        for name in sorted({*fields, *was}) if group in TABLES else fields:
            if was.get(name) != fields.get(name):
                yield f"{group}.{name}"


def with_live(settings: Settings, source: Settings) -> Settings:
    """The settings, with the live ones of `source`."""
    taken: dict[str, dict[str, object]] = {}
    for setting in LIVE:
        group, _, field = setting.partition(".")
        taken.setdefault(group, {})[field] = getattr(getattr(source, group), field)
    groups = {group: getattr(settings, group).model_copy(update=fields) for group, fields in taken.items()}
    return settings.model_copy(update=groups)


def value_of(settings: Settings, name: str) -> object:
    """As JSON knows it, of a live one."""
    group, _, field = name.partition(".")
    found = dump(settings)[group]
    assert isinstance(found, dict)
    return found[field]
