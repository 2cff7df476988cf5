"""The slow scrub: rows of subscriptions that no session stands behind are deleted.

Such rows are left when a node dies between the two writes of an UNSUBSCRIBE, or between the end of a session
and that of its rows. They do no harm but cost: whoever routes by one is refused, and then deletes it. The
scrub finds those that nobody publishes to. The nodes make one pass a day together, a shard at a time."""

import logging
from collections.abc import Sequence
from typing import Final

import anyio

from cluster.store import subscriptions
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError, RedisFull, StoreUnavailable
from cluster.store.keys import SUBSCRIPTION_SHARDS, bucket_of
from cluster.store.reply import as_int, as_ints
from cluster.store.store import Store, SubscriptionRow

PASS_SECONDS: Final = 86_400
INTERVAL_SECONDS: Final = PASS_SECONDS / SUBSCRIPTION_SHARDS
_LOOK_SECONDS: Final = 60.0
_ROWS_PER_CALL: Final = 200

logger = logging.getLogger(__name__)


class Scrub:
    """Takes its turns. `deleted` counts rows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.deleted = 0

    async def run(self) -> None:
        """Looks until cancelled whether it is this node's turn. Raises NodeGone if it has been declared
        dead."""
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            try:
                await self.look()
            except (StoreUnavailable, RedisFull, ItemError) as error:
                logger.debug("the scrub waits: %s", error)

    async def look(self, interval_seconds: float = INTERVAL_SECONDS) -> int | None:
        """Scrubs a shard if one is due; which."""
        (shard,) = await self._ask([subscriptions.next_shard(int(interval_seconds * 1000))])
        if shard is False:
            return None
        async for page in self._store.rows_of(as_int(shard)):
            for first in range(0, len(page), _ROWS_PER_CALL):
                await self._scrub(page[first : first + _ROWS_PER_CALL])
        return as_int(shard)

    async def _scrub(self, rows: Sequence[SubscriptionRow]) -> None:
        buckets: dict[int, list[SubscriptionRow]] = {}
        for row in rows:
            buckets.setdefault(bucket_of(row.client_id), []).append(row)
        requests = [
            subscriptions.missing(bucket, [text for row in found for text in (row.client_id, row.filter)])
            for bucket, found in buckets.items()
        ]
        replies = await self._ask(requests)
        stale = [
            found[place]
            for found, reply in zip(buckets.values(), replies, strict=True)
            for place in as_ints(reply)
        ]
        if not stale:
            return
        deletes = [(row.client_id, row.filter, row.stamp) for row in stale]
        await self._ask([subscriptions.rows([], deletes)])
        self.deleted += len(stale)
        logger.info("deleted subscriptions that no session has", extra={"rows": len(stale)})

    async def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        replies = await self._store.call(requests, function="free")
        for reply in replies:
            if isinstance(reply, ItemError):
                raise reply
        return replies
