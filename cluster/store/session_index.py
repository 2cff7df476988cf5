"""Persistent sessions in order of their Client Identifiers, and what there is to know of one.

Each bucket has an index of its own; `cluster.browsing` merges them."""

from dataclasses import dataclass
from typing import Final

from cluster.store.call import Reply
from cluster.store.deadlines import parse_rows
from cluster.store.keys import bucket_of
from cluster.store.reply import as_int, as_list, as_text, in_pairs

_BRIEF: Final = 15


@dataclass(frozen=True, slots=True)
class Brief:
    """A session without its subscriptions and messages. `owner`: the incarnation that has its connection;
    `protocol`: of that, too.
    `deadline_ms`: when it ends, if nobody connects, in Redis time. `subscriptions` counts replays of retained
    messages that are under way, too. `queued_bytes`: memory of Redis."""

    client_id: str
    owner: str | None
    epoch: int
    expiry_seconds: int
    deadline_ms: int | None
    protocol: int | None
    n: int
    hi: int
    is_direct: bool
    subscriptions: int
    queued: int
    queued_bytes: int
    released: int
    receiving: int
    delayed: int
    has_will: bool


@dataclass(frozen=True, slots=True)
class EndedByHand:
    """A session that an operator has ended, and its rows, for the caller to delete."""

    epoch: int
    rows: list[tuple[str, int]]


def session_ids(bucket: int, beginning: str, after: str | None, limit: int) -> list[object]:
    """Asks for ids that begin so, beyond `after`. Answer: ids; fewer than `limit` are all."""
    bound = f"[{beginning}" if after is None or after < beginning else f"({after}"
    return ["session_ids", bucket, bound, beginning, limit]


def sessions_connected(bucket: int, beginning: str, after: str | None, limit: int) -> list[object]:
    """The same; and whether somebody has their connections."""
    return ["sessions_connected", *session_ids(bucket, beginning, after, limit)[1:]]


def parse_ids(reply: Reply) -> list[str]:
    """The answer to `session_ids`."""
    return [as_text(each) for each in as_list(reply)]


def parse_connected(reply: Reply) -> list[tuple[str, bool]]:
    """The answer to `sessions_connected`: ids, each with whether it is connected."""
    return [(as_text(each), bool(is_connected)) for each, is_connected in in_pairs(reply)]


def session_brief(client_id: str) -> list[object]:
    """Asks for a session, persistent or not."""
    return ["session_brief", bucket_of(client_id), client_id]


def parse_brief(client_id: str, reply: Reply) -> Brief | None:
    """The answer to `session_brief`; None if there is no such session."""
    if not reply:
        return None
    fields = as_list(reply)[:_BRIEF]
    owner, epoch, expiry, deadline, protocol, n, hi, direct, *counts, has_will = fields
    filters, queued, queued_bytes, released, receiving, delayed = map(as_int, counts)
    return Brief(
        client_id,
        as_text(owner) if owner else None,
        as_int(epoch),
        as_int(expiry),
        as_int(deadline) if deadline else None,
        as_int(protocol) if protocol else None,
        as_int(n),
        as_int(hi),
        bool(direct),
        filters,
        queued,
        queued_bytes,
        released,
        receiving,
        delayed,
        bool(has_will),
    )


def session_end(client_id: str) -> list[object]:
    """Ends a session, whoever has it."""
    return ["session_end", bucket_of(client_id), client_id]


def parse_end(reply: Reply) -> EndedByHand | None:
    """The answer to `session_end`; None if there was no such session."""
    if not reply:
        return None
    epoch, rows = as_list(reply)[:2]
    return EndedByHand(as_int(epoch), parse_rows(rows))
