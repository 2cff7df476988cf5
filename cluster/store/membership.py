"""Which nodes there are, by incarnation: each start of a node is another one, and none ever comes back.

A node that died is reaped by the others, in steps which anybody may repeat or go on with: `bury` in {m},
`bury` in all other slots, `reap` each bucket, close its inbox, `leave`.
"""

from dataclasses import dataclass, field

from cluster.store.call import Reply
from cluster.store.deadlines import DueWill, EndedSession, parse_ended, parse_wills
from cluster.store.keys import META_SLOT
from cluster.store.reply import as_bytes, as_int, as_list, as_text, in_pairs, in_triples

DEAD_TICKS = 5
"""A node not seen for so many ticks (seconds, about) is dead; as in lua/dead_nodes.lua."""


@dataclass(frozen=True, slots=True)
class Beat:
    """The time of Redis, and how often the cluster's heart has beaten."""

    time_ms: int
    tick: int


@dataclass(frozen=True, slots=True)
class Member:
    """A node. `is_alive`: it has been seen lately. `info`: what it says of itself with its beats, JSON; empty
    before the first one. `unseen_ticks`: since its last life sign, about seconds."""

    incarnation: str
    is_alive: bool
    info: bytes
    unseen_ticks: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Reaped:
    """What a dead node has left in a bucket. `wills` are leased to the caller, to be published now; rows of
    `ended` sessions are for it to delete. `damaged`: client ids of sessions that can't be given back, and
    why. `more`: ask again."""

    more: bool
    wills: list[DueWill]
    ended: list[EndedSession]
    damaged: list[tuple[str, str]]


def join(incarnation: str) -> list[object]:
    """Becomes a member; once, before the first beat. Answer: 1."""
    return ["join", META_SLOT, incarnation]


def beat(incarnation: str, info: bytes | None = None) -> list[object]:
    """A life sign, with what the node says of itself (None: as before). The whole call is refused (NodeGone)
    if this incarnation is no member."""
    return ["beat", META_SLOT, incarnation, False if info is None else info]


def parse_beat(reply: Reply) -> Beat:
    """The answer to `beat`."""
    time_ms, tick = as_list(reply)[:2]
    return Beat(as_int(time_ms), as_int(tick))


def leave(incarnation: str) -> list[object]:
    """A node that stops, or a dead one that has been reaped in all buckets, is no member any more; its
    interest goes with it. Answer: the version of the change log then."""
    return ["leave", META_SLOT, incarnation]


def members() -> list[object]:
    """Asks for all nodes."""
    return ["members", META_SLOT]


def parse_members(reply: Reply) -> list[Member]:
    """The answer to `members`."""
    fields = as_list(reply)
    now = as_int(fields[0])
    return [
        Member(as_text(incarnation), now - as_int(tick) < DEAD_TICKS, as_bytes(info), now - as_int(tick))
        for incarnation, tick, info in in_triples(fields[1:])
    ]


def turn(chore: str, holder: str, milliseconds: int) -> list[object]:
    """Takes or renews the turn at a chore for so long; 0 gives it back. Answer: 1 if it is the holder's."""
    return ["turn", META_SLOT, chore, holder, milliseconds]


def dead_nodes(limit: int = 100) -> list[object]:
    """Asks for members whose life signs have stopped; the caller is never among them."""
    return ["dead_nodes", META_SLOT, limit]


def parse_dead_nodes(reply: Reply) -> list[str]:
    """The answer to `dead_nodes`."""
    return [as_text(incarnation) for incarnation in as_list(reply)]


def bury(slot: int | str, incarnation: str) -> list[object]:
    """Refuses a dead node's calls, in this bucket, in {m} or in the slot of another node. Answer: whether it
    is dead. {m} comes first: if it says no, the node has shown a life sign, or has been reaped, and there is
    nothing to do."""
    return ["bury", slot, incarnation]


def reap(bucket: int, incarnation: str, limit: int) -> list[object]:
    """Gives back at most `limit` sessions of a node that has been buried in all slots."""
    return ["reap", bucket, incarnation, limit]


def parse_reap(reply: Reply) -> Reaped:
    """The answer to `reap`."""
    more, wills, ended, damaged = as_list(reply)[:4]
    return Reaped(
        bool(more),
        parse_wills(wills),
        parse_ended(ended),
        [(as_text(client_id), as_text(problem)) for client_id, problem in in_pairs(damaged)],
    )
