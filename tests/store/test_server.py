"""What a server must be, and what is told about one that isn't."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.store.errors import CallFailed, SchemaTooNew, StoreUnavailable, UnsupportedRedis
from cluster.store.server import (
    Library,
    check_schema,
    check_server,
    ensure_library,
    load_library,
    parse_info,
)
from tests.store.servers import KINDS, LIBRARY, connected, fake_server, info_of, running_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
            await ensure_library(connection, LIBRARY)
            await connection.ask_one("CONFIG", "SET", "maxmemory", "1")
            await ensure_library(connection, LIBRARY)  # would be refused if it loaded again
            await connection.ask_one("CONFIG", "SET", "maxmemory", "0")
            await ensure_library(connection, changed)
            listed = await connection.ask_one("FUNCTION", "LIST", "WITHCODE")
            assert isinstance(listed, list)
            assert [changed.source.encode() in library for library in listed] == [True]
            with pytest.raises(CallFailed, match="can't be loaded"):
                await load_library(connection, Library("x", "#!lua name=x\nthis is no Lua", 1))


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
            await connection.ask_one("SET", "schema", "text")
            with pytest.raises(SchemaTooNew, match="no version"):
                await check_schema(connection, "schema", LIBRARY)
