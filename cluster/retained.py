"""Retained messages as an operator looks at them: by prefix, in order of their topics, page by page.

They are in 64 buckets, each in order; a page merges them (`cluster.merging`). Only then it asks what there is
under the names of the page. Each call to Redis has about a millisecond of work, and a page makes at most some
dozens of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from cluster.merging import Part, merged
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

F = TypeVar("F")


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
        topics, following = await self._names(prefix, after, limit, by_level=False)
        facts = await self._facts(topics, retained_browse.facts, retained_browse.parse_facts)
        return Page([(topic, each) for topic in topics if (each := facts[topic]) is not None], following)

    async def levels(self, prefix: str, after: str | None, limit: int) -> LevelPage:
        """The topics that begin with this text, up to the end of the level in which it ends; each once."""
        names, following = await self._names(prefix, after, limit, by_level=True)
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

    async def forget(self, topic: str) -> None:
        """Takes away what is retained under a topic, beside all that waits to be stored; nobody is told."""
        await self._ask([retained.retain(topic, None, 0, False, 0)])

    async def _names(
        self, prefix: str, after: str | None, limit: int, *, by_level: bool
    ) -> tuple[list[str], str | None]:
        """Those of a page, and where the next one begins."""
        beginning = member_of(prefix)
        beyond = None if after is None else member_of(after)

        async def fetch(parts: Sequence[Part[bytes]]) -> list[list[bytes]]:
            requests = [
                retained_browse.names(
                    part.bucket, beginning, part.last or beyond, part.count, by_level=by_level
                )
                for part in parts
            ]
            return [retained_browse.parse_names(reply) for reply in await self._ask(requests)]

        buckets = retained_browse.buckets_below(prefix)
        members = await merged(buckets, fetch, lambda member: member, limit + 1, _BUCKETS_PER_CALL)
        names = [topic_of(member) for member in members[:limit]]
        return names, names[-1] if len(members) > limit else None

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


def _level_facts(bucket: int, names: Sequence[str]) -> Request:
    return retained_browse.level_facts(bucket, [member_of(name) for name in names])
