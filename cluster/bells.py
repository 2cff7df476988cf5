"""The bells of this node: which of its sessions have something that nobody may have told it of.

Whoever appends to a queue, or takes a session, rings the owner's bell in the same call. What follows by the
inbox is faster, but may be lost with the node that wrote it; so each node looks at its bells once a second.
"""

import logging
from collections.abc import Callable
from typing import Final

import anyio

from cluster.store import inboxes
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError, RedisFull, StoreUnavailable
from cluster.store.inboxes import Rung
from cluster.store.keys import BUCKETS
from cluster.store.store import Store

INTERVAL_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Bells:
    """`on_rung` is told of clients with new entries and the last number given in the queue, `on_kicked` of
    clients and the epoch that is over; neither may wait."""

    def __init__(
        self,
        store: Store,
        incarnation: str,
        on_rung: Callable[[str, int], None],
        on_kicked: Callable[[str, int], None],
    ) -> None:
        self._store = store
        self._incarnation = incarnation
        self._on_rung = on_rung
        self._on_kicked = on_kicked
        self._seen: set[int] = set()  # buckets whose last answer has been handled

    async def run(self) -> None:
        """Looks until cancelled. Raises NodeGone if this node has been declared dead."""
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            try:
                self.take(await self._store.call(self.requests(), function="free"))
            except (StoreUnavailable, RedisFull) as error:
                logger.debug("bells wait: %s", error)

    def requests(self) -> list[Request]:
        """What asks for all bells; `take` gets the answers."""
        return [
            inboxes.take_bell(bucket, self._incarnation, bucket in self._seen) for bucket in range(BUCKETS)
        ]

    def take(self, replies: list[Reply]) -> None:
        """The answers to `requests`."""
        self._seen.clear()
        for bucket, reply in enumerate(replies):
            if isinstance(reply, ItemError):
                logger.error("bell of bucket %d: %s", bucket, reply)
                continue
            self._handle(inboxes.parse_bell(reply))
            self._seen.add(bucket)

    def _handle(self, rung: Rung) -> None:
        for client_id, epoch in rung.kicked:
            self._on_kicked(client_id, epoch)
        for client_id, n in rung.sessions:
            self._on_rung(client_id, n)
