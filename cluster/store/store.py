"""The store as a node holds it: the lane for its batches, side connections for everything else."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self, cast

from cluster.store import keys, merged_info
from cluster.store.access import Access
from cluster.store.accounting import sizes_of, usage
from cluster.store.ahead import take_pages
from cluster.store.aside import SideConnections
from cluster.store.call import Call, CallEncoder, Reply, Request, Slot, pack_command, unpack_replies
from cluster.store.channels import ChannelConnection
from cluster.store.connection import Connection
from cluster.store.endpoint import Endpoint, ServerFiles, parse_url
from cluster.store.errors import CallFailed, LibraryMissing, StoreError
from cluster.store.finding import finder_of
from cluster.store.keys import META_SLOT
from cluster.store.lane import Lane, StatusListener, version_of
from cluster.store.library import (
    LIBRARY_NAME,
    LIBRARY_REVISION,
    SCHEMA_VERSION,
    function_name,
    library_source,
)
from cluster.store.migration import STEPS
from cluster.store.reply import as_bytes, as_list, as_text
from cluster.store.server import Library, ServerInfo, ensure_library, info_fields
from cluster.store.sharded_lane import ShardedLane
from cluster.store.shards import Shards
from cluster.store.slots import Address
from cluster.store.topology import Topology
from cluster.store.witness import Seat

_ROWS_PER_PAGE: Final = 1000
_BANS_PER_PAGE: Final = 200  # each takes some 10 us of whoever reads them

logger = logging.getLogger(__name__)


def node_library() -> Library:
    """The function library of this release."""
    functions = frozenset(map(function_name, ("write", "free")))
    return Library(
        LIBRARY_NAME, library_source(), SCHEMA_VERSION, LIBRARY_REVISION, functions, frozenset(STEPS)
    )


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """A subscription of a persistent session, from the cluster's rows; `options` is packed (`records`)."""

    client_id: str
    filter: str
    options: bytes
    stamp: int


class Store:
    """Made by `open_store`; an async context manager that closes it."""

    def __init__(
        self,
        access: Access,
        encoder: CallEncoder,
        prefix: str,
        lane: Lane | ShardedLane,
        server: ServerInfo,
        shards: Shards | None = None,
    ) -> None:
        self._access = access
        self._encoder = encoder
        self._prefix = prefix
        self._shards = shards
        self._aside = SideConnections(access) if shards is None else shards
        self.lane = lane
        self.server = server
        """As it was at start."""
        self.primaries = dict(access.met)
        """Those that served the slots then."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        await self.lane.aclose()
        await self._aside.aclose()
        self._access.finder.close()

    async def watch_primary(self) -> None:
        """Leaves a server that is the primary no longer, until cancelled; a node does so all the time."""
        await self._access.watch()

    @property
    def primary(self) -> str:
        """Address of the server in use."""
        return self._access.primary

    @property
    def switches(self) -> int:
        """How often it has been another one."""
        return self._access.switches

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
        if self._shards is not None:
            return await self._shards.call(call)
        return await self._ask_aside([call])

    async def call_in_parts(self, requests: Sequence[Request], size: int) -> list[Reply]:
        """Requests of any slots that are taken even when Redis is full, as calls of at most `size` of them,
        by one round trip. Redis serves nobody else between calls that it has read together: so all of them
        together may be no more than it may be kept for. Raises as `call` does."""
        if not requests:
            return []
        if self._shards is not None:  # which makes a call for each slot
            return await self._shards.call(Call("free", list(requests)))
        parts = [requests[first : first + size] for first in range(0, len(requests), size)]
        return await self._ask_aside([Call("free", list(part)) for part in parts])

    async def _ask_aside(self, calls: Sequence[Call]) -> list[Reply]:
        """To the one primary, all at once; the replies of all of them."""
        commands = b"".join(map(self.pack, calls))
        answers = await self._aside.ask(commands, len(calls))
        if any(isinstance(answer, LibraryMissing) for answer in answers):
            await ensure_library(self._aside.ask_one, str(self._access), self._access.library)
            answers = await self._aside.ask(commands, len(calls))
        replies: list[Reply] = []
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, StoreError):
                raise answer
            if not isinstance(answer, bytes):
                raise CallFailed("a call answered with no string")
            replies += unpack_replies(answer, len(call.requests))
        return replies

    def renew(self) -> None:
        """Another primary has come: side connections to the one before are not used any more."""
        self._aside.renew()

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the server answers; on a Cluster, each primary."""
        await self._ask_each("PING")

    async def info(self) -> dict[str, str]:
        """What the server says of itself now; on a Cluster, all primaries together. Raises StoreError."""
        return merged_info.merged(await self._infos("INFO"))

    async def load_subscriptions(self, take: Callable[[list[bytes]], None]) -> str:
        """Gives all rows to `take`, page by page, as they are in Redis: field, value, field, value (`row_of`
        reads one). The version of the change log before: follow it from there on.

        A row may be in two pages, and one that changes meanwhile may be the old or the new.
        """
        version = await self._aside.ask_one("GET", keys.version(self._prefix))
        await take_pages(self._rows(), take)
        return version_of(version)

    async def _rows(self) -> AsyncIterator[list[bytes]]:
        for shard in range(keys.SUBSCRIPTION_SHARDS):
            async for page in self._hash_pages(keys.subscriptions(self._prefix, shard)):
                yield page

    async def rows_of(self, shard: int) -> AsyncIterator[list[SubscriptionRow]]:
        """Pages of the rows in one shard."""
        async for page in self._hash_pages(keys.subscriptions(self._prefix, shard)):
            yield [row_of(field, value) for field, value in pairs_of(page)]

    async def subscriptions_of(self, client_id: str) -> list[SubscriptionRow]:
        """Those that a session has, by itself."""
        found: dict[bytes, bytes] = {}
        async for page in self._hash_pages(keys.session(self._prefix, keys.bucket_of(client_id), client_id)):
            found.update(pairs_of(page))
        rows = []
        for field, value in found.items():
            if field.startswith(b"f:"):
                stamp, _, options = value.partition(b":")
                rows.append(SubscriptionRow(client_id, field[2:].decode(), options, int(stamp)))
        return rows

    async def load_interest(self) -> AsyncIterator[tuple[str, list[str]]]:
        """Node and fields (`<kind>:<filter>`), page by page, of all nodes that are members."""
        for node in as_list(await self._aside.ask_one("ZRANGE", keys.nodes(self._prefix), 0, -1)):
            name = as_text(node)
            async for page in self._hash_pages(keys.interest(self._prefix, name)):
                yield name, [field.decode() for field in page[::2]]

    async def ban_version(self) -> int:
        """How often the bans have changed."""
        version = await self._aside.ask_one("GET", keys.ban_version(self._prefix))
        return 0 if version is None else int(as_bytes(version))

    async def ban_page(self, cursor: int) -> tuple[int, dict[bytes, bytes]]:
        """Some of the bans as they are in Redis (`bans.unpack`), and where to go on; 0 is the beginning, and
        the end. One may be in two pages."""
        following, page = await self._hash_page(keys.bans(self._prefix), cursor, _BANS_PER_PAGE)
        return following, dict(pairs_of(page))

    async def alarms(self) -> dict[bytes, bytes]:
        """All that are raised, as they are in Redis (`keys.alarms`); some per node at most."""
        found: dict[bytes, bytes] = {}
        async for page in self._hash_pages(keys.alarms(self._prefix)):
            found.update(pairs_of(page))
        return found

    async def put_alarms(self, alarms: Mapping[str, bytes], ttl_seconds: int) -> None:
        """Adds these; all of them go away if nobody adds any for so long."""
        key = keys.alarms(self._prefix)
        fields = [part for field_and_alarm in alarms.items() for part in field_and_alarm]
        commands = pack_command("HSET", key, *fields) if fields else b""
        commands += pack_command("PEXPIRE", key, ttl_seconds * 1000)
        for reply in await self._aside.ask(commands, 2 if fields else 1):
            if isinstance(reply, StoreError):
                raise reply

    async def drop_alarms(self, fields: Sequence[str]) -> None:
        """Takes these away."""
        await self._aside.ask_one("HDEL", keys.alarms(self._prefix), *fields)

    async def time_ms(self) -> int:
        """What time it is there."""
        seconds, microseconds = as_list(await self._aside.ask_one("TIME"))
        return int(as_bytes(seconds)) * 1000 + int(as_bytes(microseconds)) // 1000

    async def queue_lengths(self, connection: Connection, client_ids: Sequence[str]) -> list[int]:
        """How many entries their queues have, by one round trip on a connection of the caller's own. A key
        that is no queue has none. Raises StoreError."""
        names = [keys.queue(self._prefix, keys.bucket_of(client_id), client_id) for client_id in client_ids]
        commands = [pack_command(b"XLEN", name) for name in names]
        if self._shards is None:
            replies = await connection.ask(b"".join(commands), len(commands))
        else:
            replies = await self._shards.ask_for(names, commands)
        for reply in replies:
            if isinstance(reply, StoreError) and not isinstance(reply, CallFailed):
                raise reply
        return [reply if isinstance(reply, int) else 0 for reply in replies]

    async def queue_sizes(self, client_ids: Sequence[str]) -> list[int]:
        """How many bytes of memory their queues take, about. Raises StoreError."""
        return await self.key_sizes(
            [keys.queue(self._prefix, keys.bucket_of(client_id), client_id) for client_id in client_ids]
        )

    async def key_sizes(self, names: Sequence[str]) -> list[int]:
        """Bytes of memory that some keys take; 0: it is not there. Raises StoreError."""
        if self._shards is not None:
            return sizes_of(await self._shards.ask_for(names, [usage([name]) for name in names]))
        return sizes_of(await self._aside.ask(usage(names), len(names)))

    async def server_figures(self) -> dict[str, int]:
        """Numbers of INFO: memory, append-only file, replicas. On a Cluster see `merged_info`."""
        return merged_info.figures(await self._infos("INFO", "memory", "persistence", "replication"))

    async def _infos(self, *command: str) -> list[dict[str, str]]:
        return [
            info_fields(as_bytes(answer).decode(errors="replace"))
            for answer in await self._ask_each(*command)
        ]

    async def _ask_each(self, *command: str) -> list[object]:
        if self._shards is not None:
            return await self._shards.ask_each(*command)
        return [await self._aside.ask_one(*command)]

    async def _hash_pages(self, key: str) -> AsyncIterator[list[bytes]]:
        """A hash of any size: field, value, field, value. A field that changes meanwhile may be the old one,
        the new one, or both."""
        cursor = 0
        while True:
            home = self._home_of(key)
            cursor, page = await self._hash_page(key, cursor, _ROWS_PER_PAGE)
            yield page
            if home != self._home_of(key):
                cursor = 0  # of another server it would mean something else
            elif cursor == 0:
                break

    def _home_of(self, key: str) -> Address | None:
        return None if self._shards is None else self._shards.home_of(key)

    async def _hash_page(self, key: str, cursor: int, count: int) -> tuple[int, list[bytes]]:
        following, page = as_list(await self._aside.ask_one("HSCAN", key, cursor, "COUNT", count))
        # Not looked at one by one: all of a hash is bytes.
        return int(as_bytes(following)), cast(list[bytes], as_list(page))

    async def connect(self, slot: Slot = META_SLOT) -> Connection:
        """A connection of the caller's own, which closes it; to the primary that has this slot. Raises
        StoreUnavailable, StoreStartError."""
        access = self._access if self._shards is None else self._shards.access_to(slot)
        return await access.connect()

    async def connect_to_each(self) -> AsyncIterator[Connection]:
        """The same to each primary, one after the other."""
        if self._shards is None:
            yield await self._access.connect()
            return
        for address in await self._shards.primaries():
            yield await self._shards.access_at(address).connect()

    def seats(self) -> Sequence[Seat]:
        """The primaries that answer the lane. Raises StoreUnavailable."""
        return [Seat("", (META_SLOT,), (), self.connect)] if self._shards is None else self._shards.seats()

    async def look_again(self, trouble: StoreError) -> None:
        """One of them could not be asked: it may be another one by now."""
        if self._shards is not None:
            await self._shards.look_again(trouble)

    async def connect_for(self, key: str) -> Connection:
        """The same for a key that is none of the broker's."""
        access = self._access if self._shards is None else self._shards.access_for(key)
        return await access.connect()

    async def connect_to_channels(
        self, channels: Sequence[str], on_message: Callable[[bytes, bytes], None]
    ) -> ChannelConnection:
        """A connection that listens to channels and says what comes (channel, payload); it also publishes if
        it listens to none. The caller closes it. Raises StoreUnavailable, StoreStartError."""
        connection = await self._access.connect_as(ChannelConnection)
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
    def is_cluster(self) -> bool:
        """Whether there are several primaries."""
        return self._shards is not None

    @property
    def prefix(self) -> str:
        """Beginning of all keys."""
        return self._prefix


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
    endpoint = parse_url(url, files)
    access = Access(
        finder_of(endpoint),
        incarnation,
        node_library(),
        prefix,
        connect_timeout_seconds,
        exchange_timeout_seconds,
        in_cluster=endpoint.is_cluster,
    )
    encoder = CallEncoder(prefix, incarnation, partial(keys.slot, prefix))
    if endpoint.is_cluster:
        return await _open_cluster(access, endpoint, encoder, on_status)
    connection, server = await access.connect_and_tell()
    await access.prepare(connection)
    for warning in server.warnings():
        logger.warning("%s", warning)
    lane = Lane(
        encoder,
        keys.version(prefix),
        access.connect,
        access.load_library,
        on_status,
        connection,
        access.pause,
    )
    return Store(access, encoder, prefix, lane, server)


async def _open_cluster(
    access: Access, endpoint: Endpoint, encoder: CallEncoder, on_status: StatusListener
) -> Store:
    topology = Topology(endpoint, access.open)
    await topology.refresh(topology.generation)
    shards = Shards(access, topology, encoder)
    server = await shards.prepare()
    lane = ShardedLane(
        encoder, keys.version(access.prefix), topology, shards.connect_ready, access.load_library, on_status
    )
    meta = shards.access_to(META_SLOT)
    return Store(meta, encoder, access.prefix, lane, server, shards)


def pairs_of(page: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Fields and values of a page of a hash."""
    parts = iter(page)
    return zip(parts, parts, strict=True)


def row_of(field: bytes, value: bytes) -> SubscriptionRow:
    """A row as it is in Redis (`keys.subscriptions`)."""
    topic_filter, _, client_id = field.decode().partition("\0")
    stamp, _, options = value.partition(b":")
    return SubscriptionRow(client_id, topic_filter, options, int(stamp))
