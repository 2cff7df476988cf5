"""The answer of `GET /explain?client_id=`: the facts in JSON, beside the sentences."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from broker.admin.exchange import time_text
from broker.admin.explain.facts import Facts
from broker.admin.explain.of_session import DROPS, away_since, subscription_count
from broker.admin.explain.verdict import findings
from broker.admin.waiting import shown_entry
from broker.client import ConnectionFacts
from cluster.explainer import FoundLetters
from cluster.store.events import StoredEvent
from cluster.store.explained import Letter, StoredSession, Subscribed

EVENTS: Final = 50
_TOPICS: Final = 3
_PROTOCOLS: Final = {3: "3.1", 4: "3.1.1", 5: "5.0"}


def shown_client(facts: Facts, letters: FoundLetters) -> dict[str, object]:
    """The whole answer."""
    found = findings(facts)
    session = facts.session
    return {
        "client_id": facts.client_id,
        "at": time_text(facts.now_ms),
        "verdict": [finding.text for finding in found],
        "codes": [finding.code for finding in found],
        "blocked_by": [finding.code for finding in found if finding.is_blocking],
        "session": _session(facts, session) if session is not None else None,
        "connection": _connection(facts, facts.connection) if facts.connection is not None else None,
        "queue": _queue(facts, session) if session is not None and not session.is_direct else None,
        "drops": _drops(letters.letters),
        "letters_looked_at": letters.looked_at,
        "letters_complete": letters.is_all,
        "events": [_event(event) for event in facts.events[:EVENTS]],
    }


def _session(facts: Facts, session: StoredSession) -> dict[str, object]:
    owner = facts.owner
    since_ms, reason = away_since(facts) if owner is None else (None, "")
    return {
        "state": "connected" if owner is not None else "away",
        "kind": "direct" if session.is_direct else "persistent",
        "node": owner.name if owner is not None else None,
        "incarnation": owner.incarnation if owner is not None else None,
        "node_alive": not owner.is_dead if owner is not None else None,
        "epoch": session.epoch,
        "protocol": _PROTOCOLS.get(session.protocol),
        "expiry_seconds": session.expiry_seconds,
        "expires_at": time_text(session.deadline_ms) if session.deadline_ms is not None else None,
        "away_since": time_text(since_ms) if since_ms is not None else None,
        "away_reason": reason or None,
        "will": _will(session),
        "subscription_count": subscription_count(facts),
        "subscriptions": [_subscribed(each) for each in session.subscriptions],
        "releasing": session.releasing,
        "receiving_count": session.receiving_count,
        "receiving": [
            {
                "packet_id": each.packet_id,
                "phase": "waits for PUBREL" if each.is_routed else "not routed",
                "since": time_text(each.since_ms),
                "token": each.token.hex(),
            }
            for each in session.receiving
        ],
    }


def _will(session: StoredSession) -> dict[str, object] | None:
    will = session.will
    if will is None:
        return None
    return {
        "topic": will.topic,
        "qos": will.qos,
        "retain": will.retain,
        "bytes": will.payload_bytes,
        "due": time_text(will.due_ms) if will.due_ms is not None else None,
    }


def _subscribed(each: Subscribed) -> dict[str, object]:
    options = each.options
    return {
        "filter": each.filter,
        "qos": options.qos if options is not None else None,
        "no_local": options.no_local if options is not None else None,
        "retain_as_published": options.retain_as_published if options is not None else None,
        "retain_handling": options.retain_handling if options is not None else None,
        "subscription_identifier": (options.subscription_identifier or None) if options is not None else None,
        "replaying": each.is_replaying,
    }


def _connection(facts: Facts, connection: ConnectionFacts) -> dict[str, object]:
    """As the node says it, with moments in place of ages."""
    shown = asdict(connection)
    shown["protocol"] = _PROTOCOLS.get(connection.protocol)
    seconds = shown.pop("connected_seconds")
    is_accepted = connection.is_accepted
    shown["connected_at"] = time_text(facts.now_ms - int(seconds * 1000)) if is_accepted else None
    return shown


def _queue(facts: Facts, session: StoredSession) -> dict[str, object]:
    return {
        "length": session.queued,
        "limit": (facts.node.queue_limit or None) if facts.node is not None else None,
        "bytes": session.queued_bytes,
        "bytes_limit": (facts.node.queue_bytes or None) if facts.node is not None else None,
        "last_n": session.n,
        "sent_up_to_n": facts.sent_up_to,
        "head": [shown_entry(entry) for entry in session.head],
        "tail": [shown_entry(entry) for entry in reversed(session.tail)],
    }


def _drops(letters: Sequence[Letter]) -> list[dict[str, object]]:
    """By reason; the letters come with the newest first."""
    by_reason: dict[str, list[Letter]] = {}
    for letter in letters:
        by_reason.setdefault(letter.reason, []).append(letter)
    return [
        {
            "reason": reason,
            "means": DROPS.get(reason),
            "count": len(some),
            "first": time_text(some[-1].time_ms),
            "last": time_text(some[0].time_ms),
            "topics": list(dict.fromkeys(letter.topic for letter in some))[:_TOPICS],
        }
        for reason, some in by_reason.items()
    ]


def _event(event: StoredEvent) -> dict[str, object]:
    return {"at": time_text(event.at_ms), "kind": event.kind, **event.fields}
