"""An entry of a queue, or of a shared subscription: a message as it is stored.

It is head and body; the head is what differs between the receivers of a message. What `records` says holds
here, too. Every message that is stored passes here: so this module is compiled, and the body put together by
hand. Interpreted, and with msgpack's packer, that was a fifth of what the node does for a stored message
(4,600 of 21,100 instructions).
"""

from functools import lru_cache
from typing import Final, cast

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

from cluster.store.records import UnknownRecord

_VERSION: Final = 1
_QOS: Final = 0b11
_RETAIN: Final = 0b100
_WAS_RETAINED: Final = 0b1000
_FIELDS: Final = 7
_NEVER: Final = b"\x00"

_pack = msgpack.Packer(use_bin_type=False).pack
_unpack = msgpack.unpackb


def _raw_head(size: int) -> bytes:
    if size < 32:
        return bytes((0xA0 | size,))
    if size < 1 << 16:
        return b"\xda" + size.to_bytes(2, "big")
    return b"\xdb" + size.to_bytes(4, "big")


_RAW_HEADS: Final = tuple([_raw_head(size) for size in range(1024)])


class Entry:
    """A message in a queue. `deadline_ms`: Redis time after which it has expired, 0 for never.
    `was_retained`: it was published with RETAIN, whatever its receiver is told, and so came in place of the
    retained message."""

    __slots__ = (
        "deadline_ms",
        "payload",
        "properties",
        "qos",
        "retain",
        "subscription_identifiers",
        "topic",
        "was_retained",
    )

    def __init__(
        self,
        qos: int,
        retain: bool,
        subscription_identifiers: tuple[int, ...],
        topic: str,
        payload: bytes,
        properties: bytes,
        deadline_ms: int,
        was_retained: bool,
    ) -> None:
        self.qos = qos
        self.retain = retain
        self.subscription_identifiers = subscription_identifiers
        self.topic = topic
        self.payload = payload
        self.properties = properties
        self.deadline_ms = deadline_ms
        self.was_retained = was_retained


@lru_cache(maxsize=4096)
def _head(flags: int, subscription_identifiers: tuple[int, ...]) -> bytes:
    fields = (_VERSION, flags, subscription_identifiers or None)
    return bytes([0x90 | _FIELDS]) + b"".join([cast(bytes, _pack(field)) for field in fields])


_HEADS: Final = tuple([_head(flags, ()) for flags in range(16)])


def pack_head(
    qos: int, retain: bool, subscription_identifiers: tuple[int, ...], was_retained: bool = False
) -> bytes:
    """The first part of an entry. `pack_body` follows."""
    flags = qos | (_RETAIN if retain else 0) | (_WAS_RETAINED if was_retained else 0)
    return _head(flags, subscription_identifiers) if subscription_identifiers else _HEADS[flags]


def pack_body(topic: str, payload: bytes, properties: bytes, deadline_ms: int) -> bytes:
    """The second part of an entry: what all receivers have in common."""
    return pack_entry(b"", topic, payload, properties, deadline_ms)


def pack_entry(head: bytes, topic: str, payload: bytes, properties: bytes, deadline_ms: int) -> bytes:
    """Both parts at once, for a message with one receiver."""
    name = topic.encode()
    return b"".join(
        (
            head,
            _RAW_HEADS[len(name)] if len(name) < 1024 else _raw_head(len(name)),
            name,
            _RAW_HEADS[len(payload)] if len(payload) < 1024 else _raw_head(len(payload)),
            payload,
            _RAW_HEADS[len(properties)] if len(properties) < 1024 else _raw_head(len(properties)),
            properties,
            cast(bytes, _pack(deadline_ms)) if deadline_ms else _NEVER,
        )
    )


def unpack_entry(packed: bytes) -> Entry:
    """Reads head and body. Raises UnknownRecord, ValueError."""
    fields = _unpack(packed, raw=True)
    if fields[0] != _VERSION:
        raise UnknownRecord(f"queue entry of version {fields[0]}")
    _, flags, identifiers, topic, payload, properties, deadline_ms = fields[:_FIELDS]
    return Entry(
        flags & _QOS,
        flags & _RETAIN != 0,
        tuple(identifiers) if identifiers else (),
        topic.decode(),
        payload,
        properties,
        deadline_ms,
        flags & _WAS_RETAINED != 0,
    )
