"""What a server must be before we use it: its version and role, our functions, the keys' version."""

from dataclasses import dataclass
from typing import Final

from cluster.store.connection import Connection
from cluster.store.errors import SchemaTooNew, StoreError, StoreUnavailable, UnsupportedRedis

OLDEST_VERSION: Final = (7, 0)


@dataclass(frozen=True, slots=True)
class Library:
    """The function library as it is loaded, and the version of the key schema that it works on."""

    name: str
    source: str
    schema_version: int


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


def parse_info(text: str) -> ServerInfo:
    """Reads the answer of INFO."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line and line[0] != "#")
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
        maxmemory_policy=fields.get("maxmemory_policy", ""),
        is_append_only=fields.get("aof_enabled", "1") == "1",
    )


async def check_server(connection: Connection) -> ServerInfo:
    """Raises UnsupportedRedis, or StoreUnavailable while the server loads its data or is a replica."""
    reply = await connection.ask_one("INFO")
    info = parse_info(reply.decode(errors="replace") if isinstance(reply, bytes) else "")
    address = connection.address
    if info.compatible_version < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise UnsupportedRedis(f"{address} is {info}: Moorline needs Redis {oldest} or newer, or Valkey")
    if info.mode == "cluster":
        raise UnsupportedRedis(f"{address} is part of a Redis Cluster, which is not supported yet")
    if info.is_loading:
        raise StoreUnavailable(f"{address}: loading its data")
    if info.role not in ("", "master"):
        raise StoreUnavailable(f"{address}: is a replica, not a primary")
    return info


async def ensure_library(connection: Connection, library: Library) -> None:
    """Loads the library unless the server has this very text: loading is refused while Redis is full."""
    listed = await connection.ask_one("FUNCTION", "LIST", "LIBRARYNAME", library.name, "WITHCODE")
    if not _has_source(listed, library.source.encode()):
        await load_library(connection, library)


async def load_library(connection: Connection, library: Library) -> None:
    """Loads the library in place of the one that is there."""
    try:
        await connection.ask_one("FUNCTION", "LOAD", "REPLACE", library.source)
    except StoreError as error:
        raise type(error)(f"{connection.address}: the function library can't be loaded: {error}") from error


async def check_schema(connection: Connection, key: str, library: Library) -> None:
    """Notes the version of the keys if there are none yet. Raises SchemaTooNew."""
    version = await connection.ask_one("GET", key)
    if version is None:
        await connection.ask_one("SET", key, library.schema_version, "NX")
        version = await connection.ask_one("GET", key)
    if not isinstance(version, bytes) or not version.isdigit():
        raise SchemaTooNew(f"{connection.address}: {key} holds no version of a schema")
    if int(version) > library.schema_version:
        raise SchemaTooNew(
            f"{connection.address}: {key} is {int(version)}, this release knows {library.schema_version}: "
            "a newer release has been here; start that one, or use another prefix"
        )


def _has_source(listed: object, source: bytes) -> bool:
    """The answer of FUNCTION LIST is one flat list of names and values per library."""
    return isinstance(listed, list) and any(
        isinstance(library, list) and source in library for library in listed
    )
