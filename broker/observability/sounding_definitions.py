"""The metrics of what a node finds out by looking now and then: a part of `definitions`."""

from collections.abc import Callable
from typing import Final

from broker.observability.definition import Definition, Kind, Reading
from broker.observability.metrics import Counters
from broker.observability.sounding import Soundings


def _gauge(name: str, help: str, read: Callable[[Counters], Reading], *labels: str) -> Definition[Counters]:
    return Definition("gauge", f"moorline_{name}", help, read, labels)


def _sounding(
    name: str, help: str, read: Callable[[Soundings], float | None], *, kind: Kind = "gauge"
) -> Definition[Counters]:
    return Definition(kind, f"moorline_{name}", help, lambda c: read(c.soundings))


SOUNDINGS: Final = (
    _gauge(
        "qos2_open",
        "QoS 2 exchanges of connected clients that are under way, by direction (in: the client is the"
        " publisher) and phase. In: received (PUBREC is owed), routed (PUBREL is awaited), releasing"
        " (PUBCOMP is owed). Out: sent (PUBREC is awaited), storing (PUBREC is being stored), released"
        " (PUBCOMP is awaited). Looked at each 2 s, 10,000 clients a second.",
        lambda c: c.soundings.exchanges.items(),
        "direction",
        "phase",
    ),
    _gauge(
        "qos2_oldest_seconds",
        "Age of the oldest of them, by direction, from when this connection was first seen with it; 0: none."
        " Of a publisher that always uses the same Packet Identifier: for how long it has been in one phase.",
        lambda c: c.soundings.oldest_exchange.items(),
        "direction",
    ),
    _gauge(
        "backlog_messages",
        "Messages that wait in the node's memory for sessions that end with their connection; looked at each"
        " 2 s.",
        lambda c: c.soundings.backlog_messages,
    ),
    _gauge(
        "backlog_fullest_ratio",
        "The fullest of these backlogs, as a share of session.direct_queue_limit.",
        lambda c: c.soundings.backlog_fullest,
    ),
    _sounding(
        "queue_entries",
        "Messages in the queues of persistent sessions in this node's part of the buckets: the sum over all"
        " nodes is that of the cluster. Sent and not yet acknowledged messages are among them. A look at all"
        " takes 2 s, or as long as its 4,000 queues a second take.",
        lambda s: s.queue_entries,
    ),
    _sounding(
        "queues_nearly_full",
        "Queues in this node's part that are 80 % full or more (of session.queue_limit).",
        lambda s: s.queues_nearly_full,
    ),
    _sounding(
        "queue_fullest_ratio",
        "The fullest queue in this node's part, as a share of session.queue_limit; as of the last whole"
        " look, or of this one if it has found a fuller one.",
        lambda s: s.queue_fullest,
    ),
    _sounding(
        "beat_age_seconds",
        "Time since Redis has answered this node's last life sign; one is due each second.",
        lambda s: s.beat_age,
    ),
    _sounding(
        "others_beat_age_seconds",
        "Life sign of the node that was not seen for the longest, this one aside, in ticks of the cluster:"
        " seconds, about. From 5 on it is dead, and reaped.",
        lambda s: s.others_beat_age,
    ),
    _sounding(
        "redis_memory_used_bytes", "Memory that Redis uses (used_memory).", lambda s: s.redis_memory_used
    ),
    _sounding(
        "redis_memory_maximum_bytes",
        "Memory that Redis may use (maxmemory); 0: no limit.",
        lambda s: s.redis_memory_maximum,
    ),
    _sounding(
        "redis_delayed_fsync",
        "Writes of the append-only file that had to wait for the disk (aof_delayed_fsync); since the start"
        " of Redis.",
        lambda s: s.redis_delayed_fsync,
        kind="counter",
    ),
    _sounding(
        "redis_file_failed",
        "1 if Redis could not write its append-only file the last time, or not rewrite it.",
        lambda s: s.redis_file_failed,
    ),
    _sounding("redis_replicas", "Replicas that are connected to Redis.", lambda s: s.redis_replicas),
    _gauge(
        "redis_primary_info",
        "1, by the address of the Redis server in use: with Sentinel, the primary as this node knows it.",
        lambda c: [(c.soundings.redis_primary, 1)] if c.soundings.redis_primary else [],
        "address",
    ),
    _sounding(
        "redis_switches",
        "Times that another Redis server was the primary than before.",
        lambda s: s.redis_switches,
        kind="counter",
    ),
)
