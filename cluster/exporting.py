"""Sessions with their queues, and retained messages, taken out of a broker while it runs: page by page,
each of about PAGE_BYTES, and nothing is kept between two. A call to Redis has about a millisecond of work.

A session is as of one moment if it fits on a page; else see lua/session_export.lua.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cluster import moved
from cluster.moved import Record
from cluster.store import moving, retained, session_index
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError
from cluster.store.keys import BUCKETS
from cluster.store.moving import ExportPage
from cluster.store.reply import as_bytes, as_list
from cluster.store.store import Store

PAGE_BYTES: Final = 256 << 10
_RECORDS_PER_PAGE: Final = 512
_IDS_PER_CALL: Final = 64
_SESSIONS_PER_CALL: Final = 16
_BYTES_OF_SESSION: Final = 16 << 10  # of entries, with others in the same call
_BYTES_OF_RECORD: Final = 200  # about, beside what is in it
_TOKENS_PER_CALL: Final = 500
_RETAINED_PER_CALL: Final = 32
_RETAINED_BUDGET: Final = 250
_SYSTEM: Final = "$SYS/"

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next page of sessions begins: in this bucket, behind `after`. `part`: with the rest of
    that session instead, of that gen, behind entry n."""

    bucket: int = 0
    after: str | None = None
    part: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class RetainedPlace:
    """Where the next page of retained messages begins."""

    bucket: int = 0
    cursor: str | None = None


class Page(Generic[R]):
    """Records, and what could not be read and is left out, in words. Filled by whoever exports."""

    def __init__(self) -> None:
        self.records: list[R] = []
        self.problems: list[str] = []
        self.size = 0

    @property
    def is_full(self) -> bool:
        """Enough for an answer."""
        return self.size >= PAGE_BYTES or len(self.records) >= _RECORDS_PER_PAGE

    def add(self, record: R, size: int) -> None:
        """One more, of about so many bytes."""
        self.records.append(record)
        self.size += size + _BYTES_OF_RECORD


class Exporter:
    """Reads by side connections, beside the lane. Its methods raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def sessions(
        self, beginning: str, place: Place, *, with_queues: bool = True
    ) -> tuple[Page[Record], Place | None]:
        """A page of the sessions whose ids begin so, and where the next one begins; None after the last."""
        page = Page[Record]()
        now_ms = await self._store.time_ms()
        while place.bucket < BUCKETS:
            if place.part is not None:
                place = await self._go_on(page, place, now_ms)
            else:
                place = await self._some(page, beginning, place, now_ms, with_queues)
            if page.is_full or place.part is not None:
                return page, place
        return page, None

    async def _some(
        self, page: Page[Record], beginning: str, place: Place, now_ms: int, with_queues: bool
    ) -> Place:
        """The next sessions of a bucket."""
        (reply,) = await self._ask(
            [session_index.session_ids(place.bucket, beginning, place.after, _IDS_PER_CALL)]
        )
        ids = session_index.parse_ids(_checked(reply))
        for first in range(0, len(ids), _SESSIONS_PER_CALL):
            some = ids[first : first + _SESSIONS_PER_CALL]
            replies = await self._ask(
                [moving.export(each, 0, _BYTES_OF_SESSION, with_queue=with_queues) for each in some]
            )
            for client_id, reply in zip(some, replies, strict=True):
                found = _parsed(page, client_id, reply)
                part = None
                if found is not None:
                    part = await self._add(page, client_id, found, now_ms, is_first=True)
                if part is not None or page.is_full:
                    return Place(place.bucket, client_id, part)
        return Place(place.bucket + 1) if len(ids) < _IDS_PER_CALL else Place(place.bucket, ids[-1])

    async def _go_on(self, page: Page[Record], place: Place, now_ms: int) -> Place:
        """The rest of a session. If another one has its name meanwhile, that from its beginning."""
        assert place.after is not None
        gen, n = place.part or (0, 0)
        (reply,) = await self._ask([moving.export(place.after, n, PAGE_BYTES, with_queue=True)])
        found = _parsed(page, place.after, reply)
        if found is not None and found.gen != gen:
            (reply,) = await self._ask([moving.export(place.after, 0, PAGE_BYTES, with_queue=True)])
            found, n = _parsed(page, place.after, reply), 0
        part = None
        if found is not None:
            part = await self._add(page, place.after, found, now_ms, is_first=n == 0)
        return Place(place.bucket, place.after, part)

    async def _add(
        self, page: Page[Record], client_id: str, found: ExportPage, now_ms: int, *, is_first: bool
    ) -> tuple[int, int] | None:
        """What has been read of a session; what is to be read further, if there is more."""
        try:
            if found.entries:
                record = moved.entries_of(client_id, found, now_ms, is_first=is_first)
                page.add(record, sum(len(packed) for _, packed in found.entries))
            if found.state is None:
                return found.gen, found.entries[-1][0]
            has_entries = bool(found.entries) or not is_first
            session = moved.session_of(client_id, found.state, has_entries=has_entries)
        except ValueError as error:
            page.problems.append(f"session {client_id} is left out, it can't be read: {error}")
            return None
        unrouted = [each.token for each in found.state.receiving if not each.is_routed]
        await self._add_tokens(page, unrouted)
        page.add(session, 100 * len(session.subscriptions))
        return None

    async def _add_tokens(self, page: Page[Record], tokens: Sequence[bytes]) -> None:
        """Who has what the publisher may send once more: in every bucket."""
        for first in range(0, len(tokens), _TOKENS_PER_CALL):
            some = tokens[first : first + _TOKENS_PER_CALL]
            for bucket in range(BUCKETS):
                (reply,) = await self._ask([moving.once_members(bucket, some)])
                for token, members in zip(some, as_list(_checked(reply)), strict=True):
                    names = [as_bytes(member).decode() for member in as_list(members)]
                    if names:
                        record = moved.MovedToken(kind="token", bucket=bucket, token=token, members=names)
                        page.add(record, sum(map(len, names)))

    async def retained(
        self, topic_filter: str, place: RetainedPlace
    ) -> tuple[Page[Record], RetainedPlace | None]:
        """A page of the retained messages that match, and where the next one begins; None after the last.
        None of the nodes' own."""
        page = Page[Record]()
        now_ms = await self._store.time_ms()
        buckets = retained.retained_buckets(topic_filter)
        while place.bucket < len(buckets):
            request = retained.retained_page(
                buckets[place.bucket], topic_filter, place.cursor, _RETAINED_PER_CALL, _RETAINED_BUDGET
            )
            (reply,) = await self._ask([request])
            found = retained.parse_page(_checked(reply))
            for topic, record in found.items:
                if not topic.startswith(_SYSTEM):
                    _add_retained(page, topic, record, now_ms)
            if found.cursor is None:
                place = RetainedPlace(place.bucket + 1)
            else:
                place = RetainedPlace(place.bucket, found.cursor)
            if page.is_full:
                return page, place
        return page, None

    async def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        """Also when Redis is full: that may be the reason for a move."""
        return await self._store.call(requests, function="free")


def _parsed(page: Page[Record], client_id: str, reply: Reply) -> ExportPage | None:
    """What there is of a session."""
    try:
        return moving.parse_export(_checked(reply))
    except (ItemError, TypeError, ValueError) as error:  # somebody has damaged its keys
        page.problems.append(f"session {client_id} is left out, it can't be read: {error}")
        return None


def _checked(reply: Reply) -> Reply:
    """Raises ItemError."""
    if isinstance(reply, ItemError):
        raise reply
    return reply


def _add_retained(page: Page[Record], topic: str, record: bytes, now_ms: int) -> None:
    try:
        page.add(moved.retained_of(topic, record, now_ms), len(record))
    except ValueError as error:
        page.problems.append(f"retained message of {topic} is left out, it can't be read: {error}")
