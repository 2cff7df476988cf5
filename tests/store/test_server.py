"""What a server must be, and what is told about one that isn't."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.store.connection import Connection
from cluster.store.errors import (
    CallFailed,
    LibraryTooNew,
    SchemaTooNew,
    StoreUnavailable,
    UnsupportedRedis,
)
from cluster.store.reply import as_list, as_text, in_pairs
from cluster.store.server import (
    Library,
    check_schema,
    check_server,
    ensure_library,
    parse_info,
)
from tests.store.servers import KINDS, LIBRARY, connected, fake_server, info_of, running_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ensure(connection: Connection, library: Library) -> None:
    await ensure_library(connection.ask_one, connection.address, library)


def of_revision(revision: int) -> Library:
    """Our library as a newer release has it."""
    source = LIBRARY.source.replace("-- revision 5", f"-- revision {revision}") + "-- newer\n"
    return replace(LIBRARY, source=source, revision=revision)


async def loaded_sources(connection: Connection) -> list[str]:
    """The text of each library on the server."""
    listed = await connection.ask_one("FUNCTION", "LIST", "WITHCODE")
    return [as_text(dict(in_pairs(library))[b"library_code"]) for library in as_list(listed)]


@pytest.mark.parametrize("kind", KINDS)
async def test_real_servers_are_good_enough(kind: str, tmp_path: Path) -> None:
    with running_server(kind, tmp_path, "--appendonly", "yes") as running:
        async with connected(running.url) as connection:
            info = await check_server(connection)
    assert info.product.lower() == kind
    assert str(info).startswith(("Valkey 9.", "Redis 7.0."))
    assert info.role == "master"
    assert len(info.replication_id) == 40
    assert info.warnings() == []


@pytest.mark.parametrize("version", ["6.2.14", "5.0", "nonsense", ""])
async def test_old_server_is_refused(version: str) -> None:
    async with (
        fake_server(b"+OK\r\n", info_of(redis_version=version)) as endpoint,
        connected(f"redis://{endpoint}") as connection,
    ):
        with pytest.raises(UnsupportedRedis, match=rf"Redis {version}: Moorline needs Redis 7\.0 or newer"):
            await check_server(connection)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"redis_mode": "cluster"}, UnsupportedRedis, "Cluster"),
        ({"server_mode": "cluster", "redis_mode": "standalone"}, UnsupportedRedis, "Cluster"),
        ({"role": "slave"}, StoreUnavailable, "replica"),
        ({"loading": "1"}, StoreUnavailable, "loading"),
    ],
)
async def test_server_in_a_wrong_state(fields: dict[str, str], error: type[Exception], text: str) -> None:
    async with (
        fake_server(b"+OK\r\n", info_of(**{"redis_version": "7.2.4"} | fields)) as endpoint,
        connected(f"redis://{endpoint}") as connection,
    ):
        with pytest.raises(error, match=text):
            await check_server(connection)


def test_warns_of_what_loses_messages() -> None:
    info = parse_info("redis_version:7.0.0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0\r\n")
    evicts, volatile = info.warnings()
    assert "allkeys-lru" in evicts
    assert "appendonly" in volatile
    assert parse_info("redis_version:7.0.0").warnings() == []


async def test_library_is_loaded_once(tmp_path: Path) -> None:
    changed = replace(LIBRARY, source=LIBRARY.source + "-- another\n")
    with running_server("valkey", tmp_path) as running:
        async with connected(running.url) as connection:
            await ensure(connection, LIBRARY)
            await connection.ask_one("CONFIG", "SET", "maxmemory", "1")
            await ensure(connection, LIBRARY)  # would be refused if it loaded again
            await connection.ask_one("CONFIG", "SET", "maxmemory", "0")
            await ensure(connection, changed)
            assert await loaded_sources(connection) == [changed.source]
            with pytest.raises(CallFailed, match="can't be loaded"):
                await ensure(connection, replace(LIBRARY, name="x", source="#!lua name=x\nthis is no Lua"))


async def test_an_older_release_never_replaces_a_newer_library(tmp_path: Path) -> None:
    newer = of_revision(6)
    with running_server("valkey", tmp_path) as running:
        async with connected(running.url) as connection:
            await ensure(connection, newer)
            await ensure(connection, LIBRARY)
            assert await loaded_sources(connection) == [newer.source]


@pytest.mark.parametrize("loaded", ["#!lua name=moorline_test\n", LIBRARY.source])
async def test_a_newer_release_replaces_an_older_library(loaded: str, tmp_path: Path) -> None:
    """Also one of the time before revisions were counted."""
    newer = of_revision(6)
    older = replace(LIBRARY, source=f"{loaded}\nredis.register_function('moorline_write', function() end)")
    with running_server("valkey", tmp_path) as running:
        async with connected(running.url) as connection:
            await ensure(connection, older)
            await ensure(connection, newer)
            assert await loaded_sources(connection) == [newer.source]


async def test_a_newer_library_that_does_not_serve_us_is_left_alone(tmp_path: Path) -> None:
    newer = of_revision(7)
    two_releases_ago = replace(LIBRARY, functions=frozenset({"moorline_write_of_another_time"}))
    with running_server("valkey", tmp_path) as running:
        async with connected(running.url) as connection:
            await ensure(connection, newer)
            with pytest.raises(LibraryTooNew, match=r"revision 7.*revision 5.*start a newer release"):
                await ensure(connection, two_releases_ago)
            assert await loaded_sources(connection) == [newer.source]


@pytest.mark.parametrize("faster", [LIBRARY, of_revision(6)], ids=["the same", "a newer one"])
async def test_another_node_may_load_it_in_the_same_moment(faster: Library, tmp_path: Path) -> None:
    """Between our look and our load, which must not replace what has come meanwhile."""
    with running_server("valkey", tmp_path) as running:
        async with connected(running.url) as connection:

            async def ask(*command: str | bytes | int) -> object:
                reply = await connection.ask_one(*command)
                if command[1] == "LIST" and not reply:
                    await ensure(connection, faster)
                return reply

            await ensure_library(ask, connection.address, LIBRARY)
            assert await loaded_sources(connection) == [faster.source]


async def test_a_library_that_comes_and_goes_is_given_up(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as running:
        async with connected(running.url) as connection:
            await ensure(connection, LIBRARY)

            async def ask(*command: str | bytes | int) -> object:
                return [] if command[1] == "LIST" else await connection.ask_one(*command)

            with pytest.raises(StoreUnavailable, match="all the time"):
                await ensure_library(ask, connection.address, LIBRARY)


async def test_schema_is_noted_and_a_newer_one_refused(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as running:
        async with connected(running.url) as connection:
            await check_schema(connection, "schema", LIBRARY)
            assert await connection.ask_one("GET", "schema") == b"1"
            await check_schema(connection, "schema", LIBRARY)
            await connection.ask_one("SET", "schema", 2)
            with pytest.raises(SchemaTooNew, match="schema is 2, this release knows 1"):
                await check_schema(connection, "schema", LIBRARY)
            await check_schema(connection, "schema", replace(LIBRARY, schema_version=3))
            assert await connection.ask_one("GET", "schema") == b"3"  # older releases are refused from now on
            await connection.ask_one("SET", "schema", "text")
            with pytest.raises(SchemaTooNew, match="no version"):
                await check_schema(connection, "schema", LIBRARY)
