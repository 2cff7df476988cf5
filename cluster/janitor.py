"""Deadlines in Redis: sessions that expire, wills that become due.

Each node looks once a second. What is due is leased to the node that found it (its score moves ahead), so it
is done by one node, and by another one if that node dies; see `Deadlines` in docs/architecture.md.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import anyio

from cluster.store import deadlines
from cluster.store.deadlines import DueWill, EndedSession
from cluster.store.errors import ItemError, RedisFull, StoreUnavailable
from cluster.store.keys import BUCKETS
from cluster.store.store import Store

INTERVAL_SECONDS: Final = 1.0
LEASE_MS: Final = 10_000
_FIRST_LIMIT: Final = 1  # of each bucket in the first look: a call carries about a millisecond of work
_LIMIT: Final = 50  # of one that has more

logger = logging.getLogger(__name__)


class Janitor:
    """Finds what is due. `on_wills` and `on_ended` do what has to be done; `on_retained` is told how many
    retained messages there are, bucket by bucket. None of them may wait."""

    def __init__(
        self,
        store: Store,
        on_wills: Callable[[Sequence[DueWill]], None],
        on_ended: Callable[[EndedSession], None],
        on_retained: Callable[[Sequence[int]], None],
    ) -> None:
        self._on_retained = on_retained
        self._retained = [0] * BUCKETS
        self._store = store
        self._on_wills = on_wills
        self._on_ended = on_ended

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            try:
                await self.look()
            except (StoreUnavailable, RedisFull) as error:
                logger.debug("deadlines wait: %s", error)

    async def look(self) -> None:
        """Does what is due now, in all buckets."""
        crowded = await self._look_at(range(BUCKETS), _FIRST_LIMIT)
        while crowded:
            crowded = [each for bucket in crowded for each in await self._look_at([bucket], _LIMIT)]
        self._on_retained(self._retained)

    async def _look_at(self, buckets: Sequence[int], limit: int) -> list[int]:
        """Does so much of each in one call; those that have more."""
        requests = [deadlines.due(bucket, limit, LEASE_MS) for bucket in buckets]
        replies = await self._store.call(requests, function="free")
        crowded = []
        for bucket, reply in zip(buckets, replies, strict=True):
            if isinstance(reply, ItemError):
                logger.error("deadlines of bucket %d: %s", bucket, reply)
                continue
            due = deadlines.parse_due(reply)
            self._retained[bucket] = due.retained
            if due.wills:
                self._on_wills(due.wills)
            for ended in due.ended:
                self._on_ended(ended)
            if due.more:
                crowded.append(bucket)
        return crowded
