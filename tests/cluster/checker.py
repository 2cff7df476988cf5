"""Judges a record: a pure function from what the clients saw to what the broker did wrong.

The rules. "Before" and "after" are positions in the record.

*lost*. A subscription owes its session each message at QoS 1 or 2 that was first published after its SUBACK
and acknowledged (PUBACK, PUBCOMP) before its UNSUBSCRIBE was sent, if that session was drained afterwards. A
message that was first published before the SUBACK isn't owed, whenever it is acknowledged: it may have been
routed before. A persistent session lives over connections; that of a direct subscriber ends with its
connection, so what it did not get by then isn't owed. What was acknowledged before UNSUBSCRIBE is owed after
it, too: MQTT leaves that open [3.10.4], a queue that keeps what it holds does not.

*duplicate*. Delivered at QoS 2, a message comes once to a session. The driver has done before what a QoS 2
receiver does with Packet Identifiers [4.3.3].

*reordered*. Per session and (publisher, topic, QoS): messages come for the first time in the order in which
they were published first, at QoS 1 and 2 [4.6].

*repeated*. At QoS 1 a message may come again, in one way only: whoever sends again, the publisher or the
broker, sends all again that is not acknowledged, in order. So what follows on a repeated k is what followed
on k before: on one connection, no message that this session had already got is skipped between two deliveries
that go forward; and after a repeat no new message comes before all that had been got from there on came
again. Going back is allowed at any time; going forward is so on a new connection, which goes on with whatever
is not acknowledged.

*unsubscribed*. A delivery needs a subscription which can have met the message: its SUBSCRIBE was sent before
the message was acknowledged, and the message was published before its UNSUBACK. And when the session was
drained after that UNSUBACK, nothing comes any more for this subscription.

*will*. A will is a message like others: owed to its subscribers from the moment on at which an accepted
connection was lost; never delivered if the client sent DISCONNECT. It may be sent or not if the node did not
close then in time, if the node or Redis was struck at that moment, and if its CONNECT was never accepted. At
QoS 1 too it comes once: again only on a later connection of the subscriber and with DUP. Order is not asked
of wills.

*session*. CONNACK says "session present" if there was a persistent session, and doesn't if there was none.

*protocol*. What the drivers saw that no broker may do (`Broken`), and messages that nobody ever published.
"""

import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.mqtt import matches
from tests.cluster.lives import NEVER, Fate, Life, Story, Taken, owed
from tests.cluster.record import Broken, Event, FaultBegan, FaultEnded, Message

KINDS: Final = (
    "lost",
    "duplicate",
    "reordered",
    "repeated",
    "unsubscribed",
    "will",
    "session",
    "protocol",
)
_EXCERPT_EVENTS: Final = 80
_NEAR_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Violation:
    """`position` in the record is where it was seen, -1 for what is missing in the end."""

    kind: str
    client: str
    text: str
    position: int = -1
    message: Message | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.client}: {self.text}"


@dataclass(frozen=True, slots=True)
class Violations:
    """False if there is none."""

    found: list[Violation]

    def __bool__(self) -> bool:
        return bool(self.found)

    def count(self, kind: str) -> int:
        """Of one kind."""
        return Counter(violation.kind for violation in self.found)[kind]


def check(record: Sequence[Event]) -> Violations:
    """All that is wrong in a record."""
    story = Story(record)
    found = [
        Violation("session", mistake.client, mistake.text, mistake.position) for mistake in story.mistakes
    ]
    for position, event in enumerate(record):
        if isinstance(event, Broken):
            found.append(Violation("protocol", event.client, event.text, position))
    for life in story.lives:
        found += _lost(story, life)
        found += _delivered(story, life)
    return Violations(found)


def undelivered(record: Sequence[Event]) -> list[tuple[str, Message]]:
    """What would be lost if every subscriber were drained now: wait until there is nothing."""
    story = Story(record)
    missing: list[tuple[str, Message]] = []
    for life in story.lives:
        if life.end == NEVER and life.spans:
            got = {taken.event.message for taken in life.deliveries}
            missing += [(life.client, message) for message in owed(story, life, len(record)) - got]
    return missing


# Lost


def _lost(story: Story, life: Life) -> Iterator[Violation]:
    if not life.drains:
        return
    got = {taken.event.message for taken in life.deliveries}
    for message in sorted(owed(story, life, life.drains[-1]) - got):
        kind = "will" if story.fates[message].is_will else "lost"
        yield Violation(kind, life.client, f"{_name(message)} never came", -1, message)


# What came


@dataclass(slots=True)
class _Stream:
    """What a session got of one publisher, topic and QoS."""

    qos: int
    seen: list[int] = field(default_factory=list)  # sorted
    known: dict[int, int] = field(default_factory=dict)  # with the connection of the last time
    previous: int = 0
    connection: int = 0

    def next_seen(self, sequence: int) -> int:
        """The first that has come already of those behind this one; NEVER if there is none."""
        index = bisect.bisect_right(self.seen, sequence)
        return self.seen[index] if index < len(self.seen) else NEVER

    def note(self, sequence: int, connection: int) -> None:
        """It has come. What came too late at QoS 2 does not make that come again which came in its place."""
        if self.qos == 1 or not self.is_late(sequence):
            self.previous = sequence
        if sequence not in self.known:
            bisect.insort(self.seen, sequence)
        self.known[sequence] = connection
        self.connection = connection

    def is_late(self, sequence: int) -> bool:
        """Whether it is new, but another one was published behind it and has come."""
        return sequence not in self.known and bool(self.seen) and sequence < self.seen[-1]


def _delivered(story: Story, life: Life) -> Iterator[Violation]:
    streams: dict[tuple[str, str, int], _Stream] = {}
    for taken in life.deliveries:
        message = taken.event.message
        fate = story.fates.get(message)
        if fate is None:
            yield _at(taken, "protocol", f"{_name(message)} came, which was never published")
            continue
        if not any(_may_have_met(life, index, fate, taken) for index in range(len(life.spans))):
            yield _at(taken, "unsubscribed", f"{_name(message)} came without a subscription for it")
        if fate.is_cancelled:
            yield _at(taken, "will", f"{_name(message)} came, though the client had sent DISCONNECT")
        stream = streams.setdefault(message[:3], _Stream(message.qos))
        text = _repetition_of_will(stream, taken) if fate.is_will else ""
        if text:
            yield _at(taken, "will", text)
        elif not fate.is_will:
            yield from _order(story, life, stream, taken)
        stream.note(message.sequence, taken.connection)


def _may_have_met(life: Life, index: int, fate: Fate, taken: Taken) -> bool:
    span = life.spans[index]
    return (
        matches(span.filter, taken.event.message.topic)
        and fate.first < span.unsubscribed
        and (fate.is_will or span.subscribing < fate.acknowledged)
        and not any(span.unsubscribed < drain < taken.position for drain in life.drains)
    )


def _repetition_of_will(stream: _Stream, taken: Taken) -> str:
    event = taken.event
    connection = stream.known.get(event.message.sequence)
    if connection is None or event.qos == 0:
        return ""
    if event.qos == 1 and event.dup and taken.connection != connection:
        return ""
    return f"{_name(event.message)} came twice"


def _order(story: Story, life: Life, stream: _Stream, taken: Taken) -> Iterator[Violation]:
    sequence = taken.event.message.sequence
    name = _name(taken.event.message)
    behind_previous = stream.next_seen(stream.previous)
    if taken.event.qos == 0:
        return
    if sequence not in stream.known:
        if stream.is_late(sequence) and not _may_be_late(story, life, taken, stream.seen[-1]):
            yield _at(taken, "reordered", f"{name} came for the first time after {stream.seen[-1]}")
        elif taken.event.qos == 1 and behind_previous < sequence:
            text = f"{name} came after a repeated {stream.previous}, but {behind_previous} did not come again"
            yield _at(taken, "repeated", text)
    elif taken.event.qos == 2:
        yield _at(taken, "duplicate", f"{name} came twice")
    elif taken.connection == stream.connection and behind_previous < sequence:
        text = f"{name} came after a repeated {stream.previous}, but {behind_previous} did not come again"
        yield _at(taken, "repeated", text)


def _may_be_late(story: Story, life: Life, taken: Taken, newest: int) -> bool:
    """Whether this session was not there when the message was sent first, but was when it was sent again,
    behind the newest one that has come."""
    message = taken.event.message
    fate = story.fates[message]
    newer = story.fates[message._replace(sequence=newest)]
    spans = [span for span in life.spans if matches(span.filter, message.topic)]
    if any(span.subscribed < fate.first < span.unsubscribing for span in spans):
        return False
    return any(
        newer.first < again < taken.position
        and any(span.subscribing < again < span.unsubscribed for span in spans)
        for again in fate.again
    )


def _at(taken: Taken, kind: str, text: str) -> Violation:
    return Violation(kind, taken.event.client, text, taken.position, taken.event.message)


def _name(message: Message) -> str:
    return f"{message.sequence} of {message.publisher} on {message.topic} at QoS {message.qos}"


# For people


def excerpt(record: Sequence[Event], violation: Violation) -> str:
    """The part of the record that a violation is about: the message, the client's connection, the faults; and
    what came of the same stream around it."""
    lines: list[str] = []
    shown = 0
    for position, event in enumerate(record):
        if not _concerns(record, position, event, violation):
            continue
        is_it = position == violation.position
        if is_it or (violation.position < 0 and _of(event, violation)):
            shown = len(lines)
        lines.append(f"{'>' if is_it else ' '} {line(record, position)}")
    begin = max(0, min(shown - _EXCERPT_EVENTS // 2, len(lines) - _EXCERPT_EVENTS))
    return "\n".join([str(violation), *lines[begin : begin + _EXCERPT_EVENTS]])


def line(record: Sequence[Event], position: int) -> str:
    """One event of a record."""
    event = record[position]
    return f"{position:>7} {event.at - record[0].at:9.4f} {_shown(event)}"


def _of(event: Event, violation: Violation) -> bool:
    """Whether it is about the message that is missing."""
    message: Message | None = getattr(event, "message", None)
    return message is not None and message == violation.message and event.client == message.publisher


def _concerns(record: Sequence[Event], position: int, event: Event, violation: Violation) -> bool:
    message: Message | None = getattr(event, "message", None)
    if isinstance(event, FaultBegan | FaultEnded):
        return True
    if message is None:
        publisher = violation.message.publisher if violation.message is not None else ""
        return event.client in (violation.client, publisher)
    if message == violation.message and event.client in (violation.client, message.publisher):
        return True
    if violation.message is None or violation.position < 0 or event.client != violation.client:
        return False
    is_near = abs(event.at - record[violation.position].at) < _NEAR_SECONDS
    return is_near and message[:3] == violation.message[:3]


def _shown(event: Event) -> str:
    names = [name for cls in type(event).__mro__ for name in reversed(getattr(cls, "__slots__", ()))]
    fields = [
        f"{name}={_value(getattr(event, name))}" for name in reversed(names) if name not in ("at", "client")
    ]
    return f"{event.client:<12} {type(event).__name__:<13} {' '.join(fields)}"


def _value(value: object) -> str:
    return _name(value) if isinstance(value, Message) else repr(value)
