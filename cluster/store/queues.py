"""The queue of a session: entries at QoS 1 and 2 in the order of their numbers.

An entry is named by (gen, n); n counts on over connections and nodes. `hi`: no entry beyond it has been sent;
whoever sends raises it first, so that the next owner knows which entries may be repeats. Replies are plain
lists, as these requests are the hot ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.store.call import BodyLayout, Reply
from cluster.store.keys import META_SLOT, bucket_of
from cluster.store.reply import as_int, as_list, as_text

WHOLE: Final = -1
"""In place of the index of a body: the head is all of the entry."""
NO_HEAD: Final = b""
"""In place of a head: the body is all of the entry."""
ENQUEUE_BODIES: Final = BodyLayout(entries=5, items=5, body=2)

_QOS: Final = 0b11
_RETAIN: Final = 0b100
_PEEKED: Final = 5


@dataclass(frozen=True, slots=True)
class Peeked:
    """What waits in a queue, without its payload. `id` is `<gen>-<n>`; `deadline_ms` 0: it does not
    expire."""

    id: str
    qos: int
    retain: bool
    topic: str
    payload_bytes: int
    deadline_ms: int

    @property
    def n(self) -> int:
        """Its number."""
        return int(self.id.rpartition("-")[2])


def fence(publishers: Sequence[object]) -> list[object]:
    """Must be the first of a call: publishers (bucket, client id, epoch, ...). Answer: the places of those
    that another connection has claimed; if there are any, nothing else of the call is done."""
    return ["fence", META_SLOT, publishers]


def enqueue(
    bucket: int,
    client_id: str,
    limit: int,
    drop_oldest: bool,
    entries: Sequence[object],
    known: int | None = None,
    byte_limit: int = 0,
    tells: bool = False,
) -> list[object]:
    """Appends entries, five items each: filter or False, head (`entry.pack_head`, or NO_HEAD; False: this one
    was struck and is none), index of the body in the call's bodies or WHOLE, token or False, TTL of the token
    in ms.

    Entries that name their filters are refused if the session has no such subscription. Those that don't are
    all refused if the session's subscriptions have changed since the stamp `known`.

    Answer: [gen, n0, owner or False, statuses or False, dropped]. Statuses, one each: 0 appended (they get
    n0 + 1, n0 + 2, ... in order), 1 refused, 2 had it already by its token, 3 dropped, as `limit` entries or
    `byte_limit` bytes (0: any number) were there and none could go; False: all were appended. `dropped`
    counts older entries which had to go.
    If what was `known` is outdated, there are two more: the stamp that is to be known, and the session's
    subscriptions (filter, options, stamp, ...). If the caller tells of what is dropped, and the queue may be
    full, and what was `known` holds, there is one more: of the older entries that had to go topic, flags
    (`qos_of_flags`), properties, ... as far as there is room for them.
    """
    request: list[object] = ["enqueue", bucket, client_id, limit, drop_oldest, entries]
    if tells or byte_limit:
        request += (False if known is None else known, tells, byte_limit or False)
    elif known is not None:
        request.append(known)
    return request


def qos_of_flags(flags: object) -> int:
    """Of an entry. Raises TypeError."""
    return as_int(flags) & _QOS


def ack(bucket: int, client_id: str, entries: Sequence[int]) -> list[object]:
    """Deletes entries (gen, n, gen, n, ...). Answer: how many were there."""
    return ["ack", bucket, client_id, entries]


def release(bucket: int, client_id: str, epoch: int, entries: Sequence[int]) -> list[object]:
    """Stores PUBREC for entries (gen, n, gen, n, ...). Answer: 1, or 0 if the epoch is stale."""
    return ["release", bucket, client_id, epoch, entries]


def complete(bucket: int, client_id: str, epoch: int, numbers: Sequence[int]) -> list[object]:
    """Stores PUBCOMP for numbers. Answer: 1, or 0 if the epoch is stale."""
    return ["complete", bucket, client_id, epoch, numbers]


def raise_hi(bucket: int, client_id: str, epoch: int, window: int) -> list[object]:
    """Allows to send a window further. Answer: [1, hi]; [2, hi, n] if the queue goes on beyond hi: read a
    page; [0] if the epoch is stale."""
    return ["raise_hi", bucket, client_id, epoch, window]


def page(bucket: int, client_id: str, epoch: int, after_n: int, window: int) -> list[object]:
    """Reads at most `window` entries beyond `after_n`, which may then be sent.

    Answer: [1, hi, n, [gen, n, packed, ...], more]; [0] if the epoch is stale. `more`: the page ends early,
    as it has about a MiB. Otherwise fewer than `window` entries are all there are.
    """
    return ["page", bucket, client_id, epoch, after_n, window]


def peek(client_id: str, *, from_tail: bool, behind: str | None, limit: int) -> list[object]:
    """Asks what waits, from the head or from the tail, behind the entry with that id."""
    return ["queue_peek", bucket_of(client_id), client_id, from_tail, behind or False, limit]


def parse_peek(reply: Reply) -> tuple[list[Peeked], bool]:
    """The answer to `peek`, and whether there may be more."""
    flat, more = as_list(reply)[:2]
    items = as_list(flat)
    found = []
    for at in range(0, len(items), _PEEKED):
        entry_id, flags, topic, size, deadline_ms = items[at : at + _PEEKED]
        bits = as_int(flags)
        found.append(
            Peeked(
                as_text(entry_id),
                bits & _QOS,
                bits & _RETAIN != 0,
                as_text(topic),
                as_int(size),
                as_int(deadline_ms),
            )
        )
    return found, bool(more)
