"""What happened to the clients of a cluster, as one list of events in the order in which the test saw it.

The drivers write it, `checker.check` judges it, `timing.timings` measures it. An event says what a client did
or got; it holds no judgement. `at` is of `time.monotonic()`; the order of the list decides what came first.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Message(NamedTuple):
    """Names one Application Message. Sequence numbers count from 1 for each (publisher, topic, QoS)."""

    publisher: str
    topic: str
    qos: int
    sequence: int

    def payload(self) -> bytes:
        """What is sent for it: all but the topic."""
        return f"{self.publisher} {self.qos} {self.sequence}".encode()


def message_of(topic: str, payload: bytes) -> Message:
    """The message that this payload was made for. Raises ValueError for any other."""
    publisher, qos, sequence = payload.decode().split(" ")
    return Message(publisher, topic, int(qos), int(sequence))


@dataclass(frozen=True, slots=True)
class Event:
    """`client` is empty for what happens to nodes."""

    at: float
    client: str


@dataclass(frozen=True, slots=True)
class Connecting(Event):
    """CONNECT was sent. `why`: first, lost, moved or takeover (an earlier connection is still open)."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """CONNACK accepted it. A direct client always starts clean; its session ends with the connection."""

    node: str
    session_present: bool
    is_persistent: bool


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """The connection is over, or the client has turned away from it, without a DISCONNECT of the client."""

    node: str


@dataclass(frozen=True, slots=True)
class Left(Event):
    """The client sent DISCONNECT. `is_confirmed`: then the connection was closed by the node, in time; else
    nobody knows whether the node has got it."""

    node: str
    is_confirmed: bool = True


@dataclass(frozen=True, slots=True)
class Subscribing(Event):
    """SUBSCRIBE was sent."""

    filter: str
    qos: int


@dataclass(frozen=True, slots=True)
class Subscribed(Event):
    """SUBACK granted it at this QoS."""

    filter: str
    qos: int


@dataclass(frozen=True, slots=True)
class Unsubscribing(Event):
    """UNSUBSCRIBE was sent."""

    filter: str


@dataclass(frozen=True, slots=True)
class Unsubscribed(Event):
    """UNSUBACK came."""

    filter: str


@dataclass(frozen=True, slots=True)
class Published(Event):
    """PUBLISH was sent, for the first time or again."""

    message: Message
    node: str
    dup: bool


@dataclass(frozen=True, slots=True)
class Acknowledged(Event):
    """PUBACK or PUBCOMP came."""

    message: Message
    node: str


@dataclass(frozen=True, slots=True)
class WillSet(Event):
    """A CONNECT with this will was sent. Each attempt has a will of its own."""

    message: Message
    node: str


@dataclass(frozen=True, slots=True)
class Delivered(Event):
    """The application got it, after what a QoS 2 receiver does with Packet Identifiers. `qos` is that of the
    delivery, not of the publishing."""

    message: Message
    qos: int
    dup: bool
    node: str


@dataclass(frozen=True, slots=True)
class Drained(Event):
    """The subscriber was connected, and nothing came any more: what it does not have now it will never
    get."""


@dataclass(frozen=True, slots=True)
class Broken(Event):
    """The driver saw what no broker may do, or must do in time."""

    text: str


@dataclass(frozen=True, slots=True)
class FaultBegan(Event):
    """A fault was injected. `node` is empty if it is one of Redis, and no node's name if it is one of
    clients."""

    kind: str
    node: str


@dataclass(frozen=True, slots=True)
class FaultEnded(Event):
    """The node, or Redis, works again."""

    kind: str
    node: str


class Record:
    """Collects events; `clock` tells when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.events: list[Event] = []
        self.clock = clock

    def add(self, event: Event) -> None:
        """The next event."""
        self.events.append(event)
