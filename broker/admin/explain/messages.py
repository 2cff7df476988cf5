"""Answers who gets a topic, and where a message is: asks nodes and Redis, and puts it into JSON. Raises
StoreError."""

from dataclasses import asdict
from typing import Final

from pydantic import TypeAdapter, ValidationError

from broker.admin.exchange import time_text
from broker.admin.explain.gathering import NODES_SECONDS, gather
from broker.admin.explain.of_message import (
    NAMED,
    TokenAnswers,
    TopicAnswers,
    entry_sentences,
    token_sentences,
    topic_sentences,
)
from broker.client import EXPLAIN_TOPIC, TopicFacts
from cluster.control import Control
from cluster.store.explained import Brief

_TOPIC_FACTS: Final = TypeAdapter(TopicFacts)


async def explain_topic(control: Control, topic: str) -> dict[str, object]:
    """Which sessions, groups and clients get it, by which filter."""
    heard = await control.questions.ask(EXPLAIN_TOPIC, {"topic": topic}, timeout_seconds=NODES_SECONDS)
    said, silent = {}, dict(heard.silent)
    for node, facts in heard.said.items():
        try:
            said[node] = _TOPIC_FACTS.validate_python(facts)
        except ValidationError:
            silent[node] = "its answer is of another release"
    answers = TopicAnswers(topic, said, silent, await control.explainer.retained(topic))
    briefs = await control.explainer.briefs(list(answers.persistent))
    return _shown_topic(TopicAnswers(topic, said, silent, answers.retained, briefs))


def _shown_topic(answers: TopicAnswers) -> dict[str, object]:
    retained = answers.retained
    return {
        "topic": answers.topic,
        "verdict": topic_sentences(answers),
        "retained": (
            {"bytes": retained[0], "expires_at": time_text(retained[1]) if retained[1] else None}
            if retained is not None
            else None
        ),
        "filters": [
            {"filter": facts.filter, "sessions": facts.persistent_count, "groups": len(facts.groups)}
            for facts in answers.filters
        ],
        "sessions": [
            {
                "client_id": client_id,
                "filter": filter,
                "qos": subscriber.qos,
                "no_local": subscriber.no_local,
                "exclusive": subscriber.is_exclusive,
                **_brief(answers.briefs.get(client_id)),
            }
            for client_id, (filter, subscriber) in answers.persistent.items()
        ],
        "direct": [
            {"client_id": each.client_id, "filter": facts.filter, "qos": each.qos, "node": node}
            for node, said in answers.said.items()
            for facts in said.filters
            for each in facts.direct
        ][:NAMED],
        "groups": _groups(answers),
        "silent": list(answers.silent),
    }


def _groups(answers: TopicAnswers) -> list[dict[str, object]]:
    """Each once: as a node with members says it, if there is one."""
    found: dict[str, dict[str, object]] = {}
    for said in answers.said.values():
        for facts in said.filters:
            for group in facts.groups:
                if group.waiting is not None or group.name not in found:
                    found[group.name] = asdict(group)
    return list(found.values())[:NAMED]


def _brief(brief: Brief | None) -> dict[str, object]:
    if brief is None:
        return {"state": None, "node": None, "queued": None}
    owner = brief.owner
    return {
        "state": "away" if owner is None else "connected",
        "node": owner.rpartition(".")[0] if owner is not None else None,
        "queued": brief.queued,
    }


async def explain_token(control: Control, token: bytes) -> dict[str, object]:
    """Who has the message."""
    holders = await control.explainer.holders(token)
    briefs = await control.explainer.briefs(holders.client_ids[:NAMED])
    answers = TokenAnswers(token, holders, briefs)
    return {
        "token": token.hex(),
        "verdict": token_sentences(answers),
        "sessions": [{"client_id": name, **_brief(brief)} for name, brief in briefs.items()],
        "session_count": len(holders.client_ids) + holders.uncounted,
        "groups": holders.groups[:NAMED],
        "retained": holders.is_retained,
    }


async def explain_entry(control: Control, client_id: str, n: int) -> dict[str, object]:
    """Where an entry of a queue is."""
    place = await control.explainer.entry(client_id, n)
    facts, letters = await gather(control, client_id)
    return {
        "client_id": client_id,
        "n": n,
        "verdict": entry_sentences(n, place, facts.sent_up_to or 0, letters),
        "topic": place.entry.topic if place is not None and place.entry is not None else None,
        "last_n": place.n if place is not None else None,
        "sent_up_to_n": facts.sent_up_to,
        "letters_looked_at": letters.looked_at,
    }
