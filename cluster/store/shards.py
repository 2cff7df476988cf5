"""What is no batch of the lane, on a Redis Cluster: side connections to each primary.

A command goes to the primary of its key, else to that of {m}. A call is taken apart as a batch is
(`splitting`). Who asks is told after a while that Redis is away, as with one server, and asks again later;
only a slot that has moved is followed at once, and one that is being moved is waited for a little.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import anyio

from cluster.store import keys
from cluster.store.access import Access
from cluster.store.aside import SideConnections
from cluster.store.call import Call, CallEncoder, Reply, Slot, pack_command
from cluster.store.connection import Connection
from cluster.store.endpoint import Endpoint
from cluster.store.errors import (
    LibraryMissing,
    RedisFull,
    SlotMoved,
    SlotMoving,
    StoreError,
    StoreUnavailable,
)
from cluster.store.finder import Fixed, Leave
from cluster.store.keys import META_SLOT
from cluster.store.lane import PartlyRefused
from cluster.store.outage import backoff_seconds
from cluster.store.rounds import Batch, batches_of, gravest, take_answers
from cluster.store.server import ServerInfo, ensure_library
from cluster.store.slots import Address, hash_slot
from cluster.store.splitting import ROUNDS, Plan
from cluster.store.topology import Topology
from cluster.store.witness import Seat

_ATTEMPTS: Final = 8
_CONNECT_LOOK_SECONDS: Final = 1.0
_MOVING_PAUSES: Final = 4  # about a second

logger = logging.getLogger(__name__)


class PrimaryOf:
    """Finds whoever serves a slot now (`Finder`); `number` is what Redis Cluster has for it."""

    def __init__(self, topology: Topology, number: int) -> None:
        self._topology = topology
        self._number = number

    def __str__(self) -> str:
        return str(self._topology)

    async def primary(self) -> Endpoint:
        """See Finder."""
        await self._topology.look(_CONNECT_LOOK_SECONDS)  # perhaps the last one has just been lost
        return self._topology.endpoint_of(self._topology.primary_of_hash_slot(self._number))

    async def watch(self, leave: Leave) -> None:
        """See Finder. Nobody tells; a primary that is replaced refuses what it is asked."""

    def close(self) -> None:
        """See Finder."""


class Shards:
    """The side connections of one process. `access` says how each primary is reached."""

    def __init__(self, access: Access, topology: Topology, encoder: CallEncoder) -> None:
        self._access = access
        self._topology = topology
        self._encoder = encoder
        self._pools: dict[Address, SideConnections] = {}
        self._seats: Sequence[Seat] = ()
        self._seated = -1  # generation of the topology that they are of

    def access_to(self, slot: Slot) -> Access:
        """To the primary of a slot, as it is when somebody connects."""
        return self._access.to(PrimaryOf(self._topology, hash_slot(f"{{{slot}}}")))

    def access_for(self, key: str) -> Access:
        """To the primary of a key."""
        return self._access.to(PrimaryOf(self._topology, hash_slot(key)))

    def home_of(self, key: str) -> Address:
        """Who has a key now. Raises StoreUnavailable."""
        return self._topology.primary_of_key(key)

    async def prepare(self) -> ServerInfo:
        """What is done once, at start, at each primary that has one of our slots; what the one of {m} is.
        Raises StoreUnavailable, StoreStartError."""
        found: list[ServerInfo] = []
        for address, slot in self._topology.homes().items():
            access = self.access_at(address)
            connection, server = await access.connect_and_tell()
            try:
                await access.prepare(connection, slot)
            finally:
                await connection.aclose()
            for warning in server.warnings():
                logger.warning("%s:%d: %s", *address, warning)
            found.append(server)
        return found[0]

    async def connect_ready(self, address: Address) -> Connection:
        """For the lane: to a primary that has the library, as one that has just joined may not."""
        access = self.access_at(address)
        connection = await access.connect()
        try:
            await access.load_library(connection)
        except BaseException:
            connection.abort("refused")
            raise
        return connection

    def access_at(self, address: Address) -> Access:
        """To this primary."""
        return self._access.to(Fixed(self._topology.endpoint_of(address)))

    def seats(self) -> Sequence[Seat]:
        """All primaries that have any of our slots, as far as is known. Raises StoreUnavailable if nobody has
        one of them."""
        if self._seated != self._topology.generation:
            served = self._topology.served()
            self._seated = self._topology.generation
            self._seats = [self._seat(address, slots) for address, slots in served.items()]
        return self._seats

    def _seat(self, address: Address, slots: Sequence[Slot]) -> Seat:
        nobody = self._access.client_name  # no incarnation is called so
        absent = tuple(keys.tombstone(self._access.prefix, slot, nobody) for slot in slots)
        return Seat(f"{address[0]}:{address[1]}", tuple(slots), absent, self.access_at(address).connect)

    async def look_again(self, trouble: StoreError) -> None:
        """One of the seats may be taken by somebody else."""
        with suppress(StoreError):
            if isinstance(trouble, SlotMoved):
                await self._topology.refresh(self._topology.generation)
            elif not isinstance(trouble, SlotMoving):
                await self._topology.look(_CONNECT_LOOK_SECONDS)

    def renew(self) -> None:
        """Another primary has come: nobody is asked on a connection that leads to the one before."""
        for pool in self._pools.values():
            pool.renew()

    async def aclose(self) -> None:
        """Closes all connections; who asks is told."""
        for pool in self._pools.values():
            await pool.aclose()

    async def ask_one(self, *arguments: str | bytes | int) -> object:
        """Sends one command and returns its reply; raises the StoreError that it is."""
        key = arguments[1] if len(arguments) > 1 and "{" in str(arguments[1]) else None
        (reply,) = await self._ask_at(None if key is None else str(key), pack_command(*arguments), 1)
        if isinstance(reply, StoreError):
            raise reply
        return reply

    async def ask(self, commands: bytes, count: int) -> list[object]:
        """Commands whose keys are in {m}; as `SideConnections.ask`."""
        return await self._ask_at(None, commands, count)

    async def ask_for(self, keys: Sequence[str], commands: Sequence[bytes]) -> list[object]:
        """A command for each key, and their replies; of those that have moved, StoreUnavailable."""
        places: dict[Address, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(self._topology.primary_of_key(key), []).append(place)
        replies: list[object] = [None] * len(keys)
        for address, theirs in places.items():
            answers = await self._at(address).ask(b"".join(commands[each] for each in theirs), len(theirs))
            for place, answer in zip(theirs, answers, strict=True):
                replies[place] = answer
        return replies

    async def ask_each(self, *arguments: str | bytes | int) -> list[object]:
        """Sends one command to each primary. Raises the first StoreError."""
        return [await self._at(address).ask_one(*arguments) for address in await self.primaries()]

    async def primaries(self) -> Sequence[Address]:
        """All there are now. Raises StoreUnavailable."""
        await self._topology.look()
        return tuple(self._topology.primaries)

    async def call(self, call: Call) -> list[Reply]:
        """Requests of any slots, as `Store.call`."""
        plan = Plan([call])
        failures = 0
        for _ in range(_ATTEMPTS):
            try:
                await self._attempt(plan)
                break
            except (SlotMoved, LibraryMissing):
                continue
            except SlotMoving:
                if failures == _MOVING_PAUSES:
                    raise
                failures += 1
                await anyio.sleep(backoff_seconds(failures + 1, 1.0))
        else:
            raise StoreUnavailable(f"{self._topology}: slots move all the time")
        (replies,) = plan.replies()
        if isinstance(replies, PartlyRefused):
            raise next(reply for reply in replies if isinstance(reply, RedisFull))
        if isinstance(replies, StoreError):
            raise replies
        return replies

    async def _attempt(self, plan: Plan) -> None:
        plan.begin()
        for number in ROUNDS:
            batches = batches_of(plan.pieces(number), self._topology, self._encoder)
            troubles: list[StoreError] = []
            if len(batches) == 1:
                await self._ask_batch(batches[0], troubles)
            elif batches:
                async with anyio.create_task_group() as tasks:
                    for batch in batches:
                        tasks.start_soon(self._ask_batch, batch, troubles)
            found = [
                (each, batch) for batch in batches if batch.answers for each in take_answers(plan, batch)
            ]
            for trouble, batch in found:
                await self._heed(trouble, batch.address)
                troubles.append(trouble)
            if troubles:
                raise gravest(troubles)

    async def _ask_batch(self, batch: Batch, troubles: list[StoreError]) -> None:
        try:
            batch.answers = await self._at(batch.address).ask(b"".join(batch.parts), batch.count)
        except StoreError as error:
            await self._look_again()
            troubles.append(error)

    async def _ask_at(self, key: str | None, commands: bytes, count: int) -> list[object]:
        """Follows a slot that has moved."""
        for attempt in range(_ATTEMPTS):
            topology = self._topology
            address = topology.primary_of(META_SLOT) if key is None else topology.primary_of_key(key)
            try:
                replies = await self._at(address).ask(commands, count)
            except StoreUnavailable:
                await self._look_again()
                raise
            moved = next((reply for reply in replies if isinstance(reply, SlotMoved | SlotMoving)), None)
            if moved is None:
                return replies
            await self._heed(moved, address)
            if isinstance(moved, SlotMoving):
                await anyio.sleep(backoff_seconds(attempt + 1, 1.0))
        raise StoreUnavailable(f"{self._topology}: a slot moves all the time")

    async def _heed(self, trouble: StoreError, address: Address) -> None:
        if isinstance(trouble, SlotMoved):
            await self._topology.note_moved(trouble, address)
        elif isinstance(trouble, LibraryMissing):
            await ensure_library(self._at(address).ask_one, str(self._topology), self._access.library)
        elif not isinstance(trouble, SlotMoving):
            await self._look_again()

    async def _look_again(self) -> None:
        """Somebody was away: perhaps another one serves its slots by now."""
        with suppress(StoreError):
            await self._topology.refresh(self._topology.generation)

    def _at(self, address: Address) -> SideConnections:
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = SideConnections(self.access_at(address))
        return pool
