"""What keeps a client from its session: Redis, a ban, its node. Pure."""

from typing import Final

from broker.admin.exchange import time_text
from broker.admin.explain.facts import Facts, Finding, describe_event, last_event, moment
from broker.admin.explain.wording import duration
from broker.client import BanFacts
from cluster.store.membership import DEAD_TICKS

_NODE_SILENT_SECONDS: Final = 2


def redis_away(facts: Facts) -> Finding | None:
    away = facts.node.redis_away_seconds if facts.node is not None else None
    if not facts.redis_trouble and away is None:
        return None
    since = f" since {moment(facts, away)} ({duration(away)})" if away is not None else ""
    reason = f" ({facts.redis_trouble})" if facts.redis_trouble else ""
    return Finding(
        "redis_away",
        f"Redis does not answer{since}{reason}: nothing at QoS 1 and 2 is stored or acknowledged, and nobody"
        " comes in. What follows is what the node has in memory. Look at Redis first: `moorline ctl health`.",
    )


def banned(facts: Facts) -> Finding | None:
    ban = facts.node.ban if facts.node is not None else None
    if ban is None:
        return None
    return Finding(
        "banned",
        f"It is banned {_until(ban)} ({ban.target}; {ban.reason or 'no reason given'}; by {ban.by or '?'}):"
        f" it is refused with 0x8A. To let it in again: `moorline ctl bans remove {ban.target}`.",
    )


def _until(ban: BanFacts) -> str:
    return f"until {time_text(ban.until_ms)}" if ban.until_ms else "for ever"


def unknown(facts: Facts) -> Finding | None:
    if facts.redis_trouble or facts.session is not None or facts.connection is not None:
        return None
    if not facts.events:
        return Finding(
            "unknown",
            "No session and no connection; nothing is known of it: look whether the Client Identifier is"
            " right, and whether the client reaches a listener.",
        )
    last = facts.events[0]
    seen = f"it was last seen {time_text(last.at_ms)} ({describe_event(last)})"
    return Finding(
        "unknown",
        f"No session and no connection; {seen}. Its session has ended or there was none that outlives a"
        " connection: nothing is kept for it until it connects and subscribes again.",
    )


def refused(facts: Facts) -> Finding | None:
    """Its last attempt to come in has failed."""
    last = last_event(facts, "connected", "refused")
    if last is None or last.kind != "refused" or facts.connection is not None:
        return None
    reason = str(last.fields.get("reason") or "no reason noted")
    return Finding(
        "refused",
        f"Its last CONNECT, at {time_text(last.at_ms)} from {last.fields.get('address') or '?'}, was refused:"
        f" {reason}. It stays out until that is mended.",
    )


def owner_dead(facts: Facts) -> Finding | None:
    owner = facts.owner
    if owner is None or not owner.is_dead:
        return None
    return Finding(
        "owner_dead",
        f"Its node {owner.name} is dead ({owner.incarnation}): the others give its sessions back within some"
        " seconds, also if nobody does anything. If the client connects now, to any node, it has its session"
        " at once. If this stays so, no other node lives.",
    )


def owner_silent(facts: Facts) -> Finding | None:
    owner = facts.owner
    if owner is None or owner.is_dead or not owner.silence:
        return None
    if owner.unseen_seconds < _NODE_SILENT_SECONDS:
        return Finding(
            "owner_silent",
            f"Its node {owner.name} lives, and did not answer ({owner.silence}): what it has in memory is not"
            " known. It is busy or of an older release: look at its event loop lag and its log.",
            is_blocking=False,
        )
    left = max(1, DEAD_TICKS - owner.unseen_seconds)
    return Finding(
        "owner_silent",
        f"Its node {owner.name} gives no life sign for {duration(owner.unseen_seconds)}: unless it goes on it"
        f" is dead to the others in about {left} s, and they give its sessions back. The client may connect"
        " elsewhere at once.",
    )


def in_doubt(facts: Facts) -> Finding | None:
    if facts.node is None or not facts.node.is_in_doubt:
        return None
    return Finding(
        "node_in_doubt",
        "Its node was stopped for a moment and does nothing until Redis has said that it still lives: that"
        " takes as long as Redis takes to answer. If it happens often, the machine is overloaded.",
    )
