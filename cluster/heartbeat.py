"""This node's life sign in Redis, and what time it is there.

Once a second the node's row gets the cluster's current tick; a node whose row stays behind is dead to the
others. The answer carries the time of Redis: the only clock that counts for deadlines, as clocks of nodes are
never compared.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

import anyio

from cluster.store import membership
from cluster.store.errors import StoreUnavailable
from cluster.store.store import Store

INTERVAL_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Heartbeat:
    """Beats for one incarnation. `on_time` gets the offset from the monotonic clock to Redis time, in ms."""

    def __init__(self, store: Store, incarnation: str, on_time: Callable[[int], None]) -> None:
        self._store = store
        self._incarnation = incarnation
        self._on_time = on_time

    async def join(self) -> None:
        """Becomes a member, once. Raises StoreError."""
        await self._store.call([membership.join(self._incarnation)])
        await self.beat()

    async def beat(self) -> None:
        """One life sign. Raises NodeGone if the others have declared this node dead, StoreUnavailable."""
        before = time.monotonic()
        (reply,) = await self._store.call([membership.beat(self._incarnation)], function="free")
        middle = (before + time.monotonic()) / 2
        self._on_time(membership.parse_beat(reply).time_ms - int(middle * 1000))

    async def leave(self) -> None:
        """Takes the row away: nobody needs to wait until it looks dead."""
        await self._store.call([membership.leave(self._incarnation)], function="free")

    async def run(self) -> None:
        """Beats until cancelled. While Redis is away nothing ticks, so a missed beat harms nobody."""
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            try:
                await self.beat()
            except StoreUnavailable as error:
                logger.debug("no beat: %s", error)
