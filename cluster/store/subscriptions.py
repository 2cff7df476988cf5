"""Subscriptions: in the session (which decides), and in the rows that every node loads and follows.

A persistent session's subscription is written to the session first, which gives its stamp; then to the rows
with that stamp. A row with a higher stamp stays. Each change of rows or interest is in the change log.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.store.call import Reply
from cluster.store.keys import META_SLOT, SUBSCRIPTION_SHARDS, bucket_of, shard_of
from cluster.store.reply import as_bytes, as_int, as_list, as_text, in_pairs

LOG_LIMIT = 20_000
"""Log entries in one answer: about 20 ms of Redis, and only for a node that was away."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one filter of a SUBSCRIBE."""

    existed: bool
    replay_started: bool


@dataclass(frozen=True, slots=True)
class Subscribed:
    """`stamp` is for the rows."""

    stamp: int
    filters: list[Outcome]


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """`stamp` is for the rows; `existed` in the order of the filters."""

    stamp: int
    existed: list[bool]


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the change log. `kind`: "sub+", "sub-" (who: client id), "int+", "int-" (who: node), "gone"
    (who: a node that is no member any more)."""

    kind: str
    who: str
    filter: str
    options: bytes
    stamp: int


@dataclass(frozen=True, slots=True)
class Log:
    """Changes that lead to `version`. `more`: there are further ones, ask again from there."""

    version: str
    more: bool
    changes: list[Change]


def subscribe(client_id: str, epoch: int, filters: Iterable[tuple[str, bytes, int]]) -> list[object]:
    """Writes subscriptions into the session: filter, packed options, and whether it wants the retained
    messages (0 no, 1 if the subscription is new, 2 yes)."""
    return ["subscribe", bucket_of(client_id), client_id, epoch, [item for row in filters for item in row]]


def parse_subscribe(reply: Reply) -> Subscribed | None:
    """The answer to `subscribe`; None if the epoch is stale."""
    fields = as_list(reply)
    if fields[0] == 0:
        return None
    return Subscribed(
        as_int(fields[1]), [Outcome(bool(existed), bool(replay)) for existed, replay in in_pairs(fields[2])]
    )


def unsubscribe(client_id: str, epoch: int, filters: Sequence[str]) -> list[object]:
    """Takes filters out of the session."""
    return ["unsubscribe", bucket_of(client_id), client_id, epoch, filters]


def parse_unsubscribe(reply: Reply) -> Unsubscribed | None:
    """The answer to `unsubscribe`; None if the epoch is stale."""
    fields = as_list(reply)
    if fields[0] == 0:
        return None
    return Unsubscribed(as_int(fields[1]), [bool(existed) for existed in as_list(fields[2])])


def rows(
    adds: Iterable[tuple[str, str, bytes, int]], deletes: Iterable[tuple[str, str, int]]
) -> list[object]:
    """Adds rows (client id, filter, packed options, stamp) and deletes rows (client id, filter, stamp).
    Answer: the version then."""
    added: list[object] = []
    for client_id, topic_filter, options, stamp in adds:
        added += (shard_of(client_id, topic_filter), client_id, topic_filter, options, stamp)
    deleted: list[object] = []
    for client_id, topic_filter, stamp in deletes:
        deleted += (shard_of(client_id, topic_filter), client_id, topic_filter, stamp)
    return ["rows", META_SLOT, added, deleted]


def interest(incarnation: str, adds: Sequence[str], removes: Sequence[str]) -> list[object]:
    """Changes what the node's clients want; fields `<kind>:<filter>`, see lua/interest.lua. Answer: the
    version then."""
    return ["interest", META_SLOT, incarnation, adds, removes]


def next_shard(pace_ms: int) -> list[object]:
    """Asks which shard of the rows is to be compared with the sessions now; once in `pace_ms` one node is
    told. Answer: the shard, or False."""
    return ["next_shard", META_SLOT, SUBSCRIPTION_SHARDS, pace_ms]


def missing(bucket: int, rows: Sequence[str]) -> list[object]:
    """Asks which of these (client id, filter, ...) are in no session. Answer: their places."""
    return ["missing", bucket, rows]


def log_since(version: str, limit: int = LOG_LIMIT) -> list[object]:
    """Asks for the changes since `version`, at most `limit` entries of the log."""
    return ["log_since", META_SLOT, version, limit]


def parse_log(reply: Reply) -> Log | None:
    """The answer to `log_since`; None if the log doesn't reach back so far: load everything again."""
    if not reply:
        return None
    version, more, flat = as_list(reply)[:3]
    items = iter(as_list(flat))
    changes = [
        Change(as_text(kind), as_text(who), as_text(topic_filter), as_bytes(options), as_int(stamp))
        for kind, who, topic_filter, options, stamp in zip(items, items, items, items, items, strict=True)
    ]
    return Log(as_text(version), bool(more), changes)


def parse_version(reply: Reply) -> str:
    """The answer to `rows`, `interest` and `membership.leave`."""
    return as_text(reply)
