"""uvicorn inside the node's event loop: it ends with its task and leaves signals to the node."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.routing import BaseRoute

from broker.admin.app import make_app
from broker.errors import StartError
from broker.observability.health import Health
from broker.observability.metrics import Counters
from broker.settings import Address

CONCURRENT_REQUESTS = 64
"""Further ones get 503: a scraper gone wild must not slow the clients down."""

SHUTDOWN_SECONDS = 1
"""How long requests may go on once the node stops."""


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
    *,
    task_status: TaskStatus[Address] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP on `address` until cancelled, with `routes` beside those of `make_app`; `started` tells the
    address with the port it got.

    StartError if that address can't be had.
    """
    listener = await _bind(address)
    server = _Server(
        uvicorn.Config(
            make_app(health, counters, routes),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONCURRENT_REQUESTS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )
    task_status.started(Address(address.host, listener.getsockname()[1]))
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
