"""What is in the inbox of a node, and on its channel: msgpack arrays with a version number and a kind first.

Text and bytes are both msgpack `raw`, as everywhere in Redis. A record of a kind that this release doesn't
know is skipped: a newer node may know more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

from cluster.store.reply import as_int

_VERSION: Final = 1
_DIRECT: Final = 1
_HANDOVER: Final = 2
_KICK: Final = 3
_COMMAND: Final = 4
_RUNS: Final = 5
_SHARED: Final = 6
_BURSTS: Final = 7

_pack = msgpack.Packer(use_bin_type=False).pack
_unpack = msgpack.unpackb

Fields: TypeAlias = Sequence[object]
"""Of one message or delivery, as the router packs and reads them (`broker.routing.transit`)."""


@dataclass(slots=True)
class Direct:
    """Messages for the subscribers of the node that have no queue; for nodes that don't read bursts."""

    messages: list[Fields]


@dataclass(slots=True)
class Bursts:
    """The same, as bursts (`broker.routing.bursts`); on the channel of a node, for its subscribers at QoS
    0."""

    bursts: list[object]


@dataclass(slots=True)
class Runs:
    """Messages for the subscribers of the node at QoS 0, on its channel (`broker.routing.channel`)."""

    runs: list[object]


@dataclass(slots=True)
class Handover:
    """Entries that were put into queues of sessions which the node owns: `bodies` as in `entry.pack_body`
    but unpacked, and for each session its client id, gen and entries."""

    bodies: list[Fields]
    sessions: list[Fields]


@dataclass(slots=True)
class SharedGiven:
    """What a shared subscription has given to a member that is connected to the node: name, member, and for
    each message the id of the one before, its own, and its entry."""

    name: str
    member: str
    messages: list[tuple[str, str, bytes]]


@dataclass(slots=True)
class Kick:
    """Another node has claimed the client's session that this one owned with `epoch`."""

    client_id: str
    epoch: int


@dataclass(slots=True)
class Command:
    """What an operator asks of the node; `argument` is JSON."""

    name: str
    argument: bytes


Record: TypeAlias = Direct | Bursts | Runs | Handover | SharedGiven | Kick | Command


def pack_direct(messages: Sequence[Fields]) -> bytes:
    """See Direct."""
    return cast(bytes, _pack((_VERSION, _DIRECT, messages)))


def pack_bursts(bursts: Sequence[object]) -> bytes:
    """See Bursts."""
    return cast(bytes, _pack((_VERSION, _BURSTS, bursts)))


def pack_runs(runs: Sequence[object]) -> bytes:
    """See Runs."""
    return cast(bytes, _pack((_VERSION, _RUNS, runs)))


def pack_handover(bodies: Sequence[Fields], sessions: Sequence[Fields]) -> bytes:
    """See Handover."""
    return cast(bytes, _pack((_VERSION, _HANDOVER, bodies, sessions)))


def pack_shared(name: str, member: str, messages: Sequence[Fields]) -> bytes:
    """See SharedGiven."""
    return cast(bytes, _pack((_VERSION, _SHARED, name, member, messages)))


def pack_kick(client_id: str, epoch: int) -> bytes:
    """See Kick."""
    return cast(bytes, _pack((_VERSION, _KICK, client_id, epoch)))


def pack_command(name: str, argument: bytes = b"{}") -> bytes:
    """See Command."""
    return cast(bytes, _pack((_VERSION, _COMMAND, name, argument)))


def unpack(record: bytes) -> Record | None:
    """None for a kind or a version that this release doesn't know. Raises ValueError, TypeError, LookupError,
    AttributeError for a record that is damaged."""
    fields = _unpack(record, raw=True)
    if fields[0] != _VERSION:
        return None
    kind = fields[1]
    if kind == _DIRECT:
        return Direct(fields[2])
    if kind == _BURSTS:
        return Bursts(fields[2])
    if kind == _RUNS:
        return Runs(fields[2])
    if kind == _HANDOVER:
        return Handover(fields[2], fields[3])
    if kind == _SHARED:
        messages = [(before.decode(), id.decode(), entry) for before, id, entry in fields[4]]
        return SharedGiven(fields[2].decode(), fields[3].decode(), messages)
    if kind == _KICK:
        return Kick(fields[2].decode(), as_int(fields[3]))
    if kind == _COMMAND:
        return Command(fields[2].decode(), fields[3])
    return None
