"""The lane to a Redis Cluster: one connection to each primary, one batch in flight.

Theory of operation. A batch is taken apart (`splitting`), and each of its rounds is one write to each
primary that has a part in it; all of their answers are awaited together. What was answered is not sent
again, unless another primary has come, which may lack it. What was not, as a primary is away or a slot is on
its way, is sent again until it is: the batch, and all behind it, waits for that. As with one server the batch
may be revised first, whenever a connection was lost or the lane has waited.

A slot that has moved is looked for where it is now. One that is being moved is *never* followed by ASK: a
call touches keys that it does not name, so the new primary would not find what is still with the old one.
Each call begins by looking for a key that is not there (the tombstone, in lua/dispatch.lua), and in a slot
that is being moved Redis refuses such a look. So it is refused before it has changed anything, for as long
as that takes.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from cluster.store.call import Call, CallEncoder, Slot, pack_command
from cluster.store.connection import Connection
from cluster.store.errors import (
    LibraryMissing,
    RedisFull,
    SlotMoved,
    SlotMoving,
    StoreError,
    StoreStartError,
    StoreUnavailable,
)
from cluster.store.identity import Identities, Identity
from cluster.store.lane import CallReplies, Exchange, Revise, version_of
from cluster.store.outage import Outage, StatusListener
from cluster.store.rounds import Batch, batches_of, gravest, take_answers
from cluster.store.slots import Address
from cluster.store.splitting import ROUNDS, Plan
from cluster.store.topology import Topology

_REPEATS: Final = 16
"""So often an exchange follows a slot, or loads a library, without a pause."""
_MOVING_SECONDS: Final = 1.0
"""A slot that is on its way for so long is worth a word in the log."""

logger = logging.getLogger(__name__)


class ShardedLane:
    """In place of a `Lane`. `connect` opens a connection to a primary that is ready for calls."""

    def __init__(
        self,
        encoder: CallEncoder,
        version_key: str,
        topology: Topology,
        connect: Callable[[Address], Awaitable[Connection]],
        load_library: Callable[[Connection], Awaitable[None]],
        on_status: StatusListener,
    ) -> None:
        self._encoder = encoder
        self._get_version = pack_command("GET", version_key)
        self._topology = topology
        self._connect = connect
        self._load_library = load_library
        self._outage = Outage(on_status)
        self._connections: dict[Address, Connection] = {}
        self._is_busy = False
        self._is_doubtful = False  # whether something was lost since the last batch was revised
        self._seen = -1  # generation of the topology that may be wrong: to be asked for again
        self._pruned = -1  # generation that the connections are of
        self._identities = Identities()
        self._identified = -1  # generation that they are of, while no other connection has been opened

    def __repr__(self) -> str:
        return f"<ShardedLane {list(self._connections.values())}, away since {self.away_since}>"

    @property
    def away_since(self) -> float | None:
        """When all primaries were last known to answer, by time.monotonic(); None unless one is away now."""
        return self._outage.since

    @property
    def identity(self) -> Identities:
        """Of those that have answered last, or are about to; another object if a slot has another one."""
        topology = self._topology
        if self._identified != topology.generation:
            self._identified = topology.generation
            with suppress(StoreUnavailable):  # nobody has one of the slots, so nobody answers
                self._identities = self._identities.joined(self._found(topology.served()))
        return self._identities

    def _found(self, served: Mapping[Address, Sequence[Slot]]) -> dict[Slot, Identity]:
        """Who is at the other end of the connections, for each slot that can be asked for now."""
        found: dict[Slot, Identity] = {}
        for address, slots in served.items():
            connection = self._connections.get(address)
            if connection is not None and connection.identity is not None:
                found.update(dict.fromkeys(slots, connection.identity))
        return found

    def drop(self, reason: str) -> None:
        """The next exchange looks for the primaries again."""
        for connection in self._connections.values():
            connection.abort(reason)

    async def exchange(
        self, calls: Sequence[Call], read_version: bool = False, revise: Revise | None = None
    ) -> Exchange:
        """As `Lane.exchange`; and a call that some primaries had no room for has a `PartlyRefused` in place
        of its replies."""
        if not (calls or read_version):
            return Exchange([], None)
        if self._is_busy:
            raise RuntimeError("one exchange at a time")
        self._is_busy = True
        try:
            return await self._exchange(calls, read_version, revise)
        finally:
            self._is_busy = False

    async def aclose(self) -> None:
        """Closes the connections."""
        for connection in self._connections.values():
            await connection.aclose()

    async def _exchange(self, calls: Sequence[Call], read_version: bool, revise: Revise | None) -> Exchange:
        """Asks until everything has been answered with something that is no passing trouble."""
        plan = Plan(calls)
        primaries = self.identity
        began = time.monotonic()
        repeats = 0
        while True:
            started = time.monotonic()
            try:
                await self._look_around()
                if self._is_doubtful and revise is not None:
                    calls = await revise(self._ask_once)
                    if primaries is self.identity:
                        plan.revise(calls)
                    else:  # one may lack what another one has answered
                        primaries = self.identity
                        plan = Plan(calls)
                    self._is_doubtful = False
                version = await self._attempt(plan, read_version)
            except (SlotMoved, LibraryMissing) as error:
                repeats += 1
                if repeats > _REPEATS:
                    await self._wait_out(error, started)
                continue
            except SlotMoving as error:
                self._is_doubtful = True
                if time.monotonic() - began < _MOVING_SECONDS:
                    await self._outage.pause()
                else:
                    await self._wait_out(error, started)
                continue
            except (StoreUnavailable, StoreStartError, RedisFull) as error:  # full: no room for the library
                await self._wait_out(error, started)
                continue
            self._outage.end()
            return Exchange(plan.replies(), version)

    async def _wait_out(self, trouble: StoreError, started: float) -> None:
        self._is_doubtful = True
        self._seen = self._topology.generation  # may be wrong
        self._outage.note(trouble, started)
        await self._outage.pause()

    async def _look_around(self) -> None:
        """Forgets connections that were lost while nothing was asked, and closes those to servers that are no
        primaries any more. Raises StoreError."""
        topology = self._topology
        if any(each.is_closed for each in self._connections.values()):
            self._is_doubtful = True
            self._seen = topology.generation
        if self._seen == topology.generation:
            await topology.refresh(self._seen)
        if self._pruned != topology.generation or self._is_doubtful:
            self._pruned = topology.generation
            primaries = set(topology.primaries)
            for address, connection in list(self._connections.items()):
                if address not in primaries or connection.is_closed:
                    connection.abort("no primary any more")
                    del self._connections[address]
                    self._is_doubtful = True

    async def _ask_once(self, calls: Sequence[Call]) -> list[CallReplies]:
        """For who revises a batch: raises what stands between us and the answers."""
        plan = Plan(calls)
        await self._attempt(plan, False)
        return plan.replies()

    async def _attempt(self, plan: Plan, read_version: bool) -> str | None:
        """The rounds of a batch. Raises the first trouble; what was answered is in the plan."""
        plan.begin()
        version: str | None = None
        for number in ROUNDS:
            pieces = plan.pieces(number)
            wants_version = read_version and plan.version_round == number
            if pieces or wants_version:
                get_version = self._get_version if wants_version else b""
                batches = batches_of(pieces, self._topology, self._encoder, get_version)
                await self._connect_to(batches)
                answer = await self._round(plan, batches)
                if wants_version:
                    version = version_of(answer)
        return version

    async def _connect_to(self, batches: Sequence[Batch]) -> None:
        """Opens what is not open yet. Raises StoreError."""
        for batch in batches:
            if batch.address not in self._connections:
                self._connections[batch.address] = await self._connect(batch.address)
                self._identified = -1

    async def _round(self, plan: Plan, batches: Sequence[Batch]) -> object:
        """One write to each, then all answers; that of the version is returned."""
        troubles: list[StoreError] = []
        waiters: list[asyncio.Future[list[object]] | None] = []
        try:
            for batch in batches:
                connection = self._connections[batch.address]
                try:
                    waiters.append(connection.begin(b"".join(batch.parts), batch.count))
                except StoreUnavailable as error:  # lost since it was looked at
                    waiters.append(None)
                    troubles.append(error)
            for batch, waiter in zip(batches, waiters, strict=True):
                if waiter is not None:
                    try:
                        batch.answers = await waiter
                    except StoreUnavailable as error:
                        troubles.append(error)
        finally:
            self._end(batches, waiters)
        version: object = None
        found: list[tuple[StoreError, Batch]] = []
        for batch in batches:
            if batch.answers:
                found += [(each, batch) for each in take_answers(plan, batch)]
                if batch.wants_version:
                    version = batch.answers[-1]
        for trouble, batch in found:
            await self._heed(trouble, batch)
            troubles.append(trouble)
        if troubles:
            raise gravest(troubles)
        return version

    def _end(self, batches: Sequence[Batch], waiters: Sequence[asyncio.Future[list[object]] | None]) -> None:
        """However the round went: who has not answered is left."""
        for batch, waiter in zip(batches, waiters, strict=False):
            if waiter is not None:
                self._connections[batch.address].end()
                if waiter.done() and not waiter.cancelled():
                    waiter.exception()  # asyncio complains of one that nobody has looked at

    async def _heed(self, trouble: StoreError, batch: Batch) -> None:
        """Does what can be done about it at once. A server that is no use any more is left."""
        connection = self._connections[batch.address]
        if isinstance(trouble, SlotMoved):
            await self._topology.note_moved(trouble, batch.address)
        elif isinstance(trouble, LibraryMissing):
            logger.warning("%s has lost the function library: loading ours", connection.address)
            await self._load_library(connection)
        elif not isinstance(trouble, SlotMoving):
            connection.abort(str(trouble))
