"""Records made by hand, for the tests of what judges them."""

import itertools
from collections.abc import Sequence

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
    Record,
    Subscribed,
    Subscribing,
    Unsubscribed,
    Unsubscribing,
    WillSet,
)

TOPIC = "t"


class Tale:
    """Each call is what happened next; a tenth of a second passes in between. The publisher is "p", the
    subscriber "s"."""

    def __init__(self, qos: int = 1) -> None:
        ticks = itertools.count(1)
        self.record = Record(lambda: next(ticks) / 10)
        self.qos = qos

    @property
    def events(self) -> list[Event]:
        """So far."""
        return self.record.events

    def now(self) -> float:
        """Time passes."""
        return self.record.clock()

    def message(self, sequence: int, topic: str = TOPIC) -> Message:
        """Of the publisher."""
        return Message("p", topic, self.qos, sequence)

    def connect(
        self,
        client: str = "s",
        present: bool = False,
        persistent: bool = True,
        node: str = "a",
        why: str = "lost",
    ) -> None:
        """CONNECT and CONNACK."""
        self.record.add(Connecting(self.now(), client, node, why))
        self.record.add(Connected(self.now(), client, node, present, persistent))

    def attempt(self, client: str = "s") -> None:
        """A CONNECT without an answer."""
        self.record.add(Connecting(self.now(), client, "a", "lost"))

    def lose(self, client: str = "s", node: str = "a") -> None:
        """The connection ends."""
        self.record.add(Lost(self.now(), client, node))

    def leave(self, client: str = "s", node: str = "a", is_confirmed: bool = True) -> None:
        """DISCONNECT."""
        self.record.add(Left(self.now(), client, node, is_confirmed))

    def subscribe(self, filter: str = TOPIC, qos: int = 2) -> None:
        """SUBSCRIBE and SUBACK."""
        self.record.add(Subscribing(self.now(), "s", filter, qos))
        self.record.add(Subscribed(self.now(), "s", filter, qos))

    def unsubscribe(self, filter: str = TOPIC) -> None:
        """UNSUBSCRIBE and UNSUBACK."""
        self.record.add(Unsubscribing(self.now(), "s", filter))
        self.record.add(Unsubscribed(self.now(), "s", filter))

    def publish(self, *sequences: int, dup: bool = False, topic: str = TOPIC) -> None:
        """PUBLISH."""
        for sequence in sequences:
            self.record.add(Published(self.now(), "p", self.message(sequence, topic), "a", dup))

    def acknowledge(self, *sequences: int) -> None:
        """PUBACK or PUBCOMP."""
        for sequence in sequences:
            self.record.add(Acknowledged(self.now(), "p", self.message(sequence), "a"))

    def deliver(self, *sequences: int, qos: int | None = None, dup: bool = False) -> None:
        """To the application of the subscriber."""
        for sequence in sequences:
            self.take(self.message(sequence), qos, dup)

    def take(self, message: Message, qos: int | None = None, dup: bool = False) -> None:
        """Any message."""
        self.record.add(Delivered(self.now(), "s", message, message.qos if qos is None else qos, dup, "a"))

    def will(self, number: int = 1, client: str = "w") -> Message:
        """A connection with a will."""
        will = Message(client, TOPIC, self.qos, number)
        self.record.add(WillSet(self.now(), client, will, "a"))
        return will

    def drain(self) -> None:
        """Nothing comes to the subscriber any more."""
        self.record.add(Drained(self.now(), "s"))

    def began(self, kind: str, node: str) -> None:
        """A fault."""
        self.record.add(FaultBegan(self.now(), "", kind, node))

    def ended(self, kind: str, node: str) -> None:
        """Its end."""
        self.record.add(FaultEnded(self.now(), "", kind, node))

    def done(self, sequences: Sequence[int]) -> None:
        """Published, acknowledged and delivered, one after the other."""
        for sequence in sequences:
            self.publish(sequence)
            self.acknowledge(sequence)
            self.deliver(sequence)


def subscribed(qos: int = 1, persistent: bool = True) -> Tale:
    """A subscriber has its SUBACK."""
    tale = Tale(qos)
    tale.connect(persistent=persistent)
    tale.subscribe()
    return tale
