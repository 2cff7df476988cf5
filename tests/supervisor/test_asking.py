"""Questions to a worker: it answers, or not in time, or not to the end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin import serve_socket
from broker.supervisor.asking import Answer, ask

SECONDS = 5.0
BODY = b"x" * 1_000_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


async def test_the_whole_answer(tmp_path: Path) -> None:
    """Through the server that a worker has, in pieces."""

    async def large(_: Request) -> Response:
        return Response(BODY, 503)

    async with anyio.create_task_group() as tasks:
        await tasks.start(serve_socket, tmp_path / "1", Starlette(routes=[Route("/large", large)]))
        assert await ask(tmp_path / "1", "/large", SECONDS) == Answer(503, BODY)
        nothing = await ask(tmp_path / "1", "/other", SECONDS)
        assert nothing is not None
        assert nothing.status == 404
        tasks.cancel_scope.cancel()
    assert not (tmp_path / "1").exists()


async def test_nobody_is_there(tmp_path: Path) -> None:
    assert await ask(tmp_path / "1", "/", SECONDS) is None


@asynccontextmanager
async def _answering(path: Path, answer: Callable[[SocketStream], Awaitable[None]]) -> AsyncIterator[None]:
    async def handle(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await answer(stream)

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "given", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b"nonsense\r\n\r\n"], ids=repr
)
async def test_half_an_answer_is_none(tmp_path: Path, given: bytes) -> None:
    """It was killed in the middle of it."""
    async with _answering(tmp_path / "1", lambda stream: stream.send(given)):
        assert await ask(tmp_path / "1", "/", SECONDS) is None


async def test_too_late_an_answer_is_none(tmp_path: Path) -> None:
    async with _answering(tmp_path / "1", lambda _: anyio.sleep_forever()):
        with anyio.fail_after(SECONDS):
            assert await ask(tmp_path / "1", "/", 0.1) is None
