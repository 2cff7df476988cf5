"""What is said of a topic, of a message by its token, of an entry of a queue. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker.admin.explain.wording import are, counted, number
from broker.client import FilterFacts, SubscriberFacts, TopicFacts
from cluster.explainer import FoundLetters, Holders
from cluster.store.explained import Brief, PlaceOfEntry, QueuedEntry

NAMED = 50
"""Sessions and clients that are named."""


@dataclass(frozen=True, slots=True)
class TopicAnswers:
    """`said` by the nodes, and why others said nothing. `retained`: bytes and deadline of the retained
    message. `briefs` of the persistent sessions that are named."""

    topic: str
    said: Mapping[str, TopicFacts]
    silent: Mapping[str, str]
    retained: tuple[int, int] | None
    briefs: Mapping[str, Brief | None] = field(default_factory=dict)

    @property
    def filters(self) -> Sequence[FilterFacts]:
        """As the node says that knows the latest of sessions and groups: idle ones follow once a second."""
        latest = max(self.said.values(), key=lambda facts: facts.version, default=TopicFacts())
        return latest.filters

    @property
    def persistent(self) -> dict[str, tuple[str, SubscriberFacts]]:
        """Client id -> the filter with the highest QoS of those that match."""
        best: dict[str, tuple[str, SubscriberFacts]] = {}
        for facts in self.filters:
            for each in facts.persistent:
                if each.client_id not in best or best[each.client_id][1].qos < each.qos:
                    best[each.client_id] = (facts.filter, each)
        return dict(list(best.items())[:NAMED])


def topic_sentences(answers: TopicAnswers) -> list[str]:
    """The most important first."""
    if not answers.said:
        return ["No node has answered, so it is not known who gets it."]
    sessions = sum(facts.persistent_count for facts in answers.filters)
    groups = sorted({group.name for facts in answers.filters for group in facts.groups})
    direct = sum(facts.direct_count for node in answers.said.values() for facts in node.filters)
    sentences = [_who(sessions, direct, groups)]
    sentences += _blocked(answers)
    sentences += _lagging(answers)
    if answers.retained is not None:
        sentences.append("There is a retained message: whoever subscribes gets it.")
    if answers.silent:
        sentences.append(f"Clients of {', '.join(answers.silent)} are not counted: no answer from there.")
    sentences.append(
        "Not looked at: whether a publisher may publish there (rules), what `topics.rewrite` makes of it, and"
        " mount points."
    )
    return sentences


def _who(sessions: int, direct: int, groups: Sequence[str]) -> str:
    if not (sessions or direct or groups):
        return (
            "Nobody subscribes to it: a message is acknowledged (with 0x10 at MQTT 5) and reaches nobody."
            " Compare the filters of who should get it, letter by letter: `moorline ctl session explain"
            " CLIENT`."
        )
    parts = [
        counted(sessions, "subscription") + " of persistent sessions" if sessions else "",
        counted(direct, "client") + " without one" if direct else "",
        f"one member of each of {counted(len(groups), 'group')} ({', '.join(groups[:5])})" if groups else "",
    ]
    return f"It goes to {', to '.join(part for part in parts if part)}."


def _blocked(answers: TopicAnswers) -> list[str]:
    """Of the sessions that are named."""
    known = {client_id: brief for client_id, brief in answers.briefs.items() if brief is not None}
    away = [client_id for client_id, brief in known.items() if brief.owner is None]
    longest = max(known, key=lambda client_id: known[client_id].queued, default=None)
    sentences = []
    if away:
        sentences.append(
            f"{number(len(away))} of {counted(len(known), 'session')} looked at {are(len(away))} away, for"
            f" whom it waits in the queue, and at QoS 0 not even that: {', '.join(away[:5])}."
        )
    if longest is not None and known[longest].queued:
        sentences.append(
            f"The longest queue of these has {longest}, with {counted(known[longest].queued, 'message')}:"
            f" `moorline ctl session explain {longest}` tells why."
        )
    return sentences


def _lagging(answers: TopicAnswers) -> list[str]:
    found = {}
    for node in answers.said.values():
        for facts in node.filters:
            for group in facts.groups:
                if group.waiting:
                    found[group.name] = group.waiting
    return [
        f"The group {name} has {counted(waiting, 'message')} that no member has taken: its members are too"
        " few, too slow, or away."
        for name, waiting in found.items()
    ]


@dataclass(frozen=True, slots=True)
class TokenAnswers:
    """Who has a message, and of those that are named how they are."""

    token: bytes
    holders: Holders
    briefs: Mapping[str, Brief | None]


def token_sentences(answers: TokenAnswers) -> list[str]:
    """What is known, and what can't be."""
    holders = answers.holders
    count = len(holders.client_ids) + holders.uncounted
    if not (count or holders.groups or holders.is_retained):
        return [
            "Nobody has a message of this token: it has reached nobody, or its exchange with the publisher"
            " was finished more than a minute ago, and then its token is forgotten; or it is no token. Only"
            " QoS 2 messages of persistent sessions have one: look for others by topic and time."
        ]
    sentences = [f"The message has reached the queues of {counted(count, 'session')}."]
    done = [name for name, brief in answers.briefs.items() if brief is not None and not brief.queued]
    gone = [name for name, brief in answers.briefs.items() if brief is None]
    open_ones = [name for name, brief in answers.briefs.items() if brief is not None and brief.queued]
    if done:
        sentences.append(
            f"It has left the queue of {_named(done)}, which {are(len(done))} empty: acknowledged, or dropped"
            " (see their dead letters)."
        )
    if open_ones:
        sentences.append(
            f"It may still be in the queue of {_named(open_ones)}: an entry does not say of which token it"
            " is. Look at its head and tail by topic, then ask by client and number."
        )
    if gone:
        sentences.append(f"The session of {_named(gone)} has ended since.")
    if holders.groups:
        sentences.append(f"It is, or was, with the groups {', '.join(holders.groups[:5])}.")
    if holders.is_retained:
        sentences.append("It has become the retained message of its topic.")
    return sentences


def _named(client_ids: Sequence[str]) -> str:
    shown = ", ".join(client_ids[:5])
    return f"{shown} and {len(client_ids) - 5} more" if len(client_ids) > 5 else shown


def entry_sentences(n: int, place: PlaceOfEntry | None, sent: int, letters: FoundLetters) -> list[str]:
    """Where the entry `n` of a queue is, of which those up to `sent` were sent, or perhaps were."""
    if place is None:
        return ["There is no such session, or it has no queue: it has ended, with all that was in there."]
    if n > place.n or n < 1:
        return [f"No message has that number: the last one is {number(place.n)}."]
    if place.entry is not None and n > sent:
        before = f", behind at most {counted(n - place.head, 'message')}" if n > place.head else ""
        return [f"It is in the queue{before}, and was not sent yet ({_kind(place.entry)})."]
    if place.entry is not None:
        return [
            f"It is in the queue and was perhaps sent, but is not acknowledged ({_kind(place.entry)}). If the"
            " client is connected, it waits for its acknowledgement."
        ]
    if place.is_released:
        return ["The client has it (PUBREC), and has not sent PUBCOMP: the exchange is in its last phase."]
    if not letters.letters:
        return ["It has left the queue: acknowledged, as no dead letter of this client was found."]
    return [
        f"It has left the queue: acknowledged, or one of the {number(len(letters.letters))} known to"
        f" be dropped ({letters.letters[0].reason} at last). Which of both is not known: nobody notes what"
        " was acknowledged."
    ]


def _kind(entry: QueuedEntry) -> str:
    return f"QoS {entry.qos}, {entry.topic}"
