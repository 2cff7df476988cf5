"""What has happened to a client, as it is kept in Redis for a while: records one behind the other, the newest
first. `lua/events.lua` cuts the end, so the last one may be incomplete."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

from cluster.store.keys import bucket_of

BEGAN: Final = 2
WENT_ON: Final = 1
"""Answers to `note_events`; any other: nothing was done."""
_VERSION: Final = 1

_pack = msgpack.Packer(use_bin_type=False).pack


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """`at_ms` is of Redis time."""

    at_ms: int
    kind: str
    fields: Mapping[str, object]


def pack_event(at_ms: int, kind: str, fields: Mapping[str, object]) -> bytes:
    """`fields` are texts and numbers."""
    return cast(bytes, _pack((_VERSION, at_ms, kind, fields)))


def unpack_events(packed: bytes) -> list[StoredEvent]:
    """The newest first. Of what is unknown or damaged, nothing."""
    unpacker = msgpack.Unpacker(raw=False, unicode_errors="replace", strict_map_key=False)
    unpacker.feed(packed)
    events: list[StoredEvent] = []
    try:
        for record in unpacker:
            if isinstance(record, list) and len(record) >= 4 and record[0] == _VERSION:
                _, at_ms, kind, fields = record[:4]
                events.append(StoredEvent(at_ms, kind, fields))
    except (ValueError, msgpack.UnpackException):
        pass  # what comes behind it can't be read
    return events


def note_events(
    client_id: str, packed: bytes, bytes_maximum: int, ttl_ms: int, may_begin: bool
) -> list[object]:
    """Puts records (the newest first) before those that are there; if there are none, only if it `may_begin`.
    Answer: BEGAN, WENT_ON, or 0."""
    return ["note_events", bucket_of(client_id), client_id, packed, bytes_maximum, ttl_ms, may_begin]
