"""A message as the fields of a record for another node, where nothing shorter says all of it."""

from typing import Final

from broker.session import Message

_QOS: Final = 0b11
_RETAIN: Final = 0b100
_EVERYONE: Final = 0b1000


class Arrival:
    """A message that has come from another node. `for_everyone`: for subscribers at QoS 0, too, as there is
    no other copy for them."""

    __slots__ = ("for_everyone", "message")

    def __init__(self, message: Message, for_everyone: bool) -> None:
        self.message = message
        self.for_everyone = for_everyone


def arrival(fields: object) -> Arrival:
    """Reads what `NodeMessages` or `Transit` has packed. Raises what a damaged record leads to."""
    if not isinstance(fields, list):
        raise TypeError(f"no message: {fields!r}")
    flags: int = fields[4]
    publisher: bytes = fields[5]
    message = body_of(fields, qos_of(flags), was_retained(flags))
    message.publisher = publisher.decode()
    message.token = fields[6]
    return Arrival(message, is_for_everyone(flags))


def body_of(fields: object, qos: int, retain: bool) -> Message:
    if not isinstance(fields, list):
        raise TypeError(f"no body: {fields!r}")
    topic: bytes = fields[0]
    payload: bytes = fields[1]
    properties: bytes = fields[2]
    deadline_ms: int = fields[3]
    return Message(topic.decode(), payload, qos, retain, properties, deadline_ms)


def flags_of(message: Message, for_everyone: bool) -> int:
    flags = message.qos
    if message.retain:
        flags |= _RETAIN
    if for_everyone:
        flags |= _EVERYONE
    return flags


def qos_of(flags: int) -> int:
    return flags & _QOS


def was_retained(flags: int) -> bool:
    return flags & _RETAIN != 0


def is_for_everyone(flags: int) -> bool:
    return flags & _EVERYONE != 0


def pack_fields(message: Message, for_everyone: bool, token: bytes) -> tuple[object, ...]:
    return (
        message.topic,
        message.payload,
        message.properties,
        message.deadline_ms,
        flags_of(message, for_everyone),
        message.publisher,
        token,
    )
