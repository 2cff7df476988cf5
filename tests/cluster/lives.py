"""A record by subscriber and by message: what the rules of the checker are about.

All positions are indices into the record: the order in which the test saw things. A *life* is one session of
one client, a *span* is one subscription of a life.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.mqtt import matches
from tests.cluster.record import (
    Acknowledged,
    Connected,
    Connecting,
    Delivered,
    Drained,
    Event,
    FaultBegan,
    FaultEnded,
    Left,
    Lost,
    Message,
    Published,
    Subscribed,
    Subscribing,
    Unsubscribed,
    Unsubscribing,
    WillSet,
)

GRACE_SECONDS: Final = 2.0
"""A DISCONNECT has no answer. If its node is struck within so long after it, nobody knows whether it
counted."""

NEVER: Final = 1 << 62


@dataclass(slots=True)
class Fate:
    """What is known of a message. `again`: where it was sent after the first time. `acknowledged` is where
    the broker was known to have it: a will is owed from the loss of its connection on. It is cancelled if the
    client is known to have taken it back."""

    first: int
    again: tuple[int, ...] = ()
    acknowledged: int = NEVER
    is_will: bool = False
    is_cancelled: bool = False


@dataclass(slots=True)
class Span:
    """A subscription from SUBSCRIBE to UNSUBACK."""

    filter: str
    qos: int
    subscribing: int
    subscribed: int = NEVER
    unsubscribing: int = NEVER
    unsubscribed: int = NEVER


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery: where in the record, and on which connection of the client."""

    position: int
    connection: int
    event: Delivered


@dataclass(slots=True)
class Life:
    """One session. `end` is where it ended, if it did."""

    client: str
    number: int
    is_persistent: bool
    end: int = NEVER
    spans: list[Span] = field(default_factory=list)
    deliveries: list[Taken] = field(default_factory=list)
    drains: list[int] = field(default_factory=list)

    def open_span(self, filter: str) -> Span | None:
        """The subscription to this filter that is there now."""
        for span in reversed(self.spans):
            if span.filter == filter and span.unsubscribed == NEVER:
                return span
        return None


@dataclass(frozen=True, slots=True)
class SessionMistake:
    """CONNACK said the wrong thing about the session."""

    position: int
    client: str
    text: str


@dataclass(slots=True)
class _Client:
    """Where a client stands while the record is read."""

    attempts: int = 0
    connections: int = 0
    lives: int = 0
    life: Life | None = None
    will: Fate | None = None
    has_will: bool = False  # CONNACK has come: the broker holds it


class Story:
    """Reads a record once, in order."""

    def __init__(self, record: Sequence[Event]) -> None:
        self.lives: list[Life] = []
        self.fates: dict[Message, Fate] = {}
        self.published: dict[str, list[Message]] = {}  # by topic: there are many messages and few topics
        self.mistakes: list[SessionMistake] = []
        self._clients: dict[str, _Client] = {}
        self._outages = _outages(record)
        for position, event in enumerate(record):
            read = _READERS.get(type(event))
            if read is not None:
                read(self, position, event)
        for message in self.fates:
            self.published.setdefault(message.topic, []).append(message)

    def life_of(self, client: str) -> Life | None:
        """The session that the client has at the end of the record."""
        state = self._clients.get(client)
        return None if state is None else state.life

    def state(self, client: str) -> _Client:
        """Of a client, known or not."""
        return self._clients.setdefault(client, _Client())

    def was_struck(self, node: str, at: float) -> bool:
        """Whether something was wrong with the node, or with Redis, right after this moment."""
        return any(
            outage.node in (node, "")
            and outage.began <= at + GRACE_SECONDS
            and outage.ended >= at - GRACE_SECONDS
            for outage in self._outages
        )


@dataclass(frozen=True, slots=True)
class _Outage:
    node: str
    began: float
    ended: float


def _outages(record: Iterable[Event]) -> list[_Outage]:
    ended: list[_Outage] = []
    began: dict[tuple[str, str], float] = {}
    for event in record:
        if isinstance(event, FaultBegan):
            began.setdefault((event.kind, event.node), event.at)
        elif isinstance(event, FaultEnded):
            start = began.pop((event.kind, event.node), event.at)
            ended.append(_Outage(event.node, start, event.at))
    return ended + [_Outage(node, start, float("inf")) for (_, node), start in began.items()]


# One reader per kind of event


def _connecting(story: Story, _position: int, event: Event) -> None:
    story.state(event.client).attempts += 1


def _connected(story: Story, position: int, event: Event) -> None:
    assert isinstance(event, Connected)
    state = story.state(event.client)
    state.connections += 1
    state.has_will = state.will is not None
    life = state.life
    if life is not None and event.session_present:
        return
    if life is not None and life.is_persistent:
        _note(story, position, event, "session lost: CONNACK says it is not there")
    if event.session_present and not event.is_persistent:
        _note(story, position, event, "a session that was to start clean was there before")
    if event.session_present and event.is_persistent and state.attempts < 2:
        _note(story, position, event, "a session was there before the first CONNECT")
    _end_life(state, position)
    state.lives += 1
    state.life = Life(event.client, state.lives, event.is_persistent)
    story.lives.append(state.life)


def _note(story: Story, position: int, event: Event, text: str) -> None:
    story.mistakes.append(SessionMistake(position, event.client, text))


def _end_life(state: _Client, position: int) -> None:
    if state.life is not None:
        state.life.end = position
    state.life = None


def _ended(story: Story, position: int, event: Event) -> None:
    """Of the connection, in either way."""
    assert isinstance(event, Lost | Left)
    state = story.state(event.client)
    if state.life is not None and not state.life.is_persistent:
        _end_life(state, position)
    will, state.will = state.will, None
    if will is None:
        return
    if isinstance(event, Lost):
        if state.has_will:
            will.acknowledged = position
    elif state.has_will and event.is_confirmed and not story.was_struck(event.node, event.at):
        will.is_cancelled = True
    state.has_will = False


def _subscribing(story: Story, position: int, event: Event) -> None:
    assert isinstance(event, Subscribing)
    life = story.state(event.client).life
    if life is not None and life.open_span(event.filter) is None:
        life.spans.append(Span(event.filter, event.qos, position))


def _subscribed(story: Story, position: int, event: Event) -> None:
    assert isinstance(event, Subscribed)
    span = _span(story, event.client, event.filter)
    if span is not None and span.subscribed == NEVER:
        span.subscribed = position
        span.qos = event.qos


def _unsubscribing(story: Story, position: int, event: Event) -> None:
    assert isinstance(event, Unsubscribing)
    span = _span(story, event.client, event.filter)
    if span is not None and span.unsubscribing == NEVER:
        span.unsubscribing = position


def _unsubscribed(story: Story, position: int, event: Event) -> None:
    assert isinstance(event, Unsubscribed)
    span = _span(story, event.client, event.filter)
    if span is not None:
        span.unsubscribed = position


def _span(story: Story, client: str, filter: str) -> Span | None:
    life = story.state(client).life
    return None if life is None else life.open_span(filter)


def _published(story: Story, position: int, event: Event) -> None:
    assert isinstance(event, Published)
    fate = story.fates.get(event.message)
    if fate is None:
        story.fates[event.message] = Fate(position)
    else:
        fate.again += (position,)


def _acknowledged(story: Story, position: int, event: Event) -> None:
    assert isinstance(event, Acknowledged)
    fate = story.fates.get(event.message)
    if fate is not None and fate.acknowledged == NEVER:
        fate.acknowledged = position


def _will_set(story: Story, position: int, event: Event) -> None:
    assert isinstance(event, WillSet)
    state = story.state(event.client)
    state.will = story.fates.setdefault(event.message, Fate(position, is_will=True))
    state.has_will = False


def _delivered(story: Story, position: int, event: Event) -> None:
    assert isinstance(event, Delivered)
    state = story.state(event.client)
    if state.life is not None:
        state.life.deliveries.append(Taken(position, state.connections, event))


def _drained(story: Story, position: int, event: Event) -> None:
    life = story.state(event.client).life
    if life is not None:
        life.drains.append(position)


_READERS: Final[dict[type[Event], Callable[[Story, int, Event], None]]] = {
    Connecting: _connecting,
    Connected: _connected,
    Lost: _ended,
    Left: _ended,
    Subscribing: _subscribing,
    Subscribed: _subscribed,
    Unsubscribing: _unsubscribing,
    Unsubscribed: _unsubscribed,
    Published: _published,
    Acknowledged: _acknowledged,
    WillSet: _will_set,
    Delivered: _delivered,
    Drained: _drained,
}


def owed(story: Story, life: Life, now: int) -> set[Message]:
    """What this session must have got if it was drained at position `now`."""
    found: set[Message] = set()
    for span in life.spans:
        if span.subscribed == NEVER or not span.qos:
            continue
        until = min(span.unsubscribing, now)
        topics = [topic for topic in story.published if matches(span.filter, topic)]
        found.update(
            message
            for topic in topics
            for message in story.published[topic]
            if message.qos
            and span.subscribed < story.fates[message].first
            and story.fates[message].acknowledged < until
        )
    return found
