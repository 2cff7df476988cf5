"""What a node does when another primary has come: after a fail-over, or a restart of Redis.

The other one may lack the newest writes: of this node's row, its inbox, what its clients want, their
sessions. So before anything else is sent, the node becomes a member again and says what it holds; that
counts more than what is found there. It begins with the question on which primary the lane has arrived, as
side connections, or other nodes, may have met that one before; and it starts over if yet another one comes
meanwhile. Nothing of it does harm when it is done twice, or where nothing was lost."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cluster.inbox import Inbox
from cluster.store import inboxes, membership, primaries
from cluster.store.call import Call, Request, Slot
from cluster.store.errors import ItemError, StoreError
from cluster.store.lane import Ask
from cluster.store.primaries import Primaries

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Renewed:
    """What came of it. Sessions: as they were (`kept`), made again as they were missing, lost to another
    node, given back as their connections have ended. `settled`: entries of queues that clients had
    acknowledged and that were there again; `differing`: QoS 2 exchanges in another state; `missing`:
    entries in flight that are not there any more, and gone if their client does not acknowledge them over
    this connection."""

    kept: int = 0
    made_again: int = 0
    lost: int = 0
    given_back: int = 0
    settled: int = 0
    differing: int = 0
    missing: int = 0


Reclaim: TypeAlias = Callable[[Ask, Sequence[Slot]], Awaitable[Renewed]]
"""Says for the slots that another primary serves what the clients connected here have."""


class Renewal:
    """`known`: the primaries at start. `on_another_primary` are told first, before anything is sent again;
    they must not wait. `on_renewed` is told when it is done."""

    def __init__(
        self,
        incarnation: str,
        known: Primaries,
        inbox: Inbox,
        reclaim: Reclaim,
        on_renewed: Callable[[Renewed], None],
    ) -> None:
        self._incarnation = incarnation
        self._known = dict(known)
        self._inbox = inbox
        self._reclaim = reclaim
        self._on_renewed = on_renewed
        self.on_another_primary: list[Callable[[], None]] = []

    async def __call__(self, ask: Ask) -> None:
        """To be called before anything else on a new connection of the lane. Raises NodeGone if this node
        is dead to the others, StoreUnavailable if Redis is away."""
        found = primaries.parse_adopt(await self._ask(ask, primaries.adopt(self._known)))
        slots = primaries.changed(self._known, found)
        if not slots:
            self._known = found
            return
        started = time.monotonic()
        logger.warning(
            "another primary has come: this node says again what it has", extra={"slots": len(slots)}
        )
        for listener in self.on_another_primary:
            listener()
        await self._join(ask)
        renewed = await self._reclaim(ask, slots)
        self._known = found
        self._on_renewed(renewed)
        logger.warning(
            "this node has renewed itself on another primary",
            extra={
                "seconds": round(time.monotonic() - started, 3),
                "sessions_kept": renewed.kept,
                "sessions_made_again": renewed.made_again,
                "sessions_lost": renewed.lost,
                "sessions_given_back": renewed.given_back,
                "entries_settled": renewed.settled,
                "exchanges_differing": renewed.differing,
                "entries_missing": renewed.missing,
            },
        )

    async def _join(self, ask: Ask) -> None:
        requests = [
            membership.join(self._incarnation),
            membership.beat(self._incarnation),
            inboxes.open_inbox(self._incarnation),
        ]
        _, beat, _ = await self._ask(ask, requests)
        self._inbox.renew(membership.parse_beat(beat).time_ms)

    async def _ask(self, ask: Ask, requests: Sequence[Request]) -> list[object]:
        (replies,) = await ask([Call("free", list(requests))])
        if isinstance(replies, StoreError):
            raise replies
        for reply in replies:
            if isinstance(reply, ItemError):
                raise reply
        return replies
