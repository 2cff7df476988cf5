"""One connection, against real servers, servers that misbehave, and none."""

import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cluster.store.call import pack_command
from cluster.store.connection import error_of_reply
from cluster.store.errors import (
    AccessDenied,
    CallFailed,
    LibraryMissing,
    NodeGone,
    RedisFull,
    StoreError,
    StoreUnavailable,
    UnsupportedRedis,
)
from tests.store.servers import (
    KINDS,
    LOOPS,
    RunningServer,
    connected,
    fake_server,
    running_server,
    tls_server,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(request.param, tmp_path) as running:
        yield running


async def refused(url: str, timeout_seconds: float = 2.0) -> None:
    """Connects where that should fail, if only with the first question."""
    async with connected(url, timeout_seconds) as connection:
        await connection.ask_one("PING")


async def test_many_commands_have_their_replies_in_order(server: RunningServer) -> None:
    async with connected(server.url) as connection:
        commands = [
            pack_command("SET", "k", b"\xff" * 200_000),
            pack_command("NOSUCH"),
            pack_command("GET", "k"),
        ]
        replies = await connection.ask(b"".join(commands), 3)
        assert replies[0] == b"OK"
        assert isinstance(replies[1], UnsupportedRedis)
        assert replies[2] == b"\xff" * 200_000
        assert await connection.ask_one("INCR", "n") == 1


async def test_introduces_itself(server: RunningServer) -> None:
    async with connected(server.url + "?db=3") as connection:
        assert await connection.ask_one("CLIENT", "GETNAME") == b"test"
        listed = await connection.ask_one("CLIENT", "LIST")
        assert isinstance(listed, bytes)
        assert b" db=3 " in listed
    assert connection.is_closed


async def test_error_reply_is_raised_when_one_is_asked(server: RunningServer) -> None:
    async with connected(server.url) as connection:
        await connection.ask_one("SET", "k", "text")
        with pytest.raises(CallFailed, match="not an integer"):
            await connection.ask_one("INCR", "k")
        assert await connection.ask_one("PING") == b"PONG"


async def test_only_one_exchange_at_a_time(server: RunningServer) -> None:
    async with connected(server.url) as connection:

        async def wait_for_an_element() -> None:
            with pytest.raises(StoreUnavailable, match="closed"):
                await connection.ask_one("BLPOP", "nothing", 0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_an_element)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="one exchange"):
                await connection.ask_one("PING")
            await connection.aclose()


async def test_cancelled_exchange_closes(server: RunningServer) -> None:
    async with connected(server.url) as connection:
        with anyio.move_on_after(0.05):
            await connection.ask_one("BLPOP", "nothing", 0)
        assert connection.is_closed
        with pytest.raises(StoreUnavailable, match="cancelled"):
            await connection.ask_one("PING")


async def test_killed_server_is_noticed_idle_and_waiting(server: RunningServer) -> None:
    async with connected(server.url) as idle, connected(server.url) as waiting:

        async def wait_for_an_element() -> None:
            with pytest.raises(StoreUnavailable, match=r"closed by peer|lost"):
                await waiting.ask_one("BLPOP", "nothing", 0)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_for_an_element)
                await anyio.wait_all_tasks_blocked()
                server.kill()
        with pytest.raises(StoreUnavailable):
            await idle.ask_one("PING")
        assert idle.is_closed


async def test_stopped_server_is_noticed_after_the_timeout(server: RunningServer) -> None:
    async with connected(server.url, timeout_seconds=0.3) as connection:
        for _ in range(3):  # the timer of an earlier exchange must not cut a later one short
            assert await connection.ask_one("PING") == b"PONG"
            await anyio.sleep(0.12)
        server.stop()
        started = anyio.current_time()
        with pytest.raises(StoreUnavailable, match=r"no answer for 0\.3 s"):
            await connection.ask_one("PING")
        assert 0.29 <= anyio.current_time() - started < 1.5


async def test_no_server_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"r\.sock: No such file"):
        await refused(f"unix://{tmp_path}/r.sock")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{port}: "):
            await refused(f"redis://127.0.0.1:{port}")


async def test_password(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "right") as running:
        socket_path = running.url.removeprefix("unix://")
        async with connected(f"unix://:right@{socket_path}") as connection:
            assert await connection.ask_one("PING") == b"PONG"
        with pytest.raises(AccessDenied, match="WRONGPASS"):
            await refused(f"unix://:wrong@{socket_path}")
        with pytest.raises(AccessDenied, match="NOAUTH"):
            await refused(running.url)


async def test_password_that_nobody_asked_for_is_refused(server: RunningServer) -> None:
    with pytest.raises(AccessDenied, match="AUTH"):
        await refused(server.url.replace("unix://", "unix://:p@"))


async def test_not_a_redis() -> None:
    async with fake_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as endpoint:
        with pytest.raises(StoreUnavailable, match="does not speak"):
            await refused(f"redis://{endpoint}")


async def test_reason_that_comes_before_the_end_is_told() -> None:
    async with fake_server(b"-ERR max number of clients reached\r\n") as endpoint:
        with pytest.raises(StoreUnavailable, match="max number of clients"):
            await refused(f"redis://{endpoint}")


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ((b"+OK\r\n", b"$10\r\nhalf"), "closed by peer"),
        ((b"+OK\r\n", b"+PONG\r\n+PONG\r\n"), "nothing that was asked"),
        ((b"-LOADING data\r\n",), "LOADING"),
    ],
    ids=["half", "double", "loading"],
)
async def test_reply_that_ends_the_connection(answers: tuple[bytes, ...], text: str) -> None:
    async with fake_server(*answers) as endpoint:
        with pytest.raises(StoreUnavailable, match=text):
            await refused(f"redis://{endpoint}")


async def test_handshake_without_an_answer_times_out() -> None:
    async with fake_server(b"", b"") as endpoint:
        with pytest.raises(StoreUnavailable, match="no answer"):
            await refused(f"redis://{endpoint}", 0.1)


async def test_tcp_connections_are_kept_alive() -> None:
    async with fake_server(b"+OK\r\n") as endpoint, connected(f"redis://{endpoint}") as connection:
        transport = connection._transport
        assert transport is not None
        assert transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_tls(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (port, certificate):
        async with connected(f"rediss://localhost:{port}?ssl_ca_certs={certificate}") as connection:
            assert await connection.ask_one("PING") == b"PONG"
        with pytest.raises(StoreUnavailable, match="its certificate: self-signed certificate"):
            await refused(f"rediss://localhost:{port}")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("OOM command not allowed", RedisFull),
        ("NODEGONE declared dead", NodeGone),
        ("LOADING Redis is loading", StoreUnavailable),
        ("READONLY You can't write", StoreUnavailable),
        ("MISCONF Errors writing to the AOF file", StoreUnavailable),
        ("NOPERM no permissions", AccessDenied),
        ("ERR Function not found", LibraryMissing),
        ("Function not found", LibraryMissing),
        ("ERR unknown command `FUNCTION`, with args", UnsupportedRedis),
        ("ERR something", CallFailed),
        ("", CallFailed),
    ],
)
def test_meaning_of_errors(text: str, kind: type[StoreError]) -> None:
    error = error_of_reply(text)
    assert type(error) is kind
    assert str(error) == text
