"""What holds up a client that is connected. Pure."""

from collections.abc import Mapping
from typing import Final

from broker.admin.explain.facts import Facts, Finding
from broker.admin.explain.wording import are, counted, duration, number, size, waits
from broker.client import FlowFacts

_FULL_SHARE: Final = 0.8
_OLD_EXCHANGE_SECONDS: Final = 60


def not_accepted(facts: Facts) -> Finding | None:
    connection = facts.connection
    if connection is None or connection.is_accepted:
        return None
    return Finding(
        "connecting",
        f"Its CONNECT from {connection.peer} is not answered yet: it waits for authentication, for Redis, or"
        " because of take-overs (see below).",
    )


def fought_over(facts: Facts) -> Finding | None:
    node = facts.node
    if node is None or not node.takeovers:
        return None
    is_slowed = 0 < node.takeovers_limit < node.takeovers
    slowed = " Each further CONNECT waits, up to 30 s." if is_slowed else ""
    return Finding(
        "fought_over",
        f"Its connection was taken over {counted(node.takeovers, 'time')} within the last minute: several"
        f" devices use this Client Identifier, or one connects again before it has closed.{slowed} Give each"
        " device an identifier of its own.",
        is_blocking=is_slowed,
    )


_PAUSES: Final[Mapping[str, str]] = {
    "rate": "it sends more than {limit} allows. If that is its right, raise the limit",
    "not_stored": "{unanswered} of its messages ({bytes}) are not stored yet. Look at Redis and at its node",
    "memory": "the memory of its node is short: above `limits.memory_high_water_bytes`",
    "does_not_read": "it does not read what it is sent (see below)",
    "authorization": "somebody is asked whether it may do what it wants. Look at who answers that (HTTP,"
    " SQL)",
    "node_in_doubt": "its node is in doubt (see above)",
}


def reading_paused(facts: Facts) -> Finding | None:
    connection = facts.connection
    if connection is None or not connection.reading_paused:
        return None
    values = {
        "limit": connection.limit or "its limit",
        "unanswered": number(connection.unanswered),
        "bytes": size(connection.unanswered_bytes),
    }
    reasons = "; ".join(_PAUSES.get(each, each).format(**values) for each in connection.reading_paused)
    since = f" (for at least {duration(connection.paused_seconds)})" if connection.paused_seconds else ""
    return Finding("reading_paused", f"Nothing is read from its connection{since}: {reasons}.")


def does_not_read(facts: Facts) -> Finding | None:
    connection = facts.connection
    if connection is None or connection.blocked_seconds is None:
        return None
    return Finding(
        "does_not_read",
        f"The client does not take what it is sent: {size(connection.unsent_bytes)} wait in its connection,"
        f" and it has taken nothing for {duration(connection.blocked_seconds)}. Its network or the client"
        " itself stands still; beyond `limits.stalled_seconds` it is closed, and messages at QoS 0 are"
        " dropped meanwhile.",
    )


def window_full(facts: Facts) -> Finding | None:
    flow = facts.flow
    if flow is None or flow.free > 0:
        return None
    taken = f"{counted(flow.window, 'message')} {are(flow.window)} sent and not acknowledged"
    return Finding(
        "window_full",
        f"The window is full: {taken}{_oldest(flow)}. Nothing more at QoS 1 and 2 is sent before it"
        " acknowledges: look at the client, whose handler hangs or which acknowledges late. The window is the"
        " lower of its Receive Maximum and `session.inflight_limit`.",
    )


def _oldest(flow: FlowFacts) -> str:
    if flow.oldest_seconds is None:
        return ""
    age = duration(flow.oldest_seconds)
    return f", the oldest for at least {age}: the client does not answer {flow.awaited}"


def acknowledges_late(facts: Facts) -> Finding | None:
    flow = facts.flow
    is_old = flow is not None and (flow.oldest_seconds or 0) >= _OLD_EXCHANGE_SECONDS
    if flow is None or flow.free <= 0 or not is_old:
        return None
    count = flow.in_flight + flow.releasing
    return Finding(
        "acknowledges_late",
        f"{counted(count, 'message')} {are(count)} in flight{_oldest(flow)}. There is room"
        f" in the window ({number(flow.free)} of {number(flow.window)}), so others go on: look at the"
        " client.",
        is_blocking=False,
    )


def identifier_in_use(facts: Facts) -> Finding | None:
    flow = facts.flow
    if flow is None or not flow.waits_for_packet_id:
        return None
    return Finding(
        "identifier_in_use",
        f"The next message needs Packet Identifier {flow.waits_for_packet_id}, whose last exchange is not"
        " over: it waits for PUBCOMP. The client has to send it; connecting again makes it do so.",
    )


def waits_in_memory(facts: Facts) -> Finding | None:
    flow = facts.flow
    waiting = flow.waiting + flow.shared_waiting if flow is not None else 0
    if flow is None or not waiting:
        return None
    is_full = flow.waiting >= _FULL_SHARE * flow.waiting_limit > 0
    of = f", of at most {number(flow.waiting_limit)} (session.direct_queue_limit)" if is_full else ""
    return Finding(
        "backlog",
        f"{counted(waiting, 'message')} {waits(waiting)} in the node's memory for a place in the window{of}:"
        " lost if the connection ends. For that not to be, the client needs a Session Expiry Interval.",
        is_blocking=False,
    )


def behind(facts: Facts) -> Finding | None:
    flow, session = facts.flow, facts.session
    if flow is None or session is None or flow.free <= 0 or not flow.is_behind or not session.queued:
        return None
    if identifier_in_use(facts) is not None or does_not_read(facts) is not None:
        return None
    return Finding(
        "catching_up",
        f"It is catching up: {counted(session.queued, 'message')} in its queue are being read and sent as"
        " fast as it acknowledges. Ask again: the number should fall.",
        is_blocking=False,
    )
