"""Every metric of a node, in one table: what `/metrics` says, docs/metrics.md explains, and alerts and panels
refer to. Those of bans, chores and the audit file are beside their counters, those of what is found by
looking in `sounding_definitions`.

Gauges that are not known yet have no value. Latencies are of samples, never of each message: what is taken
stands in the help text.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from broker.observability import audit, bans, chores, durability, forwards
from broker.observability.definition import Definition, Reading
from broker.observability.metrics import Counters
from broker.observability.sounding_definitions import SOUNDINGS

_Read = Callable[[Counters], Reading]


def _gauge(name: str, help: str, read: _Read, *labels: str, note: str = "") -> Definition[Counters]:
    return Definition("gauge", f"moorline_{name}", help, read, labels, note)


def _counter(name: str, help: str, read: _Read, *labels: str, note: str = "") -> Definition[Counters]:
    return Definition("counter", f"moorline_{name}", help, read, labels, note)


def _histogram(name: str, help: str, read: _Read, *labels: str, note: str = "") -> Definition[Counters]:
    return Definition("histogram", f"moorline_{name}", help, read, labels, note)


def _pairs(values: Mapping[str, tuple[int, int]], which: int) -> Iterable[tuple[str, float]]:
    return [(name, both[which]) for name, both in values.items()]


def _by_qos(*counts: int) -> Iterable[tuple[str, float]]:
    return [(str(qos), count) for qos, count in enumerate(counts)]


def _packets(c: Counters) -> Iterable[tuple[str, float]]:
    publishes = c.received_qos0 + c.received_qos1 + c.received_qos2
    rare = list(c.packets.items())
    rest = c.packets_received - publishes - sum(count for _, count in rare)
    return [*rare, ("publish", publishes), ("acknowledgement", max(0, rest))]


def _dropped(c: Counters) -> Iterable[tuple[tuple[str, ...], float]]:
    every, at_qos0 = c.messages_dropped, c.dropped_at_qos0
    for reason in dict([*every.items(), *at_qos0.items()]):
        yield (reason, "0"), at_qos0[reason]
        yield (reason, "1-2"), max(0, every[reason] - at_qos0[reason])


def _errors(c: Counters) -> Iterable[tuple[tuple[str, ...], float]]:
    for name, count in c.error_packets.items():
        packet, _, reason = name.partition(" ")
        yield (packet, reason), count


GAUGES: Final = (
    _gauge("node", "The node, always 1.", lambda c: [((c.node_name, c.version), 1)], "name", "version"),
    _gauge("connections", "Connections now, before CONNECT too.", lambda c: c.connections),
    _gauge(
        "listener_connections",
        "Connections now, by kind of listener: tcp, tls, ws, wss, unix.",
        lambda c: c.connections_by_listener.items(),
        "listener",
    ),
    _gauge(
        "listener_open",
        "Connections now, by name of the listener; those of node.listen together are `listen`.",
        lambda c: c.listener_open.items(),
        "listener",
    ),
    _gauge(
        "listener_open_limit",
        "Most connections that a listener may have, where it has a limit of its own, by its name.",
        lambda c: c.listener_limits.items(),
        "listener",
        note="See `listeners.NAME.connections_maximum`.",
    ),
    _gauge("connections_limit", "Most connections there may be.", lambda c: c.connections_maximum),
    _gauge(
        "connections_half_open",
        "Connections that have not sent their CONNECT, or are in the middle of an Authentication Method.",
        lambda c: c.half_open,
    ),
    _gauge(
        "connections_authenticating",
        "Connections that are in the middle of an Authentication Method (AUTH), after their CONNECT.",
        lambda c: c.authenticating,
        note="See [limits](security.md#limits).",
    ),
    _gauge(
        "connections_throttled",
        "Connections that are over a rate, and not read from now.",
        lambda c: c.throttled_now,
        note="See [limits](security.md#limits).",
    ),
    _gauge(
        "connections_reading_paused",
        "Connections that are not read from: too much of them waits for Redis, or they do not read.",
        lambda c: c.reading_paused,
        note="See [back-pressure](architecture.md#16-back-pressure-and-what-is-bounded-by-what).",
    ),
    _gauge(
        "memory_used_bytes",
        "Memory, as limits.memory_high_water_bytes counts it; 0 if there is no mark.",
        lambda c: c.memory_used,
    ),
    _gauge(
        "memory_high_water_bytes",
        "Memory from which on nobody is let in; 0: no mark.",
        lambda c: c.memory_limit,
    ),
    _gauge("sessions", "Clients that are connected here.", lambda c: c.sessions),
    _gauge(
        "subscriptions",
        "Subscriptions in this node's index: all persistent ones, and those of its clients.",
        lambda c: c.subscriptions,
    ),
    _gauge(
        "retained",
        "Retained messages of the whole cluster, as of a second ago.",
        lambda c: c.retained,
        note="See `limits.retained_messages`.",
    ),
    _gauge(
        "shared_waiting",
        "By group: messages of a shared subscription that no member has; of at most 100 groups with members"
        " here. It grows: members are too few, too slow, or away.",
        lambda c: _pairs(c.shared, 0),
        "group",
    ),
    _gauge(
        "shared_given",
        "By group: messages that its members have and have not acknowledged.",
        lambda c: _pairs(c.shared, 1),
        "group",
    ),
    _gauge(
        "client_id_fights",
        "Client Identifiers that several connections take from each other.",
        lambda c: c.fights,
    ),
    _gauge(
        "passwords_waiting",
        "Passwords that wait to be hashed.",
        lambda c: c.passwords_waiting,
        note="At most `auth.hash_queue`.",
    ),
    _gauge(
        "certificate_expiry_seconds",
        "Unix time at which the first certificate in a file of a listener ends, by listener and file.",
        lambda c: c.certificate_expiries.items(),
        "listener",
        "file",
    ),
    _gauge(
        "crl_expiry_seconds",
        "Unix time from which on clients are refused, as a revocation list in the file is too old, by"
        " listener and file.",
        lambda c: c.crl_expiries.items(),
        "listener",
        "file",
    ),
    _gauge("redis_away", "1 while Redis does not answer.", lambda c: c.redis_away),
    _gauge(
        "alarm",
        "1 while the alarm is raised by this node, by name.",
        lambda c: c.alarms.items(),
        "name",
        note="See [alarms](operations.md#alarms).",
    ),
)

TRAFFIC: Final = (
    _counter("bytes_received", "Bytes from clients.", lambda c: c.bytes_received),
    _counter("bytes_sent", "Bytes to clients.", lambda c: c.bytes_sent),
    _counter(
        "packets_received",
        "Packets from clients, by type. acknowledgement: PUBACK, PUBREC, PUBREL and PUBCOMP, as what is left"
        " of all.",
        _packets,
        "type",
    ),
    _counter(
        "error_packets",
        "Packets to clients with an error, by type (connack, puback, pubrec, suback, disconnect) and the"
        " name of the Reason Code; of MQTT 3 clients too, as far as they are told.",
        _errors,
        "type",
        "reason",
    ),
    _counter(
        "messages_received",
        "PUBLISH from clients, by QoS.",
        lambda c: _by_qos(c.received_qos0, c.received_qos1, c.received_qos2),
        "qos",
    ),
    _counter(
        "messages_sent",
        "PUBLISH to clients, by QoS; those sent again too.",
        lambda c: _by_qos(c.sent_qos0, c.sent_qos1, c.sent_qos2),
        "qos",
    ),
    _counter(
        "messages_dropped",
        "Messages not delivered, by reason and QoS: 0, or 1-2 (of what falls out of a queue in Redis nobody"
        " knows which).",
        _dropped,
        "reason",
        "qos",
        note="Reasons: [dead letters](operations.md#look-at-the-state).",
    ),
    _counter(
        "qos2_completed",
        "QoS 2 exchanges that have ended with PUBCOMP, by direction (in: the client is the publisher).",
        lambda c: c.exchanges_completed.items(),
        "direction",
    ),
    _counter(
        "qos2_abandoned",
        "QoS 2 exchanges that were open when their connection ended, by direction. Persistent sessions go on"
        " with them over the next one; the others have lost them.",
        lambda c: c.exchanges_abandoned.items(),
        "direction",
    ),
    _counter("wills_fired", "Will Messages published.", lambda c: c.wills_fired),
    _counter("delayed_published", "Delayed messages published.", lambda c: c.delayed_published),
)

CONNECTIONS: Final = (
    _counter(
        "connects",
        "CONNECT answered, by result: success, or why not.",
        lambda c: c.connects.items(),
        "result",
    ),
    _counter(
        "disconnects",
        "Connections of accepted clients that ended, by reason.",
        lambda c: c.disconnects.items(),
        "reason",
    ),
    _counter(
        "malformed",
        "Connections closed for breaking the protocol, by reason.",
        lambda c: c.malformed.items(),
        "reason",
    ),
    _counter(
        "handshakes_failed",
        "Connections that never got to MQTT, by reason.",
        lambda c: c.handshakes_failed.items(),
        "reason",
        note="Reasons: `tls`, `tls_timeout`, `client_certificate`, `websocket`, `origin` (a page that may"
        " not), `proxy_untrusted`, `proxy_header`, `proxy_timeout`.",
    ),
    _counter("keep_alive_timeouts", "Connections closed for silence.", lambda c: c.keep_alive_timeouts),
    _counter("takeovers", "Connections that lost their client id to another one.", lambda c: c.takeovers),
    _counter(
        "takeovers_delayed",
        "CONNECT packets that had to wait, as several connections fight for the client id.",
        lambda c: c.fights_delayed,
    ),
    _counter(
        "throttled",
        "Times that a client or a listener had to wait, by limit.",
        lambda c: c.throttled.items(),
        "limit",
    ),
    _counter(
        "refused",
        "Refused by a limit, by limit.",
        lambda c: c.refused.items(),
        "limit",
        note="Those of [security](security.md#limits); `retained_messages` (delivered, but not retained);"
        " `retained_payload_bytes` (reached nobody); `payload_format_check` (0x99, reached nobody).",
    ),
    _counter(
        "authentications",
        "Clients that were asked who they are, by result: accepted, anonymous, or why not.",
        lambda c: c.authentications.items(),
        "result",
        note="See [security](security.md).",
    ),
    _counter(
        "denied",
        "What was not allowed, by action.",
        lambda c: c.denied.items(),
        "action",
        note="Of clients `publish`, `subscribe`, `will`, `revoked`; `admin`: requests at the admin address"
        " (of a parent of workers it is not shown).",
    ),
    _counter(
        "auth_reloads",
        "Files of users, rules, keys and listeners that were read again, by file, and rules in Redis"
        " (redis_rules); _refused: with mistakes, nothing has changed.",
        lambda c: c.auth_reloads.items(),
        "file",
        note="See [new files](listeners.md#new-files).",
    ),
    _counter(
        "settings_reloads",
        "Times that settings were read again, by result: applied, or refused for mistakes.",
        lambda c: c.settings_reloads.items(),
        "result",
        note="See [reload](operations.md#reload).",
    ),
    _counter(
        "auth_requests",
        "Requests about clients by request; _failed: no answer that could be used; _busy: no place to wait.",
        lambda c: c.auth_requests.items(),
        "request",
        note="Requests: `http_authenticate`, `http_authorize`, `sql_user`, `sql_acl`.",
    ),
)

CLUSTER: Final = (
    _counter("redis_full", "Batches that Redis refused for lack of memory.", lambda c: c.redis_full),
    _counter("redis_reconnects", "Times that Redis came back.", lambda c: c.redis_reconnects),
    _counter(
        "inbox_records", "Records that other nodes have sent to this one's inbox.", lambda c: c.inbox_records
    ),
    _counter(
        "handed_over",
        "Queue entries handed over to the node that owns their session.",
        lambda c: c.handed_over,
    ),
    _counter(
        "channel_lost",
        "Records at QoS 0 for other nodes that could not leave, as Redis was away.",
        lambda c: c.channel_lost,
    ),
    _counter(
        "fenced",
        "Connections that a refused write of theirs has told that another one has their session.",
        lambda c: c.fenced,
        note="See [fence](architecture.md#7-sessions-claim-fence-detach).",
    ),
    _counter("nodes_reaped", "Dead nodes whose sessions this one has given back.", lambda c: c.nodes_reaped),
    _counter(
        "node_restarts",
        "Times that this node has started again, as the others had declared it dead.",
        lambda c: c.node_restarts,
    ),
    _counter(
        "primary_changes",
        "Times that another primary of Redis has come, which may lack the newest writes.",
        lambda c: c.primary_changes,
        note="After each fail-over and each restart of Redis. See"
        " [When it fails over](redis.md#when-it-fails-over).",
    ),
    _counter(
        "sessions_reclaimed",
        "Sessions whose state this node has said to another primary, by what became of them.",
        lambda c: c.reclaimed.items(),
        "outcome",
        note="`kept`: it was there; `made_again`: it was missing; `lost`: another node has claimed it since;"
        " `given_back`: its connection had ended, and that was lost.",
    ),
    _counter(
        "primary_differences",
        "What another primary had of sessions that was not as this node knows it.",
        lambda c: c.recovered.items(),
        "kind",
        note="`settled`: queue entries that clients had acknowledged already; `exchange`: QoS 2 exchanges in"
        " another phase; `missing`: entries in flight that were not there; `perhaps_again`: entries sent to"
        " clients that have come back since, which may have acknowledged them before; `taken_anew`: messages"
        " at QoS 2 without DUP under an identifier that was in use there, which the client had released.",
    ),
    _counter(
        "doubts",
        "Times that this process did not run for 250 ms or more; it then asks Redis whether it still lives.",
        lambda c: c.doubts,
    ),
    _counter(
        "events_lost",
        "Events of clients that are missing in their history: Redis was away, or there were too many.",
        lambda c: c.events_lost,
        note="See [explain](explain.md#what-has-happened-to-a-client).",
    ),
    _counter(
        "unknown_records",
        "What nodes of a newer release say and this one does not know, skipped; by way.",
        lambda c: c.unknown_records.items(),
        "way",
        note="See [upgrading](upgrading.md).",
    ),
)

DISTRIBUTIONS: Final = (
    _histogram(
        "redis_round_trip_seconds",
        "From sending a batch to Redis to its whole answer.",
        lambda c: c.redis_round_trip,
    ),
    _histogram("redis_batch_items", "Requests in a batch.", lambda c: c.redis_batch_items),
    _histogram(
        "event_loop_lag_seconds", "How late a timer came, sampled twice a second.", lambda c: c.loop_lag
    ),
    _histogram(
        "delivery_latency_seconds",
        "QoS 1 and 2: from the arrival of a message at this node until it was handed to the sockets of"
        " subscribers here. Sample: the oldest message of a batch, at most 100 batches a second. By way:"
        " direct (sessions that end with their connection), stored (through a queue in Redis). QoS 0 leaves"
        " with the tick of the event loop in which it came.",
        lambda c: c.delivery_latency.items(),
        "way",
    ),
    _histogram(
        "acknowledgement_latency_seconds",
        "From the arrival of a message at QoS 1 or 2 until its PUBACK or PUBREC was handed to the socket."
        " Sample: as for deliveries.",
        lambda c: c.acknowledgement_latency,
    ),
    _histogram(
        "client_acknowledgement_latency_seconds",
        "QoS 1: from handing a message to the socket until the PUBACK of the client. Sample: a message of the"
        " batches above; what is never acknowledged is not in here.",
        lambda c: c.client_acknowledgement_latency,
    ),
)

DEFINITIONS: Final = (
    *GAUGES, *SOUNDINGS, *TRAFFIC, *CONNECTIONS, *CLUSTER, *DISTRIBUTIONS, *durability.DEFINITIONS
)  # fmt: skip
"""Of what `Counters` has."""

SECTIONS: Final[Mapping[str, Sequence[Definition[Any]]]] = {
    "Now": GAUGES,
    "By looking now and then": SOUNDINGS,
    "Messages": TRAFFIC,
    "Connections": CONNECTIONS,
    "Cluster": CLUSTER,
    "Times and sizes": DISTRIBUTIONS,
    "Durability levels": durability.DEFINITIONS,
    "Bans": bans.DEFINITIONS,
    "Forwards": forwards.DEFINITIONS,
    "Beside serving": (*chores.DEFINITIONS, *audit.DEFINITIONS),
}
"""For people."""
