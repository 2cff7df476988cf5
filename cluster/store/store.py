"""The store as a node holds it: the lane for its batches, side connections for everything else."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self, cast

from redis.asyncio import Redis

from cluster.store import keys
from cluster.store.call import Call, CallEncoder, Reply, Request, Slot, pack_command, unpack_replies
from cluster.store.channels import ChannelConnection
from cluster.store.client import new_client, translated_errors
from cluster.store.connection import Connection, open_connection, open_connection_of
from cluster.store.endpoint import Endpoint, ServerFiles, parse_url
from cluster.store.errors import CallFailed, LibraryMissing, RedisFull, StoreError, StoreUnavailable
from cluster.store.keys import META_SLOT
from cluster.store.lane import Lane, StatusListener, version_of
from cluster.store.library import (
    LIBRARY_NAME,
    LIBRARY_REVISION,
    SCHEMA_VERSION,
    function_name,
    library_source,
)
from cluster.store.rights import check_rights
from cluster.store.server import (
    Library,
    ServerInfo,
    check_schema,
    check_server,
    ensure_library,
    info_fields,
)

_ROWS_PER_PAGE: Final = 1000
_BANS_PER_PAGE: Final = 200  # each takes some 10 us of whoever reads them

logger = logging.getLogger(__name__)


def node_library() -> Library:
    """The function library of this release."""
    functions = frozenset(map(function_name, ("write", "free")))
    return Library(LIBRARY_NAME, library_source(), SCHEMA_VERSION, LIBRARY_REVISION, functions)


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """A subscription of a persistent session, from the cluster's rows; `options` is packed (`records`)."""

    client_id: str
    filter: str
    options: bytes
    stamp: int


@dataclass(frozen=True, slots=True)
class Access:
    """How the server is reached, and what it must have before we use it."""

    endpoint: Endpoint
    client_name: str
    library: Library
    prefix: str
    connect_timeout_seconds: float
    exchange_timeout_seconds: float

    async def connect(self) -> Connection:
        """A connection to a server that may be used now. Raises StoreUnavailable, StoreStartError."""
        connection, _ = await self.connect_and_tell()
        return connection

    async def connect_and_tell(self) -> tuple[Connection, ServerInfo]:
        """A connection and what kind of server it leads to."""
        connection = await open_connection(
            self.endpoint, self.client_name, self.connect_timeout_seconds, self.exchange_timeout_seconds
        )
        try:
            return connection, await check_server(connection)
        except BaseException:
            connection.abort("refused")
            raise

    async def load_library(self, connection: Connection) -> None:
        """Loads the library on a server that has lost it, or has an older one."""
        await ensure_library(connection.ask_one, connection.address, self.library)

    async def prepare(self, connection: Connection) -> None:
        """What is done once, at start: library and schema. Raises StoreUnavailable, StoreStartError."""
        try:
            await self._try_rights()
            await check_schema(connection, keys.schema(self.prefix), self.library)
            await self.load_library(connection)
        except RedisFull as error:
            connection.abort("full")
            raise StoreUnavailable(f"{connection.address}: full, no room to start: {error}") from error
        except BaseException:
            connection.abort("refused")
            raise

    async def _try_rights(self) -> None:
        """On a connection of its own: it subscribes, too."""
        connection = await open_connection(
            self.endpoint, self.client_name, self.connect_timeout_seconds, self.exchange_timeout_seconds
        )
        try:
            await check_rights(connection, self.prefix)
        finally:
            await connection.aclose()


class Store:
    """Made by `open_store`; an async context manager that closes it."""

    def __init__(
        self, access: Access, encoder: CallEncoder, prefix: str, client: Redis, lane: Lane, server: ServerInfo
    ) -> None:
        self._access = access
        self._encoder = encoder
        self._prefix = prefix
        self._client = client
        self._address = str(access.endpoint)
        self.lane = lane
        self.server = server
        """As it was at start."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        await self.lane.aclose()
        await self._client.aclose()

    async def call(
        self,
        requests: Sequence[Request],
        *,
        function: str = "write",
        bodies: Sequence[bytes] = (),
        slot: Slot = META_SLOT,
    ) -> list[Reply]:
        """One call beside the lane, for background work. A failed request has an ItemError for its reply.

        Raises StoreUnavailable (whether it was carried out is unknown), RedisFull, CallFailed, NodeGone.
        """
        call = Call(function, list(requests), list(bodies), slot)
        try:
            answer = await self._command(*self._encoder.arguments(call))
        except LibraryMissing:
            await ensure_library(self._command, self._address, self._access.library)
            answer = await self._command(*self._encoder.arguments(call))
        if not isinstance(answer, bytes):
            raise CallFailed("a call answered with no string")
        return unpack_replies(answer, len(requests))

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the server answers."""
        await self._command(b"PING")

    async def info(self) -> dict[str, str]:
        """What the server says of itself now. Raises StoreError."""
        answer = await self._command(b"INFO")
        return info_fields(answer.decode(errors="replace") if isinstance(answer, bytes) else "")

    async def load_subscriptions(self) -> tuple[str, AsyncIterator[dict[bytes, bytes]]]:
        """The version of the change log, and pages of all rows as they are in Redis (`row_of` reads one):
        then follow the log from that version on.

        A row may be in two pages, and one that changes meanwhile may be the old or the new.
        """
        with translated_errors(self._address):
            version = await self._client.get(keys.version(self._prefix))
        return version_of(version), self._rows()

    async def _rows(self) -> AsyncIterator[dict[bytes, bytes]]:
        for shard in range(keys.SUBSCRIPTION_SHARDS):
            async for page in self._hash_pages(keys.subscriptions(self._prefix, shard)):
                yield page

    async def rows_of(self, shard: int) -> AsyncIterator[list[SubscriptionRow]]:
        """Pages of the rows in one shard."""
        async for page in self._hash_pages(keys.subscriptions(self._prefix, shard)):
            yield [row_of(field, value) for field, value in page.items()]

    async def subscriptions_of(self, client_id: str) -> list[SubscriptionRow]:
        """Those that a session has, by itself."""
        found: dict[bytes, bytes] = {}
        async for page in self._hash_pages(keys.session(self._prefix, keys.bucket_of(client_id), client_id)):
            found.update(page)
        rows = []
        for field, value in found.items():
            if field.startswith(b"f:"):
                stamp, _, options = value.partition(b":")
                rows.append(SubscriptionRow(client_id, field[2:].decode(), options, int(stamp)))
        return rows

    async def load_interest(self) -> AsyncIterator[tuple[str, list[str]]]:
        """Node and fields (`<kind>:<filter>`), page by page, of all nodes that are members."""
        with translated_errors(self._address):
            nodes = await self._client.zrange(keys.nodes(self._prefix), 0, -1)
        for node in cast(list[bytes], nodes):
            async for page in self._hash_pages(keys.interest(self._prefix, node.decode())):
                yield node.decode(), [field.decode() for field in page]

    async def ban_version(self) -> int:
        """How often the bans have changed."""
        with translated_errors(self._address):
            version = await self._client.get(keys.ban_version(self._prefix))
        return int(version or 0)

    async def ban_page(self, cursor: int) -> tuple[int, dict[bytes, bytes]]:
        """Some of the bans as they are in Redis (`bans.unpack`), and where to go on; 0 is the beginning, and
        the end. One may be in two pages."""
        with translated_errors(self._address):
            cursor, page = await self._client.hscan(keys.bans(self._prefix), cursor, count=_BANS_PER_PAGE)
        return cursor, cast(dict[bytes, bytes], page)  # nothing is decoded

    async def alarms(self) -> dict[bytes, bytes]:
        """All that are raised, as they are in Redis (`keys.alarms`); some per node at most."""
        found: dict[bytes, bytes] = {}
        async for page in self._hash_pages(keys.alarms(self._prefix)):
            found.update(page)
        return found

    async def put_alarms(self, alarms: Mapping[str, bytes], ttl_seconds: int) -> None:
        """Adds these; all of them go away if nobody adds any for so long."""
        key = keys.alarms(self._prefix)
        pipeline = self._client.pipeline(transaction=False)
        for field, alarm in alarms.items():
            pipeline.hset(key, field, alarm)
        pipeline.pexpire(key, ttl_seconds * 1000)
        with translated_errors(self._address):
            await pipeline.execute()

    async def drop_alarms(self, fields: Sequence[str]) -> None:
        """Takes these away."""
        with translated_errors(self._address):
            await self._client.hdel(keys.alarms(self._prefix), *fields)

    async def time_ms(self) -> int:
        """What time it is there."""
        with translated_errors(self._address):
            seconds, microseconds = await self._client.time()
        return seconds * 1000 + microseconds // 1000

    async def queue_lengths(self, connection: Connection, client_ids: Sequence[str]) -> list[int]:
        """How many entries their queues have, by one round trip on a connection of the caller's own: a fifth
        of the time of the client's pipelines. A key that is no queue has none. Raises StoreError."""
        commands = [
            pack_command(b"XLEN", keys.queue(self._prefix, keys.bucket_of(client_id), client_id))
            for client_id in client_ids
        ]
        replies = await connection.ask(b"".join(commands), len(commands))
        for reply in replies:
            if isinstance(reply, StoreError) and not isinstance(reply, CallFailed):
                raise reply
        return [reply if isinstance(reply, int) else 0 for reply in replies]

    async def server_figures(self) -> dict[str, int]:
        """Numbers of INFO: memory, append-only file, replicas."""
        with translated_errors(self._address):
            info = await self._client.info("memory", "persistence", "replication")
        return {name: value for name, value in info.items() if isinstance(value, int)}

    async def _hash_pages(self, key: str) -> AsyncIterator[dict[bytes, bytes]]:
        """A hash of any size; a field that changes meanwhile may be the old one, the new one, or both."""
        cursor = 0
        while True:
            with translated_errors(self._address):
                cursor, page = await self._client.hscan(key, cursor, count=_ROWS_PER_PAGE)
            yield cast(dict[bytes, bytes], page)  # nothing is decoded, and a hash is what we asked for
            if cursor == 0:
                break

    async def connect(self) -> Connection:
        """A connection of the caller's own, which closes it. Raises StoreUnavailable, StoreStartError."""
        return await self._access.connect()

    async def connect_to_channels(
        self, channels: Sequence[str], on_message: Callable[[bytes, bytes], None]
    ) -> ChannelConnection:
        """A connection that listens to channels and says what comes (channel, payload); it also publishes if
        it listens to none. The caller closes it. Raises StoreUnavailable, StoreStartError."""
        access = self._access
        connection = await open_connection_of(
            ChannelConnection,
            access.endpoint,
            access.client_name,
            access.connect_timeout_seconds,
            access.exchange_timeout_seconds,
        )
        try:
            await connection.listen(channels, on_message)
        except BaseException:
            connection.abort("not listening")
            raise
        return connection

    def pack(self, call: Call) -> bytes:
        """A call as it goes over a connection of one's own."""
        parts: list[bytes] = []
        self._encoder.append_to(parts, call)
        return b"".join(parts)

    @property
    def prefix(self) -> str:
        """Beginning of all keys."""
        return self._prefix

    async def _command(self, *arguments: bytes | str) -> object:
        with translated_errors(self._address):
            answer: object = await self._client.execute_command(*arguments)  # type: ignore[no-untyped-call]  # untyped there
        return answer


async def open_store(
    url: str,
    prefix: str,
    incarnation: str,
    *,
    files: ServerFiles = ServerFiles(),  # noqa: B008 - it is frozen
    on_status: StatusListener = lambda _: None,
    exchange_timeout_seconds: float = 5.0,
    connect_timeout_seconds: float = 2.0,
) -> Store:
    """Connects, checks the server, loads the library. Whoever calls decides whether and when to try again.

    Raises StoreUnavailable, which may pass; and the StoreStartErrors InvalidRedisUrl, UnsupportedRedis,
    AccessDenied and SchemaTooNew, which do not.
    """
    access = Access(
        parse_url(url, files),
        f"moorline-{incarnation}",
        node_library(),
        prefix,
        connect_timeout_seconds,
        exchange_timeout_seconds,
    )
    connection, server = await access.connect_and_tell()
    await access.prepare(connection)
    for warning in server.warnings():
        logger.warning("%s", warning)
    encoder = CallEncoder(prefix, incarnation, partial(keys.slot, prefix))
    lane = Lane(encoder, keys.version(prefix), access.connect, access.load_library, on_status, connection)
    client = new_client(
        access.endpoint, access.client_name, connect_timeout_seconds, exchange_timeout_seconds
    )
    return Store(access, encoder, prefix, client, lane, server)


def row_of(field: bytes, value: bytes) -> SubscriptionRow:
    """A row as it is in Redis (`keys.subscriptions`)."""
    topic_filter, _, client_id = field.decode().partition("\0")
    stamp, _, options = value.partition(b":")
    return SubscriptionRow(client_id, topic_filter, options, int(stamp))
