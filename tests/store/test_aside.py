"""The side connections, on real servers; how they fare when Redis goes away is in test_store."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from cluster.store.access import Access
from cluster.store.aside import SideConnections
from cluster.store.call import pack_command
from cluster.store.endpoint import parse_url
from cluster.store.errors import CallFailed, StoreUnavailable
from cluster.store.finder import Fixed
from cluster.store.reply import as_bytes
from cluster.store.store import node_library
from tests.store.servers import KINDS, RunningServer, connected, running_server

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    with running_server(request.param, Path(tmp_path_factory.mktemp("redis"))) as running:
        yield running


@asynccontextmanager
async def aside(server: RunningServer, timeout_seconds: float = 5.0) -> AsyncIterator[SideConnections]:
    access = Access(Fixed(parse_url(server.url)), "aside", node_library(), "test:", 2.0, timeout_seconds)
    connections = SideConnections(access)
    try:
        yield connections
    finally:
        await connections.aclose()


async def count_in(server: RunningServer) -> int:
    async with connected(server.url) as connection:
        listed = as_bytes(await connection.ask_one("CLIENT", "LIST"))
    return listed.count(b" name=moorline-aside ")


async def test_one_connection_is_kept_for_one_after_the_other(server: RunningServer) -> None:
    async with aside(server) as connections:
        assert await count_in(server) == 0
        for _ in range(3):
            assert await connections.ask_one("PING") == b"PONG"
        assert await count_in(server) == 1
        assert await connections.ask(pack_command("PING") + pack_command("ECHO", "x"), 2) == [b"PONG", b"x"]
    assert await count_in(server) == 0


async def test_many_at_once_share_four(server: RunningServer) -> None:
    async with aside(server) as connections:
        answers = []

        async def wait(n: int) -> None:
            answers.append(await connections.ask_one("BLPOP", f"nothing-{n}", "0.1"))

        async with anyio.create_task_group() as tasks:
            for n in range(10):
                tasks.start_soon(wait, n)
        assert answers == [None] * 10
        assert await count_in(server) == 4


async def test_whoever_gets_no_connection_is_told(server: RunningServer) -> None:
    async with aside(server, 0.2) as connections:

        async def hold() -> None:
            with pytest.raises(
                StoreUnavailable, match="no answer"
            ):  # on two connections, one after the other
                await connections.ask_one("BLPOP", "nothing", "1")

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(connections.ask_one, "BLPOP", "nothing", "0.05")
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(hold)
            await anyio.sleep(0.05)
            with pytest.raises(StoreUnavailable, match="in use"):
                await connections.ask_one("PING")


async def test_stale_connection_is_replaced(server: RunningServer) -> None:
    async with aside(server) as connections:
        await connections.ask_one("PING")
        async with connected(server.url) as other:
            await other.ask_one("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await connections.ask_one("PING") == b"PONG"
        assert await count_in(server) == 1


async def test_refused_command_leaves_the_connection(server: RunningServer) -> None:
    async with aside(server) as connections:
        await connections.ask_one("SET", "text", "x")
        with pytest.raises(CallFailed, match="WRONGTYPE"):
            await connections.ask_one("HGET", "text", "f")
        assert await connections.ask_one("GET", "text") == b"x"
        assert await count_in(server) == 1


async def test_server_that_is_no_primary_any_more_is_left(server: RunningServer) -> None:
    async with aside(server) as connections, connected(server.url) as other:
        await connections.ask_one("PING")
        await other.ask_one("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await connections.ask_one("SET", "k", "v")
        assert await count_in(server) == 0
        with pytest.raises(StoreUnavailable, match="a replica"):
            await connections.ask_one("SET", "k", "v")
        await other.ask_one("REPLICAOF", "NO", "ONE")
        assert await connections.ask_one("SET", "k", "v") == b"OK"
