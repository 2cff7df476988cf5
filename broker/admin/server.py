"""uvicorn inside the event loop of its process: it ends with its task and leaves signals to the process."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.routing import BaseRoute
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from broker.admin.app import make_app
from broker.admin.door import Door
from broker.errors import StartError
from broker.observability.health import Health
from broker.observability.metrics import Counters
from broker.settings import Address

CONCURRENT_REQUESTS = 128
"""And connections. Further ones get 503: a scraper gone wild must not slow the clients down. Ten browsers
that open the dashboard at once, with six connections each for some seconds, leave places for probes."""

HEAD_BYTES = 256 << 10
"""Of a request's first line and headers: it has room for a client id or topic of 64 KB, percent-encoded."""

SHUTDOWN_SECONDS = 1
"""How long requests may go on once the node stops."""


REQUEST_TIMEOUT_SECONDS = 10.0
"""How long a connection may take to ask something: those that say nothing would keep the probes out."""


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """uvicorn waits for ever for the first request."""
        super().connection_made(transport)  # type: ignore[arg-type]  # it is a Transport, as there
        self.loop.call_later(REQUEST_TIMEOUT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if cast(object, self.cycle) is None:  # declared as if there always were one
            self.transport.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT are the node's: it drains first."""
        yield


async def serve_admin(
    address: Address,
    health: Health,
    counters: Counters,
    routes: Sequence[BaseRoute] = (),
    door: Door | None = None,
    *,
    task_status: TaskStatus[Address] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """The admin side of a node, with `routes` beside those of `make_app`; see `serve_app`."""
    await serve_app(address, make_app(health, counters, routes), door, task_status=task_status)


async def serve_app(
    address: Address,
    app: ASGIApp,
    door: Door | None = None,
    *,
    task_status: TaskStatus[Address] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP on `address` until cancelled, behind `door`; `started` tells the address with its port.

    StartError if that address can't be had.
    """
    listener = await _bind(address)
    task_status.started(Address(address.host, listener.getsockname()[1]))
    if door is None:
        await _serve(app, listener)
    else:
        await _serve(door.around(app), listener, door.tls)


async def serve_socket(
    path: Path, app: ASGIApp, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Answer HTTP at a unix socket, which is made for it, until cancelled. StartError if it can't be made."""
    with _unix_listener(path) as listener:
        task_status.started()
        await _serve(app, listener)


async def _serve(app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONCURRENT_REQUESTS,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    config.load()
    config.ssl = tls  # one that can change its certificate, which uvicorn makes none of
    server = _Server(config)
    try:
        await server.serve(sockets=[listener])
    finally:
        if server.started:
            with anyio.CancelScope(shield=True):
                await server.shutdown(sockets=[listener])
        listener.close()


async def _bind(address: Address) -> socket.socket:
    """A listening socket; after this, connections wait in its backlog even before uvicorn takes them."""
    try:
        ((family, *_, endpoint), *_) = await anyio.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.create_server(endpoint[:2], family=family, backlog=CONCURRENT_REQUESTS)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python adds the address, which is said already
        raise StartError(f"admin address {address}: {reason}; choose another with --admin") from error
    listener.setblocking(False)
    return listener


@contextmanager
def _unix_listener(path: Path) -> Iterator[socket.socket]:
    """Listens at `path` until the block ends."""
    path.unlink(missing_ok=True)  # of a process that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        listener.listen(CONCURRENT_REQUESTS)
    except OSError as error:
        listener.close()
        raise StartError(f"admin socket {path}: {error.strerror or error}") from error
    listener.setblocking(False)
    try:
        yield listener
    finally:
        path.unlink(missing_ok=True)
