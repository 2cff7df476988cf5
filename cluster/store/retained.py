"""Retained messages: kept by topic in the bucket of its first level, found by filter in pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.store.call import BodyLayout, Reply, Text
from cluster.store.keys import BUCKETS, bucket_of_topic
from cluster.store.reply import as_bytes, as_int, as_ints, as_list, as_text, in_pairs

NOT_RETAINED: Final = -1
"""What `retain` answers if there is no room."""
RETAIN_BODIES: Final = BodyLayout(entries=3, items=1, body=0)

__all__ = [
    "NOT_RETAINED",
    "RETAIN_BODIES",
    "Page",
    "Replayed",
    "bucket_of_topic",
    "parse_page",
    "parse_replay",
    "replay",
    "retain",
    "retained_buckets",
    "retained_count",
    "retained_page",
]


@dataclass(frozen=True, slots=True)
class Page:
    """Retained messages (topic, record for `records.unpack_retained`). `cursor` None: there are no more in
    this bucket; otherwise ask again with it, even if the page is empty."""

    cursor: str | None
    items: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Which of a page's entries (0, 1, ...) were queued, as `n` + 1, `n` + 2, ..."""

    gen: int
    n: int
    appended: list[int]


def retain(
    topic: str,
    record: Text | None,
    deadline_ms: int,
    token: bytes | bool,
    token_ttl_ms: int,
    maximum: int | None = None,
) -> list[object]:
    """Sets (`records.pack_retained`) or removes (None) the retained message of a topic. `deadline_ms` 0: it
    never expires. `token` False: no need to do it only once. `maximum`: how many the bucket may hold, None
    if any number. Answer: 1, 0 if the token had done it, or NOT_RETAINED if there is no room for another
    topic."""
    return [
        "retain",
        bucket_of_topic(topic),
        topic,
        False if record is None else record,
        deadline_ms,
        token,
        token_ttl_ms,
        False if maximum is None else maximum,
    ]


def retained_buckets(topic_filter: str) -> list[int]:
    """Where messages that match may be: one bucket if the first level is no wildcard, otherwise all."""
    first = topic_filter.partition("/")[0]
    return list(range(BUCKETS)) if first in ("+", "#") else [bucket_of_topic(first)]


def retained_count(bucket: int) -> list[object]:
    """Asks how many topics of this bucket have a retained message. Answer: the number."""
    return ["retained_count", bucket]


def retained_page(
    bucket: int, topic_filter: str, cursor: str | None, limit: int, budget: int
) -> list[object]:
    """Reads at most `limit` messages that match, looking at about `budget` index entries (250 are about a
    millisecond of Redis)."""
    return ["retained_page", bucket, topic_filter, False if cursor is None else cursor, limit, budget]


def parse_page(reply: Reply) -> Page:
    """The answer to `retained_page`."""
    cursor, items = as_list(reply)[:2]
    return Page(
        as_text(cursor) if cursor else None,
        [(as_text(topic), as_bytes(record)) for topic, record in in_pairs(items)],
    )


def replay(
    bucket: int,
    client_id: str,
    epoch: int,
    topic_filter: str,
    n_before: int,
    next_cursor: str | None,
    entries: Sequence[object],
) -> list[object]:
    """Queues a page of retained messages for a new subscription and moves the replay's cursor.

    `n_before`: the session's last number before the page was read; topics that were queued since are skipped.
    `next_cursor`: where the next page begins, None after the last. `entries`: topic, head, body, ...
    """
    cursor = False if next_cursor is None else next_cursor
    return ["replay", bucket, client_id, epoch, topic_filter, n_before, cursor, entries]


def parse_replay(reply: Reply) -> Replayed | None:
    """The answer to `replay`; None: the epoch is stale, the subscription is gone, or the replay is over."""
    fields = as_list(reply)
    if fields[0] == 0:
        return None
    return Replayed(as_int(fields[1]), as_int(fields[2]), list(as_ints(fields[3])))
