"""This node's life sign in Redis, and what time it is there.

Once a second the node's row gets the cluster's current tick; a node whose row stays behind is dead to the
others. The answer carries the time of Redis: the only clock that counts for deadlines, as clocks of nodes are
never compared.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from cluster.store import membership
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError, RedisFull, StoreUnavailable
from cluster.store.store import Store

INTERVAL_SECONDS: Final = 1.0
_SLOW_SECONDS: Final = 0.5
_HELD_SECONDS: Final = 1.5

logger = logging.getLogger(__name__)


class Heartbeat:
    """Beats for one incarnation.

    `ask` sends a request with the node's next batch: so an idle node notices, too, when Redis goes away.
    `on_time` gets the offset from the monotonic clock to Redis time, in ms. `info` is what the node says of
    itself to the others, asked once a second.
    """

    def __init__(
        self,
        store: Store,
        incarnation: str,
        ask: Callable[[Request], Awaitable[Reply]],
        on_time: Callable[[int], None],
        info: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._incarnation = incarnation
        self._ask = ask
        self._on_time = on_time
        self._info = info
        self._is_leaving = False
        self.last_beat = time.monotonic()
        """When the store has answered the last life sign."""

    async def join(self) -> None:
        """Becomes a member, once, before batches are sent. Raises StoreError."""
        requests = [membership.join(self._incarnation), membership.beat(self._incarnation)]
        before = time.monotonic()
        joined, beat = await self._store.call(requests, function="free")
        for reply in (joined, beat):
            if isinstance(reply, ItemError):
                raise reply
        self._note_time(beat, before)

    async def beat(self) -> None:
        """One life sign; waits while Redis is away. Raises StoreError."""
        before = time.monotonic()
        self._note_time(await self._ask(membership.beat(self._incarnation, self._info())), before)

    async def run_beside(self) -> None:
        """Beats while there are no batches yet, until cancelled. Raises NodeGone."""
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            try:
                await self._store.call([membership.beat(self._incarnation)], function="free")
            except (StoreUnavailable, RedisFull) as error:
                logger.debug("no life sign: %s", error)

    async def leave(self) -> None:
        """Takes the row away: nobody needs to wait until it looks dead. Waits while Redis is away."""
        self._is_leaving = True
        try:
            # With the batches, behind the last beat: one that came later would be refused, as of a dead node.
            await self._ask(membership.leave(self._incarnation))
        except (ItemError, RedisFull) as error:
            logger.warning(
                "could not leave: the others will find this node dead", extra={"error": str(error)}
            )

    async def run(self) -> None:
        """Beats until the node leaves. While Redis is away nothing ticks, so a missed beat harms nobody."""
        async with anyio.create_task_group() as tasks:
            if self._store.is_cluster:
                tasks.start_soon(self._run_while_held)
            await self._run()
            tasks.cancel_scope.cancel()

    async def _run_while_held(self) -> None:
        """A primary of a Redis Cluster that is away holds the batches of this node; those of a node that has
        nothing to do with it go on, and the tick with them, if its own primary is there."""
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            if time.monotonic() - self.last_beat < _HELD_SECONDS or self._is_leaving:
                continue
            try:
                await self._store.call([membership.beat(self._incarnation)], function="free")
            except (StoreUnavailable, RedisFull) as error:
                logger.debug("no life sign: %s", error)

    async def _run(self) -> None:
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            if self._is_leaving:
                return
            try:
                await self.beat()
            except (ItemError, RedisFull) as error:
                logger.error("no life sign: %s", error)

    def _note_time(self, reply: Reply, before: float) -> None:
        self.last_beat = after = time.monotonic()
        if after - before < _SLOW_SECONDS:  # else nobody knows when in between the clock was read
            middle_ms = int((before + after) * 500)
            self._on_time(membership.parse_beat(reply).time_ms - middle_ms)
