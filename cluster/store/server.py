"""What a server must be before we use it: its version and role, our functions, the keys' version."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from cluster.store.connection import Connection
from cluster.store.errors import (
    AccessDenied,
    CallFailed,
    LibraryTooNew,
    SchemaTooNew,
    SchemaTooOld,
    StoreError,
    StoreUnavailable,
    UnsupportedRedis,
)
from cluster.store.identity import Identity
from cluster.store.library import revision_of
from cluster.store.reply import as_list, as_text, in_pairs

OLDEST_VERSION: Final = (7, 0)
_LOAD_ATTEMPTS: Final = 5

Ask: TypeAlias = Callable[..., Awaitable[object]]
"""Sends one command and gives its reply, or raises a StoreError: `Connection.ask_one`."""


@dataclass(frozen=True, slots=True)
class Library:
    """The function library as it is loaded, and the version of the key schema that it works on."""

    name: str
    source: str
    schema_version: int
    revision: int
    functions: frozenset[str]
    """What nodes of this release call."""
    migrated_from: frozenset[int] = frozenset()
    """Older versions of the schema whose keys have to be migrated first."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What INFO says of a server; text that is not there is empty."""

    product: str
    version: str
    """As the product counts; a Valkey says in INFO which Redis it is compatible with, too."""
    compatible_version: tuple[int, ...]
    mode: str
    role: str
    is_loading: bool
    replication_id: str
    identity: Identity
    """By which it is known again."""
    maxmemory_policy: str
    is_append_only: bool

    def __str__(self) -> str:
        return f"{self.product} {self.version}"

    def warnings(self) -> list[str]:
        """What a person who runs this server for a broker should know; one line each."""
        found = []
        if self.maxmemory_policy not in ("", "noeviction"):
            found.append(
                f"{self} evicts keys when it is full (maxmemory-policy {self.maxmemory_policy}): "
                "sessions and messages may vanish; set noeviction"
            )
        if not self.is_append_only:
            found.append(f"{self} keeps no append-only file (appendonly no): a restart of it loses messages")
        return found


def info_fields(text: str) -> dict[str, str]:
    """The answer of INFO, by names."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and line[0] != "#")


def parse_info(text: str) -> ServerInfo:
    """Reads the answer of INFO."""
    fields = info_fields(text)
    is_valkey = "valkey_version" in fields
    redis_version = fields.get("redis_version", "")
    return ServerInfo(
        product="Valkey" if is_valkey else "Redis",
        version=fields["valkey_version"] if is_valkey else redis_version,
        compatible_version=tuple(int(n) for n in redis_version.split(".")[:3] if n.isdecimal()),
        mode=fields.get("server_mode", fields.get("redis_mode", "")),
        role=fields.get("role", ""),
        is_loading=fields.get("loading", "0") != "0",
        replication_id=fields.get("master_replid", ""),
        identity=Identity(
            fields.get("run_id", ""), fields.get("master_replid", ""), fields.get("master_replid2", "")
        ),
        maxmemory_policy=fields.get("maxmemory_policy", ""),
        is_append_only=fields.get("aof_enabled", "1") == "1",
    )


async def check_server(connection: Connection, *, in_cluster: bool = False) -> ServerInfo:
    """Raises UnsupportedRedis, or StoreUnavailable while the server loads its data or is a replica.
    `in_cluster`: it has to be part of a Redis Cluster; else it must not be."""
    reply = await connection.ask_one("INFO")
    info = parse_info(reply.decode(errors="replace") if isinstance(reply, bytes) else "")
    address = connection.address
    if info.compatible_version < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise UnsupportedRedis(f"{address} is {info}: Moorline needs Redis {oldest} or newer, or Valkey")
    if (info.mode == "cluster") != in_cluster:
        raise UnsupportedRedis(
            f"{address} is a single server, no part of a Redis Cluster: its URL begins with redis:// or rediss://"
            if in_cluster
            else f"{address} is part of a Redis Cluster: its URL begins with redis+cluster:// or rediss+cluster://"
        )
    if info.is_loading:
        raise StoreUnavailable(f"{address}: loading its data")
    if info.role not in ("", "master"):
        raise StoreUnavailable(f"{address}: is a replica, not a primary")
    connection.identity = info.identity
    return info


async def ensure_library(ask: Ask, address: str, library: Library) -> None:
    """Sees to it that the functions which this release calls are there. Loads nothing unless it must: loading
    is refused while Redis is full.

    A library of a newer revision is never replaced. Nodes of several releases may do this at once: should an
    older one, which has looked before, load its own over a newer one, then the newer nodes miss their
    functions with their next call, and come here. Raises LibraryTooNew, StoreError.
    """
    for _ in range(_LOAD_ATTEMPTS):
        loaded = await loaded_library(ask, library.name)
        if loaded is not None and loaded.serves(library):
            return
        if loaded is not None and loaded.revision > library.revision:
            raise LibraryTooNew(
                f"{address}: a newer release runs here (function library of revision {loaded.revision}), "
                f"which does not serve this one (revision {library.revision}): start a newer release"
            )
        replace = () if loaded is None else ("REPLACE",)
        try:
            await ask("FUNCTION", "LOAD", *replace, library.source)
            return
        except CallFailed as error:
            if f"Library '{library.name}' already exists" not in str(error):
                raise CallFailed(f"{address}: the function library can't be loaded: {error}") from error
            # Another node was faster: look what it has loaded.
        except AccessDenied as error:
            raise AccessDenied(
                f"{address}: the function library of this release (revision {library.revision}) is not there,"
                " and this user may not load it (+function|load): load it as another user, by `moorline redis"
                f" library | redis-cli -x FUNCTION LOAD REPLACE`: {error}"
            ) from error
        except StoreError as error:
            raise type(error)(f"{address}: the function library can't be loaded: {error}") from error
    raise StoreUnavailable(f"{address}: others load and delete the function library all the time")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A library as the server has it."""

    source: str
    functions: frozenset[str]

    @property
    def revision(self) -> int:
        return revision_of(self.source)

    def serves(self, library: Library) -> bool:
        """Whether nodes of that release can go on with it."""
        if self.revision > library.revision:
            return library.functions <= self.functions
        return self.source == library.source


async def loaded_library(ask: Ask, name: str) -> Loaded | None:
    """Each library is a flat list of names and values, and so is each of its functions."""
    listed = await ask("FUNCTION", "LIST", "LIBRARYNAME", name, "WITHCODE")
    if not isinstance(listed, list) or not listed:
        return None
    fields = dict(in_pairs(listed[0]))
    functions = [dict(in_pairs(each)) for each in as_list(fields[b"functions"])]
    return Loaded(
        as_text(fields[b"library_code"]), frozenset(as_text(function[b"name"]) for function in functions)
    )


async def check_schema(connection: Connection, key: str, library: Library) -> None:
    """Notes the version of the keys if there are none yet, or if they are of an older one: from now on no
    older release starts here. Nodes of two versions never run at once, so nobody else changes it. Raises
    SchemaTooNew, SchemaTooOld."""
    version = await schema_version(connection, key)
    if version is None:
        await connection.ask_one("SET", key, library.schema_version, "NX")
        version = await schema_version(connection, key) or 0
    if version > library.schema_version:
        raise SchemaTooNew(
            f"{connection.address}: {key} is {version}, this release knows {library.schema_version}: "
            "a newer release has been here; start that one, or use another prefix"
        )
    if not library.migrated_from.isdisjoint(range(version, library.schema_version)):
        raise SchemaTooOld(
            f"{connection.address}: {key} is {version}, this release reads {library.schema_version}: make"
            " `moorline redis migrate` first"
        )
    if version < library.schema_version:
        await connection.ask_one("SET", key, library.schema_version)


async def schema_version(connection: Connection, key: str) -> int | None:
    """Of the keys that there are; None: there are none. Raises SchemaTooNew if that can't be told."""
    version = await connection.ask_one("GET", key)
    if version is None:
        return None
    if not isinstance(version, bytes) or not version.isdigit():
        raise SchemaTooNew(f"{connection.address}: {key} holds no version of a schema")
    return int(version)
