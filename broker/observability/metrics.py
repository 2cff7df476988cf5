"""Counters of one node; what `/metrics` makes of them: `definitions`.

Theory of operation: the data plane adds to plain integer attributes (30 ns; a prometheus_client counter takes
a lock and 700 ns). Only when somebody scrapes are they turned into metrics, by one Collector. Labels are
bounded: a `Tally` holds at most `LABEL_LIMIT` reasons and counts further ones as `other`; client ids and
topics are never labels.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from broker.observability.bans import BanCounters
from broker.observability.chores import ChoreCounters
from broker.observability.definition import Buckets
from broker.observability.forwards import ForwardStatus
from broker.observability.sounding import Soundings

if TYPE_CHECKING:  # it counts with what is here
    from broker.observability.durability import LevelStatus

LABEL_LIMIT = 64
SAMPLES_QUESTION = "metrics"
"""To a node, for its samples: `{"name": what their names begin with}`."""

REDIS_ROUND_TRIP_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
REDIS_BATCH_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LOOP_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

LISTENER_KINDS = ("tcp", "tls", "ws", "wss", "unix")
HANDSHAKES = (
    "tls",
    "tls_timeout",
    "client_certificate",
    "websocket",
    "origin",
    "proxy_untrusted",
    "proxy_header",
    "proxy_timeout",
)

DROP_REASONS = (
    "queue_full",
    "expired",
    "slow_consumer",
    "packet_too_large",
)

AUTHENTICATIONS = ("accepted", "anonymous", "bad_user_name_or_password", "not_authorized", "server_busy")
DENIED = ("publish", "subscribe", "will", "revoked", "admin")

RARE_PACKETS = ("connect", "subscribe", "unsubscribe", "pingreq", "disconnect", "auth")
"""Counted one by one; of PUBLISH there are counts by QoS, and the rest are acknowledgements."""
WAYS = ("direct", "stored")
RECLAIMED = ("kept", "made_again", "lost", "given_back")
RECOVERED = ("settled", "exchange", "missing", "perhaps_again", "taken_anew")
EXCHANGES = ("in", "out")

UNKNOWN_RECORDS = ("inbox", "channel", "interest", "command", "change_log")


class Tally:
    """Counts by reason: `tally.add("queue_full")`. Reasons given at the start are shown from zero."""

    __slots__ = ("_counts",)

    def __init__(self, reasons: Iterable[str] = ()) -> None:
        self._counts = dict.fromkeys(reasons, 0)

    def add(self, reason: str, count: int = 1) -> None:
        """Add `count`; to `other` once there are LABEL_LIMIT reasons and this is a new one."""
        counts = self._counts
        if reason not in counts and len(counts) >= LABEL_LIMIT:
            reason = "other"
        counts[reason] = counts.get(reason, 0) + count

    def raise_to(self, reason: str, total: int) -> None:
        """For what is counted elsewhere: the count of this reason is `total` now."""
        self.add(reason, total - self._counts.get(reason, 0))

    def items(self) -> Iterator[tuple[str, int]]:
        """Reason and count, in the order in which they came up."""
        return iter(self._counts.items())

    def __getitem__(self, reason: str) -> int:
        return self._counts.get(reason, 0)

    def __repr__(self) -> str:
        return f"Tally({ {reason: count for reason, count in self._counts.items() if count} })"


class Histogram:
    """How often a value fell in which bucket. `bounds` are upper bounds, ascending, without infinity."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def buckets(self) -> Buckets:
        """As Prometheus has it: cumulative, the last bucket infinite."""
        names = [str(bound) for bound in self._bounds] + ["+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))

    def counts_above(self, bound: float) -> tuple[int, int]:
        """Values above one of the bounds, and all, so far."""
        return sum(self._counts[self._bounds.index(bound) + 1 :]), self.count

    @property
    def sum(self) -> float:
        """Of all values."""
        return self._sum

    @property
    def count(self) -> int:
        """Values seen so far."""
        return sum(self._counts)


class Counters:
    """Everything that one node counts. The hot path writes `counters.received_qos1 += 1`, nothing else."""

    __slots__ = (
        "acknowledgement_latency",
        "alarms",
        "auth_reloads",
        "auth_requests",
        "authenticating",
        "authentications",
        "bans",
        "bytes_received",
        "bytes_sent",
        "certificate_expiries",
        "channel_lost",
        "chores",
        "client_acknowledgement_latency",
        "connections",
        "connections_by_listener",
        "connections_maximum",
        "connects",
        "crl_expiries",
        "delayed_published",
        "delivery_latency",
        "denied",
        "disconnects",
        "doubts",
        "dropped_at_qos0",
        "durability",
        "error_packets",
        "events_lost",
        "exchanges_abandoned",
        "exchanges_completed",
        "fenced",
        "fights",
        "fights_delayed",
        "forwards",
        "half_open",
        "handed_over",
        "handshakes_failed",
        "inbox_records",
        "keep_alive_timeouts",
        "listener_limits",
        "listener_open",
        "loop_lag",
        "malformed",
        "memory_limit",
        "memory_used",
        "messages_dropped",
        "node_name",
        "node_restarts",
        "nodes_reaped",
        "packets",
        "packets_received",
        "passwords_waiting",
        "primary_changes",
        "reading_paused",
        "received_qos0",
        "received_qos1",
        "received_qos2",
        "reclaimed",
        "recovered",
        "redis_away",
        "redis_batch_items",
        "redis_full",
        "redis_reconnects",
        "redis_round_trip",
        "refused",
        "retained",
        "sent_qos0",
        "sent_qos1",
        "sent_qos2",
        "sessions",
        "settings_reloads",
        "shared",
        "soundings",
        "subscriptions",
        "takeovers",
        "throttled",
        "throttled_now",
        "unknown_records",
        "version",
        "wills_fired",
    )

    # Longer than others: a table of all that is counted.
    def __init__(self, node_name: str = "", version: str = "") -> None:
        self.chores = ChoreCounters()
        self.bans = BanCounters()
        self.forwards: list[ForwardStatus] = []
        self.durability: list[LevelStatus] = []  # of levels above `stored` that are in use
        self.node_name = node_name
        self.version = version
        self.soundings = Soundings()
        self.alarms: dict[str, int] = {}  # by name: 1 if it is raised
        # Gauges: what is now.
        self.connections = 0
        self.connections_by_listener = Tally(LISTENER_KINDS)
        self.connections_maximum = 0
        self.listener_open: dict[str, int] = {}  # connections, by name of the listener
        self.listener_limits: dict[str, int] = {}  # most there may be, where it has a limit of its own
        self.sessions = 0  # that this node owns
        self.subscriptions = 0  # rows of the subscription index
        self.retained = 0  # retained messages of the whole cluster
        self.shared: dict[str, tuple[int, int]] = {}  # group -> messages that wait, and that members have
        self.reading_paused = 0  # connections that aren't read from, by inbound_unacknowledged_bytes
        self.half_open = 0  # connections that have not sent CONNECT, or are not authenticated
        self.authenticating = 0  # of those, the ones that are in the middle of an Authentication Method
        self.throttled_now = 0  # connections that wait, as they are over a rate
        self.memory_used = 0  # bytes, as limits.memory_high_water_bytes counts them; 0 if there is no mark
        self.memory_limit = 0  # that mark
        self.fights = 0  # Client Identifiers that several connections fight for
        self.passwords_waiting = 0  # to be hashed
        self.certificate_expiries: dict[tuple[str, str], float] = {}  # by listener and file; Unix time
        self.crl_expiries: dict[tuple[str, str], float] = {}
        self.redis_away = 0  # 1 while Redis doesn't answer
        # Counters: only ever grow.
        self.connects = Tally(["success"])  # by result: success, or the reason of the refusal
        self.authentications = Tally(AUTHENTICATIONS)  # by result, of clients that were asked who they are
        self.denied = Tally(DENIED)  # by what somebody wanted to do
        self.auth_reloads = Tally()  # by file, and whether its mistakes were refused
        self.settings_reloads = Tally(["applied", "refused"])
        self.auth_requests = Tally()  # to servers that are asked about clients, and those that failed
        self.disconnects = Tally(["normal_disconnection"])
        self.malformed = Tally(["malformed_packet", "protocol_error"])
        self.messages_dropped = Tally(DROP_REASONS)
        self.handshakes_failed = Tally(HANDSHAKES)  # connections that never got to MQTT
        self.throttled = Tally()  # times that somebody had to wait, by the name of the limit
        self.refused = Tally()  # requests refused by a limit, by the name of the limit
        self.unknown_records = Tally(UNKNOWN_RECORDS)  # from nodes of a newer release, by the way they came
        self.packets = Tally(RARE_PACKETS)  # from clients, by type
        self.error_packets = Tally()  # to clients, with an error: "<type> <Reason Code>"
        self.dropped_at_qos0 = Tally(DROP_REASONS)  # the part of messages_dropped that was at QoS 0
        self.exchanges_completed = Tally(EXCHANGES)  # of QoS 2, by direction
        self.exchanges_abandoned = Tally(EXCHANGES)  # whose connection ended first
        self.bytes_received = 0
        self.bytes_sent = 0
        self.packets_received = 0
        self.received_qos0 = 0
        self.received_qos1 = 0
        self.received_qos2 = 0
        self.sent_qos0 = 0
        self.sent_qos1 = 0
        self.sent_qos2 = 0
        self.takeovers = 0
        self.keep_alive_timeouts = 0
        self.wills_fired = 0
        self.delayed_published = 0
        self.fights_delayed = 0  # CONNECT packets that had to wait for that
        self.inbox_records = 0  # from other nodes
        self.handed_over = 0  # queue entries, to other nodes
        self.channel_lost = 0  # records at QoS 0 for other nodes that could not leave
        self.fenced = 0  # sessions that were lost to another connection, as a refused write told
        self.nodes_reaped = 0
        self.node_restarts = 0  # as the others had declared this node dead
        self.doubts = 0  # gaps in the running of this process
        self.events_lost = 0  # of clients, that are not in their history
        self.redis_full = 0  # batches that Redis refused for lack of memory
        self.redis_reconnects = 0
        self.primary_changes = 0  # of Redis: after fail-overs and restarts
        self.reclaimed = Tally(RECLAIMED)  # sessions after such a change, by what became of them
        self.recovered = Tally(RECOVERED)  # what was found in them that is not as this node knows it
        # Histograms.
        self.redis_round_trip = Histogram(
            REDIS_ROUND_TRIP_BUCKETS
        )  # seconds per batch; its count is the batches
        self.redis_batch_items = Histogram(REDIS_BATCH_BUCKETS)  # items per batch
        self.loop_lag = Histogram(LOOP_LAG_BUCKETS)  # seconds that a sampled timer came late
        # Seconds; of samples.
        self.delivery_latency = {way: Histogram(LATENCY_BUCKETS) for way in WAYS}
        self.acknowledgement_latency = Histogram(LATENCY_BUCKETS)
        self.client_acknowledgement_latency = Histogram(LATENCY_BUCKETS)
