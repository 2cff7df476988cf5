"""What dead nodes leave behind: their sessions are given back, so that wills fire and sessions expire.

Each node looks once a second for others whose life signs have stopped; each start of a node is another
incarnation, so a node that starts again reaps the one it was before. All nodes may do that at the same time,
and each of them may die doing it: every step may be repeated, and the dead one stays a member until the end.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import anyio

from cluster.store import inboxes, membership
from cluster.store.call import Reply, Request
from cluster.store.deadlines import DueWill, EndedSession
from cluster.store.errors import ItemError, RedisFull, StoreUnavailable
from cluster.store.keys import BUCKETS, META_SLOT
from cluster.store.membership import Reaped
from cluster.store.store import Store

INTERVAL_SECONDS: Final = 1.0
_SESSIONS: Final = 64  # in one call, which carries about a millisecond of work

logger = logging.getLogger(__name__)


class Reaper:
    """Finds dead nodes. `on_wills` and `on_ended` do what has to be done; neither may wait."""

    def __init__(
        self,
        store: Store,
        on_wills: Callable[[Sequence[DueWill]], None],
        on_ended: Callable[[EndedSession], None],
    ) -> None:
        self._store = store
        self._on_wills = on_wills
        self._on_ended = on_ended
        self.reaped = 0
        """Dead nodes whose sessions were given back here."""

    async def run(self) -> None:
        """Looks until cancelled. Raises NodeGone if the others have declared this node dead."""
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            try:
                await self.look()
            except (StoreUnavailable, RedisFull) as error:
                logger.debug("dead nodes wait: %s", error)

    async def look(self) -> None:
        """Reaps every node that is dead now. One that makes trouble does not keep the others waiting."""
        (reply,) = await self._ask([membership.dead_nodes()])
        for incarnation in membership.parse_dead_nodes(reply):
            try:
                await self._reap(incarnation)
            except ItemError as error:
                logger.error("dead node %s can't be reaped: %s", incarnation, error)

    async def _reap(self, incarnation: str) -> None:
        """Raises ItemError if something of the node is left; the next look tries again."""
        (is_dead,) = await self._ask([membership.bury(META_SLOT, incarnation)])
        if not is_dead:
            return
        slots = [*range(BUCKETS), *await self._inbox_slots()]
        await self._ask([membership.bury(slot, incarnation) for slot in slots])
        await self._reap_buckets(incarnation)
        await self._ask([inboxes.close_inbox(incarnation)])
        await self._ask([membership.leave(incarnation)])
        self.reaped += 1
        logger.warning("node %s was dead, its sessions have been given back", incarnation)

    async def _inbox_slots(self) -> list[str]:
        """The slots of all inboxes: a dead node must not write into any, its own one included."""
        (reply,) = await self._ask([membership.members()])
        return [member.incarnation for member in membership.parse_members(reply)]

    async def _reap_buckets(self, incarnation: str) -> None:
        left = list(range(BUCKETS))
        failed: ItemError | None = None
        while left:
            limit = _SESSIONS // len(left)
            requests = [membership.reap(bucket, incarnation, limit) for bucket in left]
            again = []
            for bucket, reply in zip(left, await self._call(requests), strict=True):
                if isinstance(reply, ItemError):
                    failed = reply
                elif self._take(membership.parse_reap(reply)):
                    again.append(bucket)
            left = again
        if failed is not None:
            raise failed

    def _take(self, reaped: Reaped) -> bool:
        """Hands on what was found in a bucket; whether there is more."""
        if reaped.wills:
            self._on_wills(reaped.wills)
        for ended in reaped.ended:
            self._on_ended(ended)
        for client_id, problem in reaped.damaged:
            logger.error("session damaged in the store: %s", problem, extra={"client_id": client_id})
        return reaped.more

    async def _call(self, requests: Sequence[Request]) -> list[Reply]:
        return await self._store.call(requests, function="free")

    async def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        """Raises the first ItemError."""
        replies = await self._call(requests)
        for reply in replies:
            if isinstance(reply, ItemError):
                raise reply
        return replies
