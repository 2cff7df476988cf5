"""The ban list of the cluster in Redis: the requests, and what is in a record. See lua/bans.lua."""

from dataclasses import dataclass
from typing import Final

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

from broker.auth.ban import Ban, Target
from cluster.store.call import Reply
from cluster.store.keys import META_SLOT
from cluster.store.reply import as_bytes, as_int, as_list, as_text

_AUTOMATIC: Final = 1


@dataclass(frozen=True, slots=True)
class Added:
    """`ban` is what holds now; None: there are too many. `is_new`: it is the one that was asked for."""

    ban: Ban | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class Swept:
    """The number of the last change, and the targets of bans that have ended."""

    version: int
    ended: list[str]


@dataclass(frozen=True, slots=True)
class Change:
    """The `version`-th change. `ban` None: there is none for this target any more."""

    version: int
    target: Target
    ban: Ban | None


def add(
    target: Target,
    *,
    reason: str,
    by: str,
    milliseconds: int,
    is_automatic: bool,
    maximum: int,
    patterns_maximum: int,
    must_be_new: bool = False,
) -> list[object]:
    """From now on, for so long (0: for ever). `must_be_new`: one that holds already stays as it is."""
    flags = _AUTOMATIC if is_automatic else 0
    name, is_pattern = target.name, target.is_pattern
    return [
        *("add_ban", META_SLOT, name, flags, reason, by, milliseconds),
        *(is_pattern, maximum, patterns_maximum, must_be_new),
    ]


def parse_add(reply: Reply, target: Target) -> Added:
    """The answer to `add`."""
    status, *record = as_list(reply)
    if status == -1:
        return Added(None, is_new=False)
    return Added(unpack(target.name, as_bytes(record[0])), is_new=status == 1)


def remove(target: Target) -> list[object]:
    """Answer: 1, or 0 if there was none."""
    return ["remove_ban", META_SLOT, target.name]


def sweep(limit: int) -> list[object]:
    """Forgets at most so many that have ended."""
    return ["sweep_bans", META_SLOT, limit]


def parse_sweep(reply: Reply) -> Swept:
    """The answer to `sweep`."""
    version, ended = as_list(reply)[:2]
    return Swept(as_int(version), [as_text(name) for name in as_list(ended)])


def unpack(name: str, record: bytes) -> Ban:
    """A record of `keys.bans`. ValueError, TypeError, AttributeError for one that is damaged or of a newer
    release."""
    version, flags, since_ms, until_ms, reason, by = msgpack.unpackb(record, raw=True)[:6]
    if version != 1:
        raise ValueError(f"a ban of version {version}")
    return Ban(
        Target.of_name(name),
        as_text(reason),
        as_text(by),
        as_int(since_ms),
        as_int(until_ms),
        bool(as_int(flags) & _AUTOMATIC),
    )


def unpack_change(packed: bytes) -> Change:
    """What comes on the channel. Raises as `unpack` does."""
    version, name, record = msgpack.unpackb(packed, raw=True)[:3]
    text = as_text(name)
    ban = None if record is False else unpack(text, as_bytes(record))
    return Change(as_int(version), Target.of_name(text), ban)
