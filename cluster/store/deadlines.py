"""What becomes due: wills and the expiry of sessions. The clock is that of Redis.

Whoever finds a will due, or is told of it by a claim, has it leased: route it with its token, then say
`done`. If that node dies in between, the lease ends and another node does the same under the same token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.store.call import Reply
from cluster.store.reply import as_bytes, as_int, as_list, as_text, in_pairs, in_triples


@dataclass(frozen=True, slots=True)
class DueWill:
    """A will to be published now. `member` is its name for `done`, `token` makes it one message whoever
    publishes it, `record` is for `records.unpack_will`."""

    member: bytes
    token: bytes
    record: bytes


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that has ended and is deleted; its rows (filter, stamp) in {m} are not yet."""

    client_id: str
    rows: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Due:
    """What was found. `more`: look again at once."""

    more: bool
    wills: list[DueWill]
    ended: list[EndedSession]


def due(bucket: int, limit: int, lease_ms: int) -> list[object]:
    """Looks for at most `limit` things that are due, and leases them to the caller."""
    return ["due", bucket, limit, lease_ms]


def parse_due(reply: Reply) -> Due:
    """The answer to `due`."""
    more, wills, ended = as_list(reply)[:3]
    return Due(bool(more), parse_wills(wills), parse_ended(ended))


def done(bucket: int, members: Sequence[bytes]) -> list[object]:
    """These wills have been routed and may be forgotten. Answer: 1."""
    return ["done", bucket, members]


def parse_wills(flat: object) -> list[DueWill]:
    """Member, token, record, and so on."""
    return [
        DueWill(as_bytes(member), as_bytes(token), as_bytes(record))
        for member, token, record in in_triples(flat)
    ]


def parse_ended(flat: object) -> list[EndedSession]:
    """Client id, rows, and so on."""
    return [EndedSession(as_text(client_id), parse_rows(rows)) for client_id, rows in in_pairs(flat)]


def parse_rows(flat: object) -> list[tuple[str, int]]:
    """Filter, stamp, and so on."""
    return [(as_text(topic_filter), as_int(stamp)) for topic_filter, stamp in in_pairs(flat)]
