"""Retained messages as an operator looks at them: by prefix, in order of their topics, page by page.

They are in 64 buckets, each in order; a page merges them. It asks each bucket for a few names, and those
for more that turn out to have many. Only then it asks what there is under the names of the page. Each call
to Redis has about a millisecond of work, and a page makes at most some dozens of them.
"""

import heapq
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from cluster.store import records, retained, retained_browse
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError
from cluster.store.keys import bucket_of_topic
from cluster.store.records import Retained
from cluster.store.retained_browse import Facts, LevelFacts, member_of, topic_of
from cluster.store.store import Store

PAGE_MAXIMUM: Final = 500
_BUCKETS_PER_CALL: Final = 8
_NAMES_PER_CALL: Final = 100
_SHARE_OF_PAGE: Final = 16  # of a page in the first look at each bucket, if there are all of them
_FEWEST: Final = 8
_MOST: Final = 200

F = TypeVar("F")

_Ask = Callable[[Sequence[Request]], Awaitable[list[Reply]]]


@dataclass(frozen=True, slots=True)
class Page:
    """Topics with what there is. `following`: where the next page begins; None after the last one."""

    items: list[tuple[str, Facts]]
    following: str | None


@dataclass(frozen=True, slots=True)
class LevelPage:
    """The same for levels, each by its whole name from the first level on."""

    items: list[tuple[str, LevelFacts]]
    following: str | None


class RetainedBook:
    """The retained messages of the cluster. Its methods raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, prefix: str, after: str | None, limit: int) -> Page:
        """Topics that begin with this text, beyond `after`. One that went away meanwhile is left out."""
        merge = _Merge(self._ask, prefix, limit, by_level=False)
        topics, following = await merge.names(after)
        facts = await self._facts(topics, retained_browse.facts, retained_browse.parse_facts)
        return Page([(topic, each) for topic in topics if (each := facts[topic]) is not None], following)

    async def levels(self, prefix: str, after: str | None, limit: int) -> LevelPage:
        """The topics that begin with this text, up to the end of the level in which it ends; each once."""
        merge = _Merge(self._ask, prefix, limit, by_level=True)
        names, following = await merge.names(after)
        facts = await self._facts(names, _level_facts, retained_browse.parse_level_facts)
        return LevelPage([(name, facts[name]) for name in names], following)

    async def facts(self, topic: str) -> Facts | None:
        """What is retained under a topic, without its content."""
        found = await self._facts([topic], retained_browse.facts, retained_browse.parse_facts)
        return found[topic]

    async def message(self, topic: str) -> Retained | None:
        """What is retained under a topic. Raises ValueError if that can't be read."""
        request = retained.retained_page(bucket_of_topic(topic), topic, None, 1, 1)
        (reply,) = await self._ask([request])
        for _, record in retained.parse_page(reply).items:
            return records.unpack_retained(record)
        return None

    async def _facts(
        self,
        names: Sequence[str],
        request: Callable[[int, Sequence[str]], Request],
        parse: Callable[[Reply], list[F]],
    ) -> dict[str, F]:
        """What there is under each of these, by name."""
        found: dict[str, F] = {}
        for first in range(0, len(names), _NAMES_PER_CALL):
            by_bucket: dict[int, list[str]] = {}
            for name in names[first : first + _NAMES_PER_CALL]:
                by_bucket.setdefault(bucket_of_topic(name), []).append(name)
            replies = await self._ask([request(*each) for each in by_bucket.items()])
            for some, reply in zip(by_bucket.values(), replies, strict=True):
                found.update(zip(some, parse(reply), strict=True))
        return found

    async def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        """Beside the lane, also when Redis is full."""
        replies = await self._store.call(requests, function="free")
        for reply in replies:
            if isinstance(reply, ItemError):
                raise reply
        return replies


class _Merge:
    """Names of one page, from the buckets that have some, in order."""

    def __init__(self, ask: _Ask, prefix: str, limit: int, *, by_level: bool) -> None:
        self._ask = ask
        self._prefix = member_of(prefix)
        self._buckets = retained_browse.buckets_below(prefix)
        self._limit = limit
        self._by_level = by_level
        self._chunks: dict[int, int] = {}  # how many were asked of a bucket; none any more: it has told all
        self._waiting: dict[int, list[bytes]] = {}  # names of a bucket beyond its first, last first
        self._firsts: list[tuple[bytes, int]] = []  # a heap: the first name of each bucket

    async def names(self, after: str | None) -> tuple[list[str], str | None]:
        """Those of the page, and where the next one begins."""
        beyond = None if after is None else member_of(after)
        share = -(-self._limit // _SHARE_OF_PAGE) if len(self._buckets) > 1 else self._limit + 1
        self._chunks = dict.fromkeys(self._buckets, min(max(share, _FEWEST), _MOST))
        for first in range(0, len(self._buckets), _BUCKETS_PER_CALL):
            await self._fetch(self._buckets[first : first + _BUCKETS_PER_CALL], beyond)
        names: list[str] = []
        while self._firsts:
            if len(names) == self._limit:
                return names, names[-1]
            member, bucket = heapq.heappop(self._firsts)
            names.append(topic_of(member))
            if self._waiting[bucket]:
                heapq.heappush(self._firsts, (self._waiting[bucket].pop(), bucket))
            elif bucket in self._chunks:
                self._chunks[bucket] = min(2 * self._chunks[bucket], _MOST)
                await self._fetch([bucket], member)
        return names, None

    async def _fetch(self, buckets: Sequence[int], beyond: bytes | None) -> None:
        replies = await self._ask(
            [
                retained_browse.names(
                    bucket, self._prefix, beyond, self._chunks[bucket], by_level=self._by_level
                )
                for bucket in buckets
            ]
        )
        for bucket, reply in zip(buckets, replies, strict=True):
            found = retained_browse.parse_names(reply)
            if len(found) < self._chunks[bucket]:
                del self._chunks[bucket]
            found.reverse()
            if found:
                heapq.heappush(self._firsts, (found.pop(), bucket))
            self._waiting[bucket] = found


def _level_facts(bucket: int, names: Sequence[str]) -> Request:
    return retained_browse.level_facts(bucket, [member_of(name) for name in names])
