"""The admin address over real sockets: probes, metrics, start and stop."""

import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from broker.admin import make_app, serve_admin, serve_socket
from broker.errors import StartError, start_errors
from broker.observability.health import Health
from broker.observability.metrics import Counters
from broker.observability.page import CONTENT_TYPE
from broker.settings import Address
from tests.tools import NO_TLS

ANY_PORT = Address("127.0.0.1", 0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _client(health: Health, counters: Counters) -> AsyncIterator[httpx.AsyncClient]:
    async with anyio.create_task_group() as tasks:
        bound: Address = await tasks.start(serve_admin, ANY_PORT, health, counters)
        async with httpx.AsyncClient(base_url=f"http://{bound}", trust_env=False, verify=NO_TLS) as client:
            yield client
        tasks.cancel_scope.cancel()


async def test_probes_follow_the_health_of_the_node() -> None:
    health = Health()
    async with _client(health, Counters()) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        starting = await client.get("/readyz")
        assert starting.status_code == 503
        assert starting.json() == {"status": "unavailable", "reasons": ["starting", "redis: not reached yet"]}
        health.started()
        health.redis_back()
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ok"})
        assert ready.headers["cache-control"] == "no-store"
        health.drain()
        assert (await client.head("/readyz")).status_code == 503


async def test_metrics_are_those_of_now() -> None:
    counters = Counters()
    async with _client(Health(), counters) as client:
        counters.received_qos1 += 7
        answer = await client.get("/metrics")
        assert answer.headers["content-type"] == CONTENT_TYPE
        assert 'moorline_messages_received_total{qos="1"} 7.0' in answer.text


async def test_other_paths_are_not_found() -> None:
    async with _client(Health(), Counters()) as client:
        assert (await client.get("/")).status_code == 404
        assert (await client.post("/metrics")).status_code == 405


async def test_the_longest_names_have_a_place_in_a_path() -> None:
    async with (
        _client(Health(), Counters()) as client,
        await anyio.connect_tcp("127.0.0.1", client.base_url.port or 0) as stream,
    ):
        path = b"/" + b"%C3" * 65_535
        for part in (b"GET ", path[:1000], path[1000:], b" HTTP/1.1\r\nHost: a\r\n\r\n"):
            await stream.send(part)
        assert (await stream.receive()).split()[1] == b"404"


async def test_a_taken_port_is_a_start_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BaseExceptionGroup) as caught:  # the group ends with the block
            async with anyio.create_task_group() as tasks:
                await tasks.start(serve_admin, Address("127.0.0.1", port), Health(), Counters())
    (error,) = start_errors(caught.value)
    assert str(error) == (
        f"admin address 127.0.0.1:{port}: Address already in use; choose another with --admin"
    )


async def test_a_host_that_is_none_is_a_start_error() -> None:
    with pytest.raises(StartError, match="admin address"):
        await serve_admin(Address("no-such-host.invalid", 0), Health(), Counters())


async def test_signals_are_left_to_the_node_and_the_port_is_free_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with anyio.create_task_group() as tasks:
        bound: Address = await tasks.start(serve_admin, ANY_PORT, Health(), Counters())
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client:
            assert (await client.get(f"http://{bound}/healthz")).status_code == 200
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        tasks.cancel_scope.cancel()
    socket.create_server(("127.0.0.1", bound.port)).close()


async def test_cancelling_at_once_closes_the_socket() -> None:
    async with anyio.create_task_group() as tasks:
        bound: Address = await tasks.start(serve_admin, ANY_PORT, Health(), Counters())
        tasks.cancel_scope.cancel()
    socket.create_server(("127.0.0.1", bound.port)).close()


async def test_a_unix_socket_replaces_one_that_was_left_and_goes_with_its_server(tmp_path: Path) -> None:
    path = tmp_path / "1"
    path.write_text("left")
    app = make_app(Health(), Counters())
    async with anyio.create_task_group() as tasks:
        await tasks.start(serve_socket, path, app)
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(verify=NO_TLS, uds=str(path))
        ) as client:
            assert (await client.get("http://worker/healthz")).status_code == 200
        tasks.cancel_scope.cancel()
    assert not path.exists()


async def test_a_unix_socket_that_cannot_be_made_is_a_start_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="admin socket"):
        await serve_socket(tmp_path / "none" / "1", make_app(Health(), Counters()))
