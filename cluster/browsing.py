"""Looking at what is in Redis, for operators: sessions in order of their ids, queues, shared subscriptions,
dead letters. A page that chooses among many ends after so many, though it is not full.

How pages of all buckets are merged: `cluster.merging`. What a call asks for at most: `_BUCKETS_PER_CALL`,
`_SESSIONS_PER_CALL`; what one round trip does, as Redis may do all of it in one go: `_BUCKETS_AT_ONCE`,
`_SESSIONS_AT_ONCE`. That is about a millisecond.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cluster.merging import Part, SortKey, merged
from cluster.store import letters, queues, records, session_index, shares
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError
from cluster.store.keys import BUCKETS
from cluster.store.letters import Letter
from cluster.store.queues import Peeked
from cluster.store.session_index import Brief
from cluster.store.shares import ShareBrief
from cluster.store.store import Store

T = TypeVar("T")

SESSIONS_AT_A_TIME: Final = 500
SESSIONS_LOOKED_AT: Final = 1000
"""By a page; then it ends, though it is not full."""
LETTERS_AT_A_TIME: Final = 500
LETTERS_LOOKED_AT: Final = 4000
_BUCKETS_PER_CALL: Final = 10
_SESSIONS_PER_CALL: Final = 16
_BUCKETS_AT_ONCE: Final = 32
_SESSIONS_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`after`: where the next one goes on; None: this was the last."""

    items: list[T]
    after: str | None


class Browser:
    """Reads by side connections, beside the lane."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def sessions(
        self,
        limit: int,
        *,
        beginning: str = "",
        after: str | None = None,
        is_connected: bool | None = None,
    ) -> Page[Brief]:
        """Persistent sessions whose ids begin so, in their order; of one kind, if `is_connected` is said.
        Raises StoreError."""
        if is_connected is not None:
            return await self._chosen(limit, beginning, after, is_connected)
        found: list[Brief] = []
        looked_at = 0
        while True:
            count = limit - len(found)
            ids = await self._session_ids(count, beginning, after)
            found += await self.briefs(ids)  # a session may have ended meanwhile
            if len(ids) < count:
                return Page(found, None)
            after = ids[-1]
            looked_at += len(ids)
            if len(found) == limit or looked_at >= SESSIONS_LOOKED_AT:
                return Page(found, after)

    async def _chosen(self, limit: int, beginning: str, after: str | None, is_connected: bool) -> Page[Brief]:
        """Asks who is connected first: that is a tenth of what there is to know."""
        found: list[Brief] = []
        for _ in range(0, SESSIONS_LOOKED_AT, SESSIONS_AT_A_TIME):
            looked_at = await self._connected(SESSIONS_AT_A_TIME, beginning, after)
            is_over = len(looked_at) < SESSIONS_AT_A_TIME
            wanted = [client_id for client_id, connected in looked_at if connected == is_connected]
            while wanted and len(found) < limit:
                some = wanted[: limit - len(found)]
                del wanted[: len(some)]
                briefs = await self.briefs(some)
                found += [brief for brief in briefs if (brief.owner is not None) == is_connected]
                after = some[-1]
            if len(found) == limit:
                return Page(found, None if is_over and after == looked_at[-1][0] else after)
            if is_over:
                return Page(found, None)
            after = looked_at[-1][0]
        return Page(found, after)

    async def _session_ids(self, limit: int, beginning: str, after: str | None) -> list[str]:
        async def fetch(parts: Sequence[Part[str]]) -> list[list[str]]:
            requests = [
                session_index.session_ids(part.bucket, beginning, part.last or after, part.count)
                for part in parts
            ]
            return [*map(session_index.parse_ids, await self._ask(requests, _BUCKETS_PER_CALL))]

        return await merged(range(BUCKETS), fetch, lambda client_id: client_id, limit, _BUCKETS_AT_ONCE)

    async def _connected(self, limit: int, beginning: str, after: str | None) -> list[tuple[str, bool]]:
        async def fetch(parts: Sequence[Part[tuple[str, bool]]]) -> list[list[tuple[str, bool]]]:
            requests = [
                session_index.sessions_connected(
                    part.bucket, beginning, after if part.last is None else part.last[0], part.count
                )
                for part in parts
            ]
            return [*map(session_index.parse_connected, await self._ask(requests, _BUCKETS_PER_CALL))]

        return await merged(range(BUCKETS), fetch, lambda item: item[0], limit, _BUCKETS_AT_ONCE)

    async def briefs(self, client_ids: Sequence[str]) -> list[Brief]:
        """Those that there are of these sessions, persistent or not. Raises StoreError."""
        found: list[Brief] = []
        for some in _parts(client_ids, _SESSIONS_AT_ONCE):
            replies = await self._ask([*map(session_index.session_brief, some)], _SESSIONS_PER_CALL)
            briefs = map(session_index.parse_brief, some, replies)
            found += [brief for brief in briefs if brief is not None]
        return found

    async def brief(self, client_id: str) -> Brief | None:
        """A session, if there is one. Raises StoreError."""
        return next(iter(await self.briefs([client_id])), None)

    async def subscriptions(self, client_id: str) -> list[dict[str, object]]:
        """Those of a persistent session, by filter. Raises StoreError."""
        rows = await self._store.subscriptions_of(client_id)
        rows.sort(key=lambda row: row.filter)
        return [shown_subscription(client_id, row.filter, row.options) for row in rows]

    async def queue(
        self, client_id: str, limit: int, *, from_tail: bool, behind: str | None = None
    ) -> Page[Peeked]:
        """What waits for a session. Raises StoreError."""
        request = queues.peek(client_id, from_tail=from_tail, behind=behind, limit=limit)
        (reply,) = await self._ask([request], 1)
        entries, more = queues.parse_peek(reply)
        return Page(entries, entries[-1].id if more and entries else None)

    async def shares(self, names: Sequence[str]) -> list[ShareBrief]:
        """How these groups stand. Raises StoreError."""
        found: list[ShareBrief] = []
        for some in _parts(names, _SESSIONS_AT_ONCE):
            found += map(shares.parse_brief, await self._ask([*map(shares.brief, some)], _SESSIONS_PER_CALL))
        return found

    async def letters(
        self, limit: int, *, client_id: str | None = None, after: str | None = None
    ) -> Page[Letter]:
        """Dead letters, newest first; those of one client only. Raises StoreError, ValueError for a cursor
        that is none."""
        position = _letter_position(after) if after is not None else None
        found: list[Letter] = []
        for _ in range(0, LETTERS_LOOKED_AT, LETTERS_AT_A_TIME):
            count = limit if client_id is None else LETTERS_AT_A_TIME
            looked_at = await self._letters(client_id, position, count)
            for letter in looked_at:
                if client_id is None or letter.client_id == client_id:
                    found.append(letter)
                    if len(found) == limit:
                        return Page(found, _letter_cursor(letter))
            if len(looked_at) < count:
                return Page(found, None)
            position = _letter_position(_letter_cursor(looked_at[-1]))
        return Page(found, _letter_cursor(looked_at[-1]))

    async def _letters(
        self, client_id: str | None, position: tuple[int, int, int] | None, count: int
    ) -> list[Letter]:
        async def fetch(parts: Sequence[Part[Letter]]) -> list[list[Letter]]:
            requests = [
                letters.letters(part.bucket, _letter_bound(part.bucket, position, part.last), part.count)
                for part in parts
            ]
            replies = await self._ask(requests, _BUCKETS_PER_CALL)
            return [
                letters.parse_letters(part.bucket, reply) for part, reply in zip(parts, replies, strict=True)
            ]

        buckets = range(BUCKETS) if client_id is None else [letters.bucket_of_letters(client_id)]
        return await merged(buckets, fetch, _letter_order, count, _BUCKETS_AT_ONCE)

    async def _ask(self, requests: Sequence[Request], per_call: int) -> list[Reply]:
        """Also when Redis is full: an operator may want to look just then."""
        replies = await self._store.call_in_parts(requests, per_call)
        for reply in replies:
            if isinstance(reply, ItemError):
                raise reply
        return replies


def _parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[first : first + size] for first in range(0, len(names), size))


def shown_subscription(client_id: str, filter: str, options: bytes) -> dict[str, object]:
    """As JSON has it. Raises ValueError if the options are damaged."""
    unpacked = records.unpack_options(options)
    return {
        "client_id": client_id,
        "filter": filter,
        "qos": unpacked.qos,
        "no_local": unpacked.no_local,
        "retain_as_published": unpacked.retain_as_published,
        "retain_handling": unpacked.retain_handling,
        "subscription_identifier": unpacked.subscription_identifier or None,
    }


# The order of letters: the newest first; of one millisecond by bucket, then by number. A cursor is the place
# of the last one: `<ms>-<number>-<bucket>`.


def _letter_order(letter: Letter) -> SortKey:
    ms, number = map(int, letter.id.split("-"))
    return -ms, letter.bucket, -number


def _letter_cursor(letter: Letter) -> str:
    return f"{letter.id}-{letter.bucket}"


def _letter_position(cursor: str) -> tuple[int, int, int]:
    ms, number, bucket = map(int, cursor.split("-"))
    if min(ms, number, bucket) < 0 or max(ms, number) >= 1 << 63:
        raise ValueError("no cursor")
    return ms, number, bucket


def _letter_bound(bucket: int, position: tuple[int, int, int] | None, last: Letter | None) -> str:
    """Where a bucket goes on."""
    if last is not None:
        return f"({last.id}"
    if position is None:
        return "+"
    ms, number, of_bucket = position
    if bucket == of_bucket:
        return f"({ms}-{number}"
    return str(ms) if bucket > of_bucket else str(max(ms - 1, 0))
