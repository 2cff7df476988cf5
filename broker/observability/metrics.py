"""Counters of one node, and what `/metrics` makes of them.

Theory of operation: the data plane adds to plain integer attributes (30 ns; a prometheus_client counter takes
a lock and 700 ns). Only when somebody scrapes are they turned into metrics, by one Collector. Labels are
bounded: a `Tally` holds at most `LABEL_LIMIT` reasons and counts further ones as `other`; client ids and
topics are never labels.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from math import isfinite

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from broker.observability.audit import audit_metrics
from broker.observability.bans import BanCounters, ban_metrics
from broker.observability.chores import ChoreCounters, chore_metrics
from broker.observability.forwards import ForwardStatus, forward_metrics

LABEL_LIMIT = 64
SAMPLES_QUESTION = "metrics"
"""To a node, for its samples: `{"name": what their names begin with}`."""
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

REDIS_ROUND_TRIP_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
REDIS_BATCH_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
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

    def metric(self, name: str, documentation: str) -> HistogramMetricFamily:
        """As Prometheus has it: cumulative, the last bucket infinite."""
        names = [str(bound) for bound in self._bounds] + ["+Inf"]
        buckets = list(zip(names, map(float, accumulate(self._counts)), strict=True))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self._sum)

    @property
    def count(self) -> int:
        """Values seen so far."""
        return sum(self._counts)


class Counters:
    """Everything that one node counts. The hot path writes `counters.received_qos1 += 1`, nothing else."""

    __slots__ = (
        "auth_reloads",
        "auth_requests",
        "authentications",
        "bans",
        "bytes_received",
        "bytes_sent",
        "certificate_expiries",
        "channel_lost",
        "chores",
        "connections",
        "connections_by_listener",
        "connections_maximum",
        "connects",
        "crl_expiries",
        "delayed_published",
        "denied",
        "disconnects",
        "doubts",
        "fights",
        "fights_delayed",
        "forwards",
        "half_open",
        "handed_over",
        "handshakes_failed",
        "inbox_records",
        "keep_alive_timeouts",
        "loop_lag",
        "malformed",
        "memory_limit",
        "memory_used",
        "messages_dropped",
        "node_name",
        "packets_received",
        "passwords_waiting",
        "reading_paused",
        "received_qos0",
        "received_qos1",
        "received_qos2",
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
        "subscriptions",
        "takeovers",
        "throttled",
        "throttled_now",
        "unknown_records",
        "version",
        "wills_fired",
    )

    def __init__(self, node_name: str = "", version: str = "") -> None:
        self.chores = ChoreCounters()
        self.bans = BanCounters()
        self.forwards: list[ForwardStatus] = []
        self.node_name = node_name
        self.version = version
        # Gauges: what is now.
        self.connections = 0
        self.connections_by_listener = Tally(LISTENER_KINDS)
        self.connections_maximum = 0
        self.sessions = 0  # that this node owns
        self.subscriptions = 0  # rows of the subscription index
        self.retained = 0  # retained messages of the whole cluster
        self.shared: dict[str, tuple[int, int]] = {}  # group -> messages that wait, and that members have
        self.reading_paused = 0  # connections that aren't read from, by inbound_unacknowledged_bytes
        self.half_open = 0  # connections that have not sent CONNECT
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
        self.doubts = 0  # gaps in the running of this process
        self.redis_full = 0  # batches that Redis refused for lack of memory
        self.redis_reconnects = 0
        # Histograms.
        self.redis_round_trip = Histogram(
            REDIS_ROUND_TRIP_BUCKETS
        )  # seconds per batch; its count is the batches
        self.redis_batch_items = Histogram(REDIS_BATCH_BUCKETS)  # items per batch
        self.loop_lag = Histogram(LOOP_LAG_BUCKETS)  # seconds that a sampled timer came late


class NodeCollector:
    """Turns Counters into metrics at each scrape."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """All metrics of the node; prometheus_client calls it."""
        c = self._counters
        yield _labelled_gauge(
            "moorline_node", "The node, always 1.", {"name": c.node_name, "version": c.version}
        )
        yield from self._gauges()
        yield from self._traffic()
        yield from self._cluster()
        yield from self._tallies()
        yield from chore_metrics(c.chores)
        yield from ban_metrics(c.bans)
        yield from forward_metrics(c.forwards)
        yield from audit_metrics()
        yield c.redis_round_trip.metric(
            "moorline_redis_round_trip_seconds", "Time from sending a batch to Redis to its whole answer."
        )
        yield c.redis_batch_items.metric("moorline_redis_batch_items", "Items in one batch to Redis.")
        yield c.loop_lag.metric(
            "moorline_event_loop_lag_seconds", "How late a sampled timer of the loop came."
        )

    def _gauges(self) -> Iterator[Metric]:
        c = self._counters
        yield GaugeMetricFamily("moorline_connections", "MQTT connections now.", c.connections)
        by_listener = GaugeMetricFamily(
            "moorline_listener_connections", "MQTT connections now, by kind of listener.", labels=["listener"]
        )
        for kind, count in c.connections_by_listener.items():
            by_listener.add_metric([kind], count)
        yield by_listener
        yield GaugeMetricFamily("moorline_connections_limit", "Most there may be.", c.connections_maximum)
        yield GaugeMetricFamily(
            "moorline_connections_half_open", "Connections that have not sent CONNECT.", c.half_open
        )
        yield GaugeMetricFamily(
            "moorline_connections_throttled", "Connections over a rate, not read from now.", c.throttled_now
        )
        yield GaugeMetricFamily("moorline_memory_used_bytes", "Memory, as its mark counts it.", c.memory_used)
        yield GaugeMetricFamily(
            "moorline_memory_high_water_bytes", "Where nobody is let in any more; 0: nowhere.", c.memory_limit
        )
        yield GaugeMetricFamily("moorline_sessions", "Sessions this node owns.", c.sessions)
        yield GaugeMetricFamily("moorline_subscriptions", "Subscriptions in the index.", c.subscriptions)
        yield GaugeMetricFamily("moorline_retained", "Retained messages of the whole cluster.", c.retained)
        yield from self._shared()
        yield GaugeMetricFamily(
            "moorline_connections_reading_paused",
            "Connections not read from until acknowledged.",
            c.reading_paused,
        )
        yield GaugeMetricFamily(
            "moorline_client_id_fights", "Client Identifiers that several connections fight for.", c.fights
        )
        yield GaugeMetricFamily(
            "moorline_passwords_waiting", "Passwords that wait to be hashed.", c.passwords_waiting
        )
        yield _expiries(
            "moorline_certificate_expiry_seconds",
            "Unix time at which the first certificate in a file of a listener ends.",
            c.certificate_expiries,
        )
        yield _expiries(
            "moorline_crl_expiry_seconds",
            "Unix time from which on a listener refuses clients, as a revocation list is too old.",
            c.crl_expiries,
        )
        yield GaugeMetricFamily("moorline_redis_away", "1 while Redis doesn't answer.", c.redis_away)

    def _shared(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "moorline_shared_waiting",
            "Messages of a shared subscription that no member has.",
            labels=["group"],
        )
        given = GaugeMetricFamily(
            "moorline_shared_given", "Messages that its members have not acknowledged.", labels=["group"]
        )
        for group, (waits, is_given) in self._counters.shared.items():
            waiting.add_metric([group], waits)
            given.add_metric([group], is_given)
        yield waiting
        yield given

    def _traffic(self) -> Iterator[Metric]:
        c = self._counters
        yield CounterMetricFamily("moorline_bytes_received", "Bytes from clients.", c.bytes_received)
        yield CounterMetricFamily("moorline_bytes_sent", "Bytes to clients.", c.bytes_sent)
        yield CounterMetricFamily("moorline_packets_received", "Packets from clients.", c.packets_received)
        yield _by_label(
            "moorline_messages_received",
            "PUBLISH packets from clients.",
            "qos",
            [("0", c.received_qos0), ("1", c.received_qos1), ("2", c.received_qos2)],
        )
        yield _by_label(
            "moorline_messages_sent",
            "PUBLISH packets to clients.",
            "qos",
            [("0", c.sent_qos0), ("1", c.sent_qos1), ("2", c.sent_qos2)],
        )
        yield CounterMetricFamily("moorline_takeovers", "Sessions taken over from a connection.", c.takeovers)
        yield CounterMetricFamily(
            "moorline_keep_alive_timeouts", "Connections closed for silence.", c.keep_alive_timeouts
        )
        yield CounterMetricFamily("moorline_wills_fired", "Will Messages published.", c.wills_fired)
        yield CounterMetricFamily(
            "moorline_delayed_published", "Delayed messages published.", c.delayed_published
        )
        yield CounterMetricFamily("moorline_redis_full", "Batches refused as Redis was full.", c.redis_full)
        yield CounterMetricFamily(
            "moorline_redis_reconnects", "Connections to Redis made anew.", c.redis_reconnects
        )

    def _cluster(self) -> Iterator[Metric]:
        c = self._counters
        yield CounterMetricFamily("moorline_inbox_records", "Records from other nodes.", c.inbox_records)
        yield CounterMetricFamily(
            "moorline_handed_over", "Queue entries handed over to the node of their session.", c.handed_over
        )
        yield CounterMetricFamily(
            "moorline_channel_lost", "Records at QoS 0 for other nodes that could not leave.", c.channel_lost
        )
        yield CounterMetricFamily(
            "moorline_doubts", "Times that this process did not run for a while.", c.doubts
        )
        yield CounterMetricFamily(
            "moorline_takeovers_delayed", "CONNECT packets that waited, as clients fight.", c.fights_delayed
        )

    def _tallies(self) -> Iterator[Metric]:
        c = self._counters
        yield _by_label("moorline_connects", "CONNECT packets answered.", "result", c.connects.items())
        yield _by_label(
            "moorline_authentications",
            "Clients that were asked who they are.",
            "result",
            c.authentications.items(),
        )
        yield _by_label(
            "moorline_denied",
            "What was not allowed.",
            "action",
            c.denied.items(),
        )
        yield _by_label(
            "moorline_auth_reloads",
            "Files of users, rules, keys and certificates read again.",
            "file",
            c.auth_reloads.items(),
        )
        yield _by_label(
            "moorline_settings_reloads",
            "Times that settings were read again, and taken or refused for mistakes.",
            "result",
            c.settings_reloads.items(),
        )
        yield _by_label(
            "moorline_auth_requests",
            "Requests to servers that are asked about clients.",
            "request",
            c.auth_requests.items(),
        )
        yield _by_label("moorline_disconnects", "Connections that ended.", "reason", c.disconnects.items())
        yield _by_label(
            "moorline_malformed", "Connections closed for bad bytes.", "reason", c.malformed.items()
        )
        yield _by_label(
            "moorline_messages_dropped", "Messages not delivered.", "reason", c.messages_dropped.items()
        )
        yield _by_label(
            "moorline_handshakes_failed",
            "Connections that ended before MQTT began.",
            "reason",
            c.handshakes_failed.items(),
        )
        yield _by_label(
            "moorline_throttled", "Times that a client or listener had to wait.", "limit", c.throttled.items()
        )
        yield _by_label("moorline_refused", "Requests refused by a limit.", "limit", c.refused.items())
        yield _by_label(
            "moorline_unknown_records",
            "Skipped: only a newer release understands them.",
            "way",
            c.unknown_records.items(),
        )


class MetricsPage:
    """The text of `/metrics`: the node's counters and those of its process."""

    def __init__(self, counters: Counters) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(counters))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """The page as of now, of content type CONTENT_TYPE."""
        return generate_latest(self._registry)

    def samples(self, beginning: str = "") -> list[dict[str, object]]:
        """What is on it, in values that JSON knows, of those whose names begin so. None: no finite number."""
        return [
            {
                "name": sample.name,
                "labels": sample.labels,
                "value": sample.value if isfinite(sample.value) else None,
            }
            for metric in self._registry.collect()
            for sample in metric.samples
            if sample.name.startswith(beginning)
        ]


def _by_label(name: str, documentation: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _expiries(name: str, documentation: str, expiries: Mapping[tuple[str, str], float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=["listener", "file"])
    for labels, seconds in expiries.items():
        family.add_metric(list(labels), seconds)
    return family


def _labelled_gauge(name: str, documentation: str, labels: dict[str, str]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    return family
