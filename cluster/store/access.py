"""The one way to the primary: lane, side connections, channels and callers' own connections all come here.

Each new connection asks the finder where the primary is, introduces itself there with the credentials of the
moment, and makes sure that it is a server that may be used now, before anybody gets it. When another server
is the primary, all connections to the old one end, also those that are just being made.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio

from cluster.store import keys
from cluster.store.call import Call, CallEncoder, Reply, Request, Slot, pack_command, unpack_replies
from cluster.store.connection import Connection, open_connection, open_connection_of
from cluster.store.endpoint import Endpoint
from cluster.store.errors import (
    CallFailed,
    ItemError,
    LibraryMissing,
    RedisFull,
    SlotMoved,
    SlotMoving,
    StoreError,
    StoreUnavailable,
)
from cluster.store.finder import Finder
from cluster.store.primaries import SLOTS, Primary, adopt, parse_adopt
from cluster.store.rights import check_rights
from cluster.store.server import Library, ServerInfo, check_schema, check_server, ensure_library

C = TypeVar("C", bound=Connection)

logger = logging.getLogger(__name__)


class Access:
    """How the server is reached, and what it must have before we use it."""

    def __init__(
        self,
        finder: Finder,
        incarnation: str,
        library: Library,
        prefix: str,
        connect_timeout_seconds: float,
        exchange_timeout_seconds: float,
        in_cluster: bool = False,
        met: dict[Slot, Primary] | None = None,
    ) -> None:
        self.finder = finder
        self.incarnation = incarnation
        self.client_name = f"moorline-{incarnation}"
        self.library = library
        self.prefix = prefix
        self.connect_timeout_seconds = connect_timeout_seconds
        self.exchange_timeout_seconds = exchange_timeout_seconds
        self.in_cluster = in_cluster
        """Whether the server has to be part of a Redis Cluster."""
        self.met: dict[Slot, Primary] = {} if met is None else met
        """The primaries, as the newest connection has found them."""
        self.primary = ""
        """The address of the server that was used last, for people."""
        self.switches = 0
        """How often it was another."""
        self._open: list[Connection] = []
        self._opening: dict[anyio.CancelScope, str] = {}
        self._target = ""
        self._switched = anyio.Event()

    def __str__(self) -> str:
        return str(self.finder)

    def to(self, finder: Finder) -> "Access":
        """The same to another server."""
        return Access(
            finder,
            self.incarnation,
            self.library,
            self.prefix,
            self.connect_timeout_seconds,
            self.exchange_timeout_seconds,
            self.in_cluster,
            self.met,
        )

    async def connect(self) -> Connection:
        """A connection to a server that may be used now. Raises StoreUnavailable, StoreStartError."""
        connection, _ = await self.connect_and_tell()
        try:
            await self._adopt(connection)
        except BaseException:
            connection.abort("not adopted")
            raise
        return connection

    async def connect_and_tell(self) -> tuple[Connection, ServerInfo]:
        """A connection, to be prepared, and what kind of server it leads to."""
        return await self._connect(Connection)

    async def connect_as(self, make: Callable[[str, float], C]) -> C:
        """The same as a connection of another kind, which carries no data."""
        connection, _ = await self._connect(make)
        return connection

    async def open(self, endpoint: Endpoint) -> Connection:
        """To this server, whatever it is."""
        return await open_connection(
            endpoint, self.client_name, self.connect_timeout_seconds, self.exchange_timeout_seconds
        )

    async def load_library(self, connection: Connection) -> None:
        """Loads the library on a server that has lost it, or has an older one."""
        await ensure_library(connection.ask_one, connection.address, self.library)

    async def prepare(self, connection: Connection, slot: Slot = keys.META_SLOT) -> None:
        """What is done once, at start: library and schema; on a Cluster at each primary, which has this slot.
        Raises StoreUnavailable, StoreStartError."""
        try:
            await self._try_rights(slot)
            if slot == keys.META_SLOT:
                await check_schema(connection, keys.schema(self.prefix), self.library)
            await self.load_library(connection)
            await self._adopt(connection)
        except RedisFull as error:
            connection.abort("full")
            raise StoreUnavailable(f"{connection.address}: full, no room to start: {error}") from error
        except BaseException:
            connection.abort("refused")
            raise

    async def watch(self) -> None:
        """Leaves a server that is the primary no longer, until cancelled."""
        await self.finder.watch(self._leave)

    async def pause(self, seconds: float) -> None:
        """Before the next try; ends early when there is another primary."""
        with anyio.move_on_after(seconds):
            await self._switched.wait()

    async def _adopt(self, connection: Connection) -> None:
        """What comes before all else on a connection that carries data (`primaries`)."""
        encoder = CallEncoder(self.prefix, self.incarnation, partial(keys.slot, self.prefix))
        requests: list[Request] = [*adopt(self.met)]
        if self.in_cluster:
            calls = [Call("free", [each], slot=slot) for each, slot in zip(requests, SLOTS, strict=True)]
        else:
            calls = [Call("free", requests)]
        commands = b"".join(pack_command(*encoder.arguments(call)) for call in calls)
        answers = await connection.ask(commands, len(calls))
        try:
            if any(isinstance(answer, LibraryMissing) for answer in answers):
                logger.warning("Redis has lost the function library, or has an older one: loading ours")
                await self.load_library(connection)
                answers = await connection.ask(commands, len(calls))
            if self.in_cluster:
                self._note_adopted(answers)
            else:
                self.met.update(parse_adopt(_replies_of(answers[0], len(requests))))
        except (CallFailed, ItemError, RedisFull) as error:
            raise StoreUnavailable(f"{connection.address}: not adopted: {error}") from error

    def _note_adopted(self, answers: Sequence[object]) -> None:
        """Of a server of a Redis Cluster: it has some of the slots. One that is on its way to it comes with
        all that it had."""
        for slot, answer in zip(SLOTS, answers, strict=True):
            if not isinstance(answer, SlotMoved | SlotMoving):
                self.met.update(parse_adopt(_replies_of(answer, 1), [slot]))

    async def _connect(self, make: Callable[[str, float], C]) -> tuple[C, ServerInfo]:
        endpoint = await self.finder.primary()
        self._leave(endpoint)
        with anyio.CancelScope() as scope:
            self._opening[scope] = str(endpoint)
            try:
                return await self._open_to(endpoint, make)
            finally:
                del self._opening[scope]
        raise StoreUnavailable(f"{endpoint}: is the primary no longer")

    async def _open_to(self, endpoint: Endpoint, make: Callable[[str, float], C]) -> tuple[C, ServerInfo]:
        connection = await open_connection_of(
            make, endpoint, self.client_name, self.connect_timeout_seconds, self.exchange_timeout_seconds
        )
        try:
            server = await check_server(connection, in_cluster=self.in_cluster)
        except BaseException:
            connection.abort("refused")
            raise
        self._open = [*(other for other in self._open if not other.is_closed), connection]
        self._note(connection.address)
        return connection, server

    def _note(self, address: str) -> None:
        if address == self.primary:
            return
        if self.primary:
            self.switches += 1
        self.primary = address

    def _leave(self, primary: Endpoint | None) -> None:
        """Whatever leads to another server than this one; to any, if None."""
        address = str(primary)
        for connection in self._open:
            if connection.address != address:
                connection.abort("is the primary no longer")
        for scope, opening in self._opening.items():
            if opening != address:
                scope.cancel()
        if primary is not None and address != self._target:
            self._target = address
            self._switched.set()
            self._switched = anyio.Event()

    async def _try_rights(self, slot: Slot) -> None:
        """On a connection of its own: it subscribes, too."""
        connection = await self.connect_as(Connection)
        try:
            await check_rights(connection, self.prefix, slot)
        finally:
            await connection.aclose()


def _replies_of(answer: object, count: int) -> list[Reply]:
    """Raises StoreError."""
    if isinstance(answer, StoreError):
        raise answer
    return unpack_replies(answer if isinstance(answer, bytes) else b"", count)
