"""What a node asks Redis now and then about itself, the nodes and the queues, for metrics and alarms.

Queues: each node looks at those of some buckets; together the living nodes look at all. It knows the clients
by its subscription index: a queue has entries only where there is a subscription. A page of queues is one
round trip on a connection of its own: 50 us of Redis, half a millisecond of the node. At 4,000 queues a
second a pass takes as long as it takes.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import anyio

from broker.observability.sounding import Soundings
from cluster.heartbeat import Heartbeat
from cluster.store import membership
from cluster.store.connection import Connection
from cluster.store.errors import ItemError, NodeGone, StoreError
from cluster.store.keys import BUCKETS, bucket_of
from cluster.store.membership import Member
from cluster.store.store import Store

INTERVAL_SECONDS: Final = 1.0
PASS_SECONDS: Final = 2.0
PAGE: Final = 200
PAGE_SECONDS: Final = 0.05
NEARLY_FULL: Final = 0.8
"""Of session.queue_limit, or session.queue_bytes."""
_LOOKED_AT_PER_PAGE: Final = 2000

logger = logging.getLogger(__name__)


class Clients(Protocol):
    """Those with persistent sessions, page by page."""

    def clients_on(self, page: int) -> list[str] | None:
        """None behind the last page."""


class Sounder:
    """Of one incarnation. `queue_limit`: entries that a queue may have now; `queue_bytes`: and bytes, 0: any
    number."""

    def __init__(
        self,
        store: Store,
        incarnation: str,
        heartbeat: Heartbeat,
        clients: Clients,
        queue_limit: Callable[[], int],
        queue_bytes: Callable[[], int],
        soundings: Soundings,
    ) -> None:
        self._store = store
        self._incarnation = incarnation
        self._heartbeat = heartbeat
        self._clients = clients
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._soundings = soundings
        self._buckets: frozenset[int] = frozenset()

    async def run(self) -> None:
        """Looks until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_again, self.look, INTERVAL_SECONDS)
            tasks.start_soon(_again, self._follow_queues, PASS_SECONDS)

    def age(self) -> None:
        """How old the last life sign is; needs no Redis."""
        self._soundings.beat_age = time.monotonic() - self._heartbeat.last_beat

    async def look(self) -> None:
        """At the server and at the nodes. Raises StoreError."""
        figures = await self._store.server_figures()
        soundings = self._soundings
        soundings.redis_memory_used = figures.get("used_memory")
        soundings.redis_memory_maximum = figures.get("maxmemory")
        soundings.redis_delayed_fsync = figures.get("aof_delayed_fsync")
        soundings.redis_file_failed = figures.get("aof_failed")
        soundings.redis_replicas = figures.get("connected_slaves")
        soundings.redis_primary = self._store.primary
        soundings.redis_switches = self._store.switches
        (reply,) = await self._store.call([membership.members()], function="free")
        if isinstance(reply, ItemError):
            raise reply
        members = membership.parse_members(reply)
        ages = [member.unseen_ticks for member in members if member.incarnation != self._incarnation]
        soundings.others_beat_age = max(ages, default=None)
        self._buckets = buckets_of(self._incarnation, members)

    async def _follow_queues(self) -> None:
        """Passes until something fails."""
        connection = await self._store.connect()
        try:
            while True:
                await self.look_at_queues(connection)
                await anyio.sleep(PASS_SECONDS)
        finally:
            connection.abort("no more passes")

    async def look_at_queues(self, connection: Connection) -> None:
        """One pass through this node's part. Raises StoreError."""
        entries = nearly_full = page = 0
        fullest, whose = 0.0, ""
        waiting: list[str] = []
        looked_at = 0
        while (found := self._clients.clients_on(page)) is not None or waiting:
            page += 1
            if found is not None:
                waiting += [client_id for client_id in found if bucket_of(client_id) in self._buckets]
                looked_at += len(found)
                if len(waiting) < PAGE and looked_at < _LOOKED_AT_PER_PAGE:
                    continue
            looked_at = 0
            lengths = await self._store.queue_lengths(connection, waiting[:PAGE]) if waiting else []
            entries += sum(lengths)
            for client_id, share in (await self._shares(waiting, lengths)).items():
                nearly_full += share >= NEARLY_FULL
                if share > fullest:
                    fullest, whose = share, client_id
            del waiting[:PAGE]
            if fullest > (self._soundings.queue_fullest or 0.0):
                self._note(fullest, whose)
            await anyio.sleep(PAGE_SECONDS)
        self._note(fullest, whose)
        self._soundings.queue_entries = entries
        self._soundings.queues_nearly_full = nearly_full

    async def _shares(self, client_ids: Sequence[str], lengths: Sequence[int]) -> dict[str, float]:
        """How full those queues are that are not empty, by the limit that is nearer."""
        limit, byte_limit = self._queue_limit(), self._queue_bytes()
        shares = {name: length / limit for name, length in zip(client_ids, lengths, strict=False) if length}
        if byte_limit and shares:
            for name, size in zip(shares, await self._store.queue_sizes(list(shares)), strict=True):
                shares[name] = max(shares[name], size / byte_limit)
        return shares

    def _note(self, share: float, whose: str) -> None:
        self._soundings.queue_fullest = share
        self._soundings.queue_fullest_client = whose


def buckets_of(incarnation: str, members: Sequence[Member]) -> frozenset[int]:
    """This node's part of the buckets, if all living members share them alike."""
    living = sorted({member.incarnation for member in members if member.is_alive} | {incarnation})
    place = living.index(incarnation)
    return frozenset(range(place, BUCKETS, len(living)))


async def _again(look: Callable[[], Awaitable[None]], interval_seconds: float) -> None:
    while True:
        try:
            await look()
        except NodeGone:
            raise
        except StoreError as error:
            logger.debug("soundings wait: %s", error)
        await anyio.sleep(interval_seconds)
