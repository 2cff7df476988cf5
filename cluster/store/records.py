"""Records in Redis: msgpack arrays with a version number first. A longer array is of a newer minor version:
what we don't know in it is ignored.

Text and bytes are both msgpack `raw`, as the msgpack inside Redis knows no other; what is text is decoded
here.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

_VERSION: Final = 1
_QOS: Final = 0b11
_RETAIN: Final = 0b100
_NO_LOCAL: Final = 0b100
_RETAIN_AS_PUBLISHED: Final = 0b1000
_RETAIN_HANDLING_SHIFT: Final = 4

_pack = msgpack.Packer(use_bin_type=False).pack
_unpack = msgpack.unpackb


class UnknownRecord(ValueError):
    """A record of a version that this release does not know."""


@dataclass(frozen=True, slots=True)
class Options:
    """Subscription Options and Subscription Identifier (0 for none)."""

    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int
    subscription_identifier: int


@dataclass(frozen=True, slots=True)
class StoredWill:
    """A will of one connection. `properties` is what is forwarded, in wire form without its length."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    message_expiry_seconds: int | None
    client_id: str


@dataclass(frozen=True, slots=True)
class Retained:
    """A retained message; its topic is the key. `deadline_ms` as in Entry."""

    payload: bytes
    qos: int
    properties: bytes
    deadline_ms: int


@lru_cache(maxsize=4096)
def pack_options(
    qos: int, no_local: bool, retain_as_published: bool, retain_handling: int, subscription_identifier: int
) -> bytes:
    """Options as sessions and rows hold them: the same options are the same bytes."""
    flags = (
        qos
        | (_NO_LOCAL if no_local else 0)
        | (_RETAIN_AS_PUBLISHED if retain_as_published else 0)
        | retain_handling << _RETAIN_HANDLING_SHIFT
    )
    return cast(bytes, _pack((_VERSION, flags, subscription_identifier)))


@lru_cache(maxsize=4096)
def unpack_options(packed: bytes) -> Options:
    """Raises UnknownRecord, ValueError."""
    version, flags, identifier = _unpack(packed, raw=True)[:3]
    _check_version("subscription options", version)
    return Options(
        flags & _QOS,
        flags & _NO_LOCAL != 0,
        flags & _RETAIN_AS_PUBLISHED != 0,
        flags >> _RETAIN_HANDLING_SHIFT & 0b11,
        identifier,
    )


def pack_will(
    topic: str,
    payload: bytes,
    qos: int,
    retain: bool,
    properties: bytes,
    message_expiry_seconds: int | None,
    client_id: str,
) -> bytes:
    """A will, to be given to `sessions.claim`."""
    flags = qos | (_RETAIN if retain else 0)
    fields = (_VERSION, topic, payload, flags, properties, message_expiry_seconds, client_id)
    return cast(bytes, _pack(fields))


def unpack_will(packed: bytes) -> StoredWill:
    """Raises UnknownRecord, ValueError."""
    version, topic, payload, flags, properties, expiry, client_id = _unpack(packed, raw=True)[:7]
    _check_version("will", version)
    return StoredWill(
        topic.decode(), payload, flags & _QOS, flags & _RETAIN != 0, properties, expiry, client_id.decode()
    )


def pack_retained(payload: bytes, qos: int, properties: bytes, deadline_ms: int) -> bytes:
    """A retained message, to be given to `retained.retain`."""
    return cast(bytes, _pack((_VERSION, payload, qos, properties, deadline_ms)))


def unpack_retained(packed: bytes) -> Retained:
    """Raises UnknownRecord, ValueError."""
    version, payload, qos, properties, deadline_ms = _unpack(packed, raw=True)[:5]
    _check_version("retained message", version)
    return Retained(payload, qos, properties, deadline_ms)


def _check_version(record: str, version: object) -> None:
    if version != _VERSION:
        raise UnknownRecord(f"{record} of version {version}")
