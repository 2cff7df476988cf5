"""What a person on call is told of a client: from facts to sentences, the most important first. Pure.

Each rule looks at the facts and finds something, or nothing. What is found says what is so and, behind a
colon or in a sentence of its own, what to do. `code` is for programs and for docs/explain.md, which has them
all."""

from collections.abc import Sequence
from typing import Final

from broker.admin.explain import of_connection, of_node, of_session
from broker.admin.explain.facts import Facts, Finding, Rule, moment
from broker.admin.explain.wording import number

RULES: Final[Sequence[Rule]] = (
    of_node.redis_away,
    of_node.banned,
    of_node.unknown,
    of_node.refused,
    of_node.owner_dead,
    of_node.owner_silent,
    of_node.in_doubt,
    of_connection.not_accepted,
    of_connection.fought_over,
    of_connection.reading_paused,
    of_connection.does_not_read,
    of_connection.window_full,
    of_connection.identifier_in_use,
    of_session.away,
    of_session.queue_full,
    of_session.drops,
    of_connection.acknowledges_late,
    of_connection.waits_in_memory,
    of_connection.behind,
    of_session.no_subscriptions,
    of_session.replaying,
    of_session.receiving,
    of_session.will,
    of_session.ends,
)
"""In the order of what is told."""


def findings(facts: Facts) -> list[Finding]:
    """What is to be said, the most important first; at least one sentence."""
    found = [finding for rule in RULES if (finding := rule(facts)) is not None]
    if not any(finding.is_blocking for finding in found):
        found.insert(0, _nothing_blocks(facts))
    return found


def _nothing_blocks(facts: Facts) -> Finding:
    connection, session = facts.connection, facts.session
    if connection is None:
        return Finding(
            "unclear",
            "A node has its session and no connection of it, or did not say: it is just coming or going. Ask"
            " again.",
            is_blocking=False,
        )
    flow = facts.flow
    in_flight = flow.in_flight + flow.releasing if flow is not None else 0
    queued = session.queued if session is not None else 0
    return Finding(
        "well",
        f"Connected since {moment(facts, connection.connected_seconds)}, and nothing holds it up:"
        f" {number(queued)} in its queue, {number(in_flight)} in flight. If a message is missing, look"
        f" whether a subscription matches its topic: `moorline ctl explain --topic TOPIC`.",
        is_blocking=False,
    )
