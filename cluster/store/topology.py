"""Which primary of a Redis Cluster serves a slot now, by what the nodes of the Cluster say.

Theory of operation. Any node may be asked; the first one that answers counts until somebody finds that it
was wrong: a MOVED names the node that knows better, a lost connection begins another round. Each round
begins with another node, so one that is cut off from the others, and does not know it yet, is not believed
for ever. All nodes that were ever named in the last answer may be asked, and the seeds of the URL, which
may be one name that leads to any of them.

One object for all that a process has open: who finds that a view is old says which one it had.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

import anyio

from cluster.store.call import Slot
from cluster.store.connection import Connection
from cluster.store.endpoint import Endpoint
from cluster.store.errors import CallFailed, SlotMoved, StoreError, StoreUnavailable
from cluster.store.keys import BUCKETS, META_SLOT
from cluster.store.server import check_server
from cluster.store.slots import Address, View, hash_slot, moved_to, parse_slots

_ASKED_AT_A_TIME: Final = 4
_LOOK_SECONDS: Final = 30.0

logger = logging.getLogger(__name__)


class Topology:
    """Of the Cluster behind an endpoint of `redis+cluster://`. `connect` opens a connection to one node."""

    def __init__(self, endpoint: Endpoint, connect: Callable[[Endpoint], Awaitable[Connection]]) -> None:
        self._endpoint = endpoint
        self._connect = connect
        self._seeds: tuple[Address, ...] = endpoint.seeds
        self._view = View((), ())
        self._by_slot: dict[int, Address] = {}
        self._lock = anyio.Lock()
        self._next = 0
        self._looked = 0.0
        self.generation = 0
        """Grows with each answer, and each MOVED."""

    def __repr__(self) -> str:
        return f"<Topology {self._endpoint}: {self._view.primaries}>"

    @property
    def primaries(self) -> list[Address]:
        """Of all slots; none before the first `refresh`."""
        return list(dict.fromkeys(self._by_slot.values()))

    def homes(self) -> dict[Address, Slot]:
        """The primaries that have any of our slots, and one of each: {m} for that which has it. Raises
        StoreUnavailable."""
        return {address: slots[0] for address, slots in self.served().items()}

    def served(self) -> dict[Address, list[Slot]]:
        """The primaries that have any of our slots, and which. Raises StoreUnavailable if one has none."""
        served: dict[Address, list[Slot]] = {}
        for slot in (META_SLOT, *range(BUCKETS)):
            served.setdefault(self.primary_of(slot), []).append(slot)
        return served

    def endpoint_of(self, address: Address) -> Endpoint:
        """How that node is reached."""
        host, port = address
        return replace(self._endpoint, host=host, port=port, seeds=())

    def primary_of(self, slot: Slot) -> Address:
        """Who serves one of our slots. Raises StoreUnavailable if nobody does."""
        return self.primary_of_hash_slot(_hash_slot_of(slot))

    def primary_of_key(self, key: str) -> Address:
        """The same for a key."""
        return self.primary_of_hash_slot(hash_slot(key))

    def primary_of_hash_slot(self, number: int) -> Address:
        """The same for the number that Redis Cluster has for it."""
        address = self._by_slot.get(number)
        if address is None:
            raise StoreUnavailable(f"{self._endpoint}: no primary serves slot {number}")
        return address

    async def look(self, seconds: float = _LOOK_SECONDS) -> None:
        """Asks again if it is longer ago: so nodes which have come since are known when others go."""
        if time.monotonic() - self._looked >= seconds:
            await self.refresh(self.generation)

    async def note_moved(self, error: SlotMoved, asked: Address) -> None:
        """A server says that another one has the slot: believes it, and asks that one for the rest. Raises
        StoreError."""
        found = moved_to(str(error), asked)
        if found is None:
            raise StoreUnavailable(f"{asked[0]}:{asked[1]}: {error}")
        slot, address = found
        if self._by_slot.get(slot) == address:  # somebody was faster
            return
        self._by_slot[slot] = address
        self.generation += 1
        await self.refresh(self.generation, address)

    async def refresh(self, had: int, first: Address | None = None) -> None:
        """Asks who serves what, unless somebody has since the generation `had`. Raises StoreError if nobody
        could be asked."""
        async with self._lock:
            if self.generation != had:
                return
            trouble: StoreError | None = None
            for address in self._candidates(first):
                try:
                    view = await self._ask(address)
                except StoreUnavailable as error:
                    trouble = error
                    continue
                self._view = view
                self._by_slot = dict(view.by_slot())
                self._looked = time.monotonic()
                self.generation += 1
                return
            raise trouble or StoreUnavailable(f"{self._endpoint}: no node of the Cluster is known")

    def _candidates(self, first: Address | None) -> Sequence[Address]:
        """Whom to ask now: some, beginning with another one each time."""
        known = sorted({*self._view.nodes, *self._seeds})
        start = self._next % len(known)
        self._next += 1
        order = known[start:] + known[:start]
        if first is not None:
            order = [first, *(address for address in order if address != first)]
        return order[:_ASKED_AT_A_TIME]

    async def _ask(self, address: Address) -> View:
        connection = await self._connect(self.endpoint_of(address))
        try:
            reply = await connection.ask_one("CLUSTER", "SLOTS")
        except CallFailed as error:
            if "cluster support disabled" in str(error):
                await check_server(connection, in_cluster=True)  # says so
            raise StoreUnavailable(f"{connection.address}: {error}") from error
        finally:
            await connection.aclose()
        view = parse_slots(reply, address)
        if not view.ranges:
            raise StoreUnavailable(f"{connection.address}: serves no slots, and knows nobody who does")
        return view


@lru_cache(maxsize=4096)
def _hash_slot_of(slot: Slot) -> int:
    return hash_slot(f"{{{slot}}}")
