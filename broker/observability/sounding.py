"""What a node finds out by looking now and then, as it would cost too much to count it."""

from typing import Final

PHASES: Final = {
    "in": ("received", "routed", "releasing"),
    "out": ("sent", "storing", "released"),
}
"""Of QoS 2 exchanges, by direction. In: PUBREC is owed, has been sent, PUBCOMP is owed. Out: PUBREC is
awaited, is being stored, PUBCOMP is awaited."""


class Soundings:
    """Of one node. None: not known (yet)."""

    __slots__ = (
        "backlog_fullest",
        "backlog_messages",
        "beat_age",
        "exchanges",
        "oldest_exchange",
        "others_beat_age",
        "queue_entries",
        "queue_fullest",
        "queue_fullest_client",
        "queues_nearly_full",
        "redis_delayed_fsync",
        "redis_file_failed",
        "redis_memory_maximum",
        "redis_memory_used",
        "redis_primary",
        "redis_replicas",
        "redis_switches",
    )

    def __init__(self) -> None:
        self.beat_age: float | None = None  # seconds since Redis has last answered a life sign of this node
        self.others_beat_age: float | None = None  # ticks of the cluster: about seconds
        self.redis_memory_used: int | None = None
        self.redis_memory_maximum: int | None = None  # 0: no limit
        self.redis_delayed_fsync: int | None = None  # counted by Redis since its start
        self.redis_file_failed: int | None = None  # 1: its last write or rewrite of the file did
        self.redis_replicas: int | None = None
        self.redis_primary = ""  # address of the server in use
        self.redis_switches: int | None = None  # how often it has been another one
        self.queue_entries: int | None = None  # in this node's part of the queues
        self.queue_fullest: float | None = None  # share of session.queue_limit or session.queue_bytes
        self.queue_fullest_client = ""  # for the text of an alarm: never a label
        self.queues_nearly_full: int | None = None
        self.backlog_messages = 0
        self.backlog_fullest = 0.0  # share of session.direct_queue_limit
        self.exchanges = {(way, phase): 0 for way, phases in PHASES.items() for phase in phases}
        self.oldest_exchange = dict.fromkeys(PHASES, 0.0)  # seconds, by direction
