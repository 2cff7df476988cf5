"""Messages on their way to another node, in bursts: what one client publishes in one moment.

Theory of operation. What comes in one chunk of a publisher differs in nothing but the payload, most of the
time. So a record is a list of bursts, each of BURST_FIELDS fields: those of a message, in the order of
`fields`, and last the payloads, of which there are one or many. For each message that is no more than its
payload and its length: nodes need not put together and take apart what they know already, and Redis, whose
Lua hashes every byte of what it is given, has a third of the bytes. A receiver looks up a topic, and encodes
what comes before the payload, once a burst.
"""

from collections.abc import Sequence
from typing import Final

from broker.mqtt import topic_name
from broker.routing.fields import flags_of, is_for_everyone, qos_of, was_retained
from broker.session import NO_DEADLINE, Message

BURST_FIELDS: Final = 7


class Bursts:
    """Collects messages, in order; `packed` is what is to be sent."""

    __slots__ = (
        "_deadline_ms",
        "_flags",
        "_last",
        "_payloads",
        "_properties",
        "_publisher",
        "_token",
        "_topic",
        "packed",
    )

    def __init__(self) -> None:
        self.packed: list[object] = []
        self._payloads: list[bytes] = []
        self._topic = ""
        self._properties = b""
        self._deadline_ms = NO_DEADLINE
        self._flags = -1
        self._publisher = ""
        self._token = b""
        self._last: Message | None = None

    def add(self, message: Message, for_everyone: bool, token: bytes) -> None:
        """A node may want one message for several reasons: it gets it once."""
        if message is self._last:
            return
        self._last = message
        flags = flags_of(message, for_everyone)
        if (
            message.topic != self._topic
            or message.publisher != self._publisher
            or flags != self._flags
            or token != self._token
            or message.deadline_ms != self._deadline_ms
            or message.properties != self._properties
        ):
            self._begin(message, flags, token)
        self._payloads.append(message.payload)

    def _begin(self, message: Message, flags: int, token: bytes) -> None:
        self._topic = message.topic
        self._properties = message.properties
        self._deadline_ms = message.deadline_ms
        self._flags = flags
        self._publisher = message.publisher
        self._token = token
        self._payloads = []
        self.packed += (
            message.topic,
            message.properties,
            message.deadline_ms,
            flags,
            message.publisher,
            token,
            self._payloads,
        )


class Burst:
    """One that has arrived: the burst at `place` of a record. Raises what a damaged record leads to."""

    __slots__ = (
        "_deadline_ms",
        "_payloads",
        "_properties",
        "_publisher",
        "_retain",
        "_token",
        "for_everyone",
        "qos",
        "topic",
    )

    def __init__(self, bursts: Sequence[object], place: int) -> None:
        topic: bytes = _bytes(bursts[place])
        self._properties: bytes = _bytes(bursts[place + 1])
        self._deadline_ms: int = _int(bursts[place + 2])
        flags: int = _int(bursts[place + 3])
        self._publisher: str = _bytes(bursts[place + 4]).decode()
        self._token: bytes = _bytes(bursts[place + 5])
        payloads = bursts[place + 6]
        if not isinstance(payloads, list):
            raise TypeError(f"no payloads: {payloads!r}")
        self._payloads: list[object] = payloads
        self.topic: str = topic_name(topic)
        self.qos: int = qos_of(flags)
        self._retain: bool = was_retained(flags)
        self.for_everyone: bool = is_for_everyone(flags)

    def messages(self, version: int, qos: int) -> list[Message]:
        """All of it, encoded for a subscriber of that version at that QoS if that is the same for all."""
        found: list[Message] = []
        is_same = not self._retain and self._deadline_ms == NO_DEADLINE
        head = b""
        lead = b""
        size = -1
        for each in self._payloads:
            payload = _bytes(each)
            message = Message(
                self.topic,
                payload,
                self.qos,
                self._retain,
                self._properties,
                self._deadline_ms,
                self._publisher,
                self._token,
            )
            if is_same:
                if len(payload) == size:
                    message.encoded_in_parts(version, qos, head, lead + payload if lead else payload)
                else:
                    head, tail = message.parts(version, qos, False)
                    size = len(payload)
                    lead = tail[: len(tail) - size]
            found.append(message)
        return found


def _bytes(field: object) -> bytes:
    if not isinstance(field, bytes):
        raise TypeError(f"no bytes: {field!r}")
    return field


def _int(field: object) -> int:
    if not isinstance(field, int):
        raise TypeError(f"no number: {field!r}")
    return field
