"""What becomes due: wills, delayed messages and the expiry of sessions. The clock is that of Redis.

Whoever finds a will due, or is told of it by a claim, has it leased: route it with its token, then say
`done`. If that node dies in between, the lease ends and another node does the same under the same token. A
delayed message goes the same way: it is a will that waits for nothing but its time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.store.call import Reply
from cluster.store.keys import bucket_of
from cluster.store.reply import as_bytes, as_int, as_list, as_text, in_pairs, in_triples


@dataclass(frozen=True, slots=True)
class DueWill:
    """A will, or a delayed message, to be published now. `member` is its name for `done`, `token` makes it
    one message whoever publishes it, `record` is for `records.unpack_will`."""

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
    retained: int
    """Retained messages that the bucket holds."""


def due(bucket: int, limit: int, lease_ms: int) -> list[object]:
    """Looks for at most `limit` things that are due, and leases them to the caller."""
    return ["due", bucket, limit, lease_ms]


TOO_MANY_EXCHANGES = -1
TOO_MANY_DELAYED = -2


def delay(
    client_id: str,
    epoch: int,
    id: str,
    *,
    delay_ms: int,
    record: bytes,
    limit: int,
    packet_id: int | None,
    receive_limit: int,
    repeat_ms: int,
) -> list[object]:
    """Keeps a message (`records.pack_will`) until it is to be published, at most `limit` of a client.

    `id`: hex digits; of those with one deadline the lowest comes first. `packet_id`: of a QoS 2 exchange that
    is to be noted in `rx` with it. `repeat_ms`: for how long the same call does nothing if neither `rx` nor
    the message tells. Answer: 1 kept, 0 stale epoch, TOO_MANY_EXCHANGES, TOO_MANY_DELAYED.
    """
    exchange: object = False  # not an int: mypyc would make it 0
    if packet_id is not None:
        exchange = packet_id
    bucket = bucket_of(client_id)
    return [
        "delay", bucket, client_id, epoch, id, delay_ms, record, limit, exchange, receive_limit, repeat_ms
    ]  # fmt: skip


def is_delayed(will: DueWill) -> bool:
    """Whether it is a delayed message and no will."""
    return will.member.startswith(b"d:")


def parse_due(reply: Reply) -> Due:
    """The answer to `due`."""
    more, wills, ended, retained = as_list(reply)[:4]
    return Due(bool(more), parse_wills(wills), parse_ended(ended), as_int(retained))


def done(bucket: int, members: Sequence[bytes]) -> list[object]:
    """These wills have been routed and may be forgotten. Answer: 1."""
    return ["done", bucket, members]


def parse_wills(flat: object) -> list[DueWill]:
    """Member, token, record, and so on."""
    if not flat:  # as for nearly all connections
        return []
    return [
        DueWill(as_bytes(member), as_bytes(token), as_bytes(record))
        for member, token, record in in_triples(flat)
    ]


def parse_ended(flat: object) -> list[EndedSession]:
    """Client id, rows, and so on."""
    return [EndedSession(as_text(client_id), parse_rows(rows)) for client_id, rows in in_pairs(flat)]


def parse_rows(flat: object) -> list[tuple[str, int]]:
    """Filter, stamp, and so on."""
    if not flat:  # as for nearly all connections
        return []
    return [(as_text(topic_filter), as_int(stamp)) for topic_filter, stamp in in_pairs(flat)]
