"""What is said of a topic, a token, an entry of a queue: facts in, sentences out."""

from dataclasses import replace

import pytest

from broker.admin.explain.of_message import (
    TokenAnswers,
    TopicAnswers,
    entry_sentences,
    token_sentences,
    topic_sentences,
)
from broker.client import FilterFacts, GroupFacts, SubscriberFacts, TopicFacts
from cluster.explainer import FoundLetters, Holders
from cluster.store.explained import Brief, Letter, PlaceOfEntry, QueuedEntry

FILTER = FilterFacts("t/#", persistent_count=2, persistent=[SubscriberFacts("c", 1), SubscriberFacts("d", 2)])
TOPIC = TopicAnswers("t/x", {"a.1": TopicFacts(1, [FILTER])}, {}, None)
AWAY, HERE = Brief(None, 1000, 7), Brief("a.1", None, 0)
ENTRY = QueuedEntry(1, 5, 2, False, "t", 4, 0)
PLACE = PlaceOfEntry(1, n=9, hi=9, is_released=False, entry=ENTRY, head=3)
NO_LETTERS = FoundLetters([], 0, is_all=True)


def of(*filters: FilterFacts) -> TopicAnswers:
    return replace(TOPIC, said={"a.1": TopicFacts(len(filters), list(filters))})


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (replace(TOPIC, said={}), "No node has answered"),
        (
            of(),
            "Nobody subscribes to it: a message is acknowledged (with 0x10 at MQTT 5) and reaches nobody.",
        ),
        (TOPIC, "It goes to 2 subscriptions of persistent sessions."),
        (of(FilterFacts("t", direct_count=1)), "It goes to 1 client without one."),
        (
            of(FilterFacts("t", groups=[GroupFacts("g/t", 2, 4, 1)])),
            "The group g/t has 4 messages that no member has taken",
        ),
        (of(FilterFacts("t", groups=[GroupFacts("g/t", 2)])), "to one member of each of 1 group (g/t)."),
        (
            replace(TOPIC, briefs={"c": AWAY, "d": HERE, "e": None}),
            "1 of 2 sessions looked at is away, for whom it waits in the queue, and at QoS 0 not even that",
        ),
        (
            replace(TOPIC, briefs={"c": AWAY, "d": HERE}),
            "The longest queue of these has c, with 7 messages: `moorline ctl session explain c` tells why.",
        ),
        (replace(TOPIC, retained=(5, 0)), "There is a retained message"),
        (replace(TOPIC, silent={"b.2": "busy"}), "Clients of b.2 are not counted"),
    ],
)
def test_a_topic(answers: TopicAnswers, text: str) -> None:
    assert any(text in sentence for sentence in topic_sentences(answers)), topic_sentences(answers)


def test_who_matches_twice_is_named_once_with_the_higher_qos() -> None:
    answers = of(FILTER, FilterFacts("t/x", persistent_count=1, persistent=[SubscriberFacts("c", 2)]))
    assert {name: (filter, each.qos) for name, (filter, each) in answers.persistent.items()} == {
        "c": ("t/x", 2),
        "d": ("t/#", 2),
    }


def test_the_node_that_knows_the_latest_counts() -> None:
    older = TopicFacts(2, [FILTER, FILTER], (1, 9))
    newer = TopicFacts(1, [replace(FILTER, persistent_count=5)], (1, 10))
    answers = replace(TOPIC, said={"a.1": older, "b.2": newer})
    assert topic_sentences(answers)[0] == "It goes to 5 subscriptions of persistent sessions."


NOBODY = Holders([], [], is_retained=False, uncounted=0)


@pytest.mark.parametrize(
    ("holders", "briefs", "text"),
    [
        (NOBODY, {}, "Nobody has a message of this token"),
        (replace(NOBODY, client_ids=["c"], uncounted=500), {}, "reached the queues of 501 sessions."),
        (replace(NOBODY, client_ids=["c"]), {"c": HERE}, "It has left the queue of c, which is empty"),
        (
            replace(NOBODY, client_ids=["c", "d"]),
            {"c": HERE, "d": HERE},
            "It has left the queue of c, d, which are empty",
        ),
        (
            replace(NOBODY, client_ids=["c"]),
            {"c": AWAY},
            "It may still be in the queue of c: an entry does not",
        ),
        (
            replace(NOBODY, client_ids=list("abcdefg")),
            dict.fromkeys("abcdefg"),
            "The session of a, b, c, d, e and 2 more has ended since.",
        ),
        (replace(NOBODY, groups=["g/t"]), {}, "It is, or was, with the groups g/t."),
        (replace(NOBODY, is_retained=True), {}, "It has become the retained message of its topic."),
    ],
)
def test_a_token(holders: Holders, briefs: dict[str, Brief | None], text: str) -> None:
    said = token_sentences(TokenAnswers(b"t", holders, briefs))
    assert any(text in sentence for sentence in said), said


@pytest.mark.parametrize(
    ("n", "place", "sent", "letters", "text"),
    [
        (5, None, 0, NO_LETTERS, "There is no such session"),
        (10, PLACE, 9, NO_LETTERS, "No message has that number: the last one is 9."),
        (0, PLACE, 9, NO_LETTERS, "No message has that number"),
        (
            5,
            PLACE,
            4,
            NO_LETTERS,
            "in the queue, behind at most 2 messages, and was not sent yet (QoS 2, t).",
        ),
        (5, replace(PLACE, head=5), 4, NO_LETTERS, "It is in the queue, and was not sent yet"),
        (5, PLACE, 5, NO_LETTERS, "was perhaps sent, but is not acknowledged (QoS 2, t)."),
        (5, replace(PLACE, entry=None, is_released=True), 5, NO_LETTERS, "The client has it (PUBREC)"),
        (5, replace(PLACE, entry=None), 5, NO_LETTERS, "acknowledged, as no dead letter of this client"),
        (
            5,
            replace(PLACE, entry=None),
            5,
            FoundLetters([Letter(1, "t", "expired")], 1, is_all=True),
            "acknowledged, or one of the 1 known to be dropped (expired at last).",
        ),
    ],
)
def test_an_entry(n: int, place: PlaceOfEntry | None, sent: int, letters: FoundLetters, text: str) -> None:
    (said,) = entry_sentences(n, place, sent, letters)
    assert text in said
