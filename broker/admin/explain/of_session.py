"""What is to be said of a session, wherever its client is. Pure."""

from collections.abc import Mapping
from typing import Final

from broker.admin.exchange import time_text
from broker.admin.explain.facts import Facts, Finding, last_event
from broker.admin.explain.wording import are, counted, duration, number, waits

_FULL_SHARE: Final = 0.8
_RECENT_MS: Final = 600_000
_OLD_EXCHANGE_SECONDS: Final = 60
_ENDS_SOON_SECONDS: Final = 600


def away(facts: Facts) -> Finding | None:
    session = facts.session
    if session is None or session.owner is not None or facts.connection is not None:
        return None
    since_ms, reason = away_since(facts)
    since = f" since {time_text(since_ms)} ({_ago(facts, since_ms)})" if since_ms else ""
    why = f", {reason}" if reason else ""
    head = f"The client is away{since}{why};"
    if not session.queued:
        return Finding("away", f"{head} no message waits for it.")
    waiting = f"{counted(session.queued, 'message')} {waits(session.queued)} for it"
    return Finding(
        "away",
        f"{head} {waiting}{_age_of_head(facts, since_ms)}. It gets them when it connects, to any node: look"
        " why it does not.",
    )


def away_since(facts: Facts) -> tuple[int | None, str]:
    """When its last connection ended, and how, as far as that is known."""
    session = facts.session
    last = last_event(facts, "connected", "disconnected")
    end = last if last is not None and last.kind == "disconnected" else None
    reason = str(end.fields.get("reason") or "") if end is not None else ""
    if session is not None and session.deadline_ms is not None:
        return session.deadline_ms - session.expiry_seconds * 1000, reason
    return (end.at_ms if end is not None else None), reason


def _age_of_head(facts: Facts, since_ms: int | None) -> str:
    """A message does not say when it came. But what was sent is older than the end of the connection, and
    what was not came later, unless the client was behind then."""
    session = facts.session
    if session is None or not session.head or since_ms is None:
        return ""
    was_sent = session.head[0].n <= session.hi
    return f", the oldest for {'more than' if was_sent else 'up to'} {_ago(facts, since_ms)}"


def _ago(facts: Facts, moment_ms: int) -> str:
    return duration((facts.now_ms - moment_ms) / 1000)


def queue_full(facts: Facts) -> Finding | None:
    session = facts.session
    node = facts.node
    if session is None or node is None:
        return None
    limits = (
        (session.queued, node.queue_limit, "", "session.queue_limit"),
        (session.queued_bytes, node.queue_bytes, " bytes", "session.queue_bytes"),
    )
    has, limit, unit, setting = max(limits, key=lambda each: each[0] / each[1] if each[1] else 0.0)
    if not limit or has < _FULL_SHARE * limit:
        return None
    share = min(100, has * 100 // limit)
    victim = "the oldest ones that were not sent" if node.drops_oldest else "new ones"
    verb = "are dropped" if has >= limit else "will be dropped"
    return Finding(
        "queue_full",
        f"Its queue is {share} % full: {number(has)} of {number(limit)}{unit} ({setting})."
        f" Beyond that {victim} {verb} (session.queue_policy): let the client read, or raise the limit, or"
        " send less.",
        is_blocking=False,
    )


def drops(facts: Facts) -> Finding | None:
    recent = [letter for letter in facts.letters if facts.now_ms - letter.time_ms <= _RECENT_MS]
    if not recent:
        return None
    reasons: dict[str, int] = {}
    for letter in recent:
        reasons[letter.reason] = reasons.get(letter.reason, 0) + 1
    parts = [f"{number(count)} {reason} ({DROPS.get(reason, '?')})" for reason, count in reasons.items()]
    return Finding(
        "drops",
        f"It has lost messages within the last {duration(_RECENT_MS / 1000)}: at least {', '.join(parts)}.",
        is_blocking=False,
    )


DROPS: Final[Mapping[str, str]] = {
    "drop_oldest": "its queue was full: the oldest went",
    "drop_new": "its queue was full: the new ones went",
    "queue_full": "too much waited in memory for a place in the window",
    "expired": "Message Expiry Interval was over",
    "slow_consumer": "QoS 0, and the client does not read fast enough",
    "packet_too_large": "larger than its Maximum Packet Size",
    "outside_mount_point": "not below its mount point",
}
"""Reasons of dead letters, in words."""


def no_subscriptions(facts: Facts) -> Finding | None:
    count = subscription_count(facts)
    if count is None or count:
        return None
    return Finding(
        "no_subscriptions",
        "It subscribes to nothing, so nothing is sent to it: the client has not sent SUBSCRIBE, or it was"
        " refused (see its events), or it has unsubscribed.",
        is_blocking=False,
    )


def subscription_count(facts: Facts) -> int | None:
    """None if it is not known."""
    session, connection = facts.session, facts.connection
    if session is not None and not session.is_direct:
        return session.subscription_count
    if connection is not None and connection.is_accepted and not connection.is_persistent:
        return connection.subscription_count
    return None


def replaying(facts: Facts) -> Finding | None:
    session = facts.session
    count = sum(each.is_replaying for each in session.subscriptions) if session is not None else 0
    if not count:
        return None
    return Finding(
        "replaying",
        f"Retained messages for {counted(count, 'subscription')} are still to be put into its queue; that"
        " goes on while it is connected.",
        is_blocking=False,
    )


def receiving(facts: Facts) -> Finding | None:
    session = facts.session
    if session is None or not session.receiving:
        return None
    oldest = session.receiving[0]
    age = (facts.now_ms - oldest.since_ms) / 1000
    if age < _OLD_EXCHANGE_SECONDS:
        return None
    count = session.receiving_count
    missing = "it has not sent PUBREL" if oldest.is_routed else "it has to send the message again"
    return Finding(
        "exchange_open",
        f"{counted(count, 'QoS 2 message')} that it has sent {are(count)} not finished, the oldest"
        f" (Packet Identifier {oldest.packet_id}) for {duration(age)}: {missing}.",
        is_blocking=False,
    )


def ends(facts: Facts) -> Finding | None:
    session = facts.session
    if session is None or session.deadline_ms is None:
        return None
    left = (session.deadline_ms - facts.now_ms) / 1000
    if left > _ENDS_SOON_SECONDS:
        return None
    return Finding(
        "session_ends",
        f"Its session ends at {time_text(session.deadline_ms)}, in {duration(max(0.0, left))}, with its"
        " subscriptions and its queue, unless it connects before that.",
        is_blocking=False,
    )


def will(facts: Facts) -> Finding | None:
    will = facts.session.will if facts.session is not None else None
    if will is None or will.due_ms is None:
        return None
    left = max(0.0, (will.due_ms - facts.now_ms) / 1000)
    return Finding(
        "will_due",
        f"Its Will Message to {will.topic} is published in {duration(left)}, unless it connects before that.",
        is_blocking=False,
    )
