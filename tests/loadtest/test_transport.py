"""Connections of the load, from the side of what they connect to."""

import asyncio
import socket

import pytest
import uvloop

from loadtest.target import Scheme, Target
from loadtest.transport import open_transport


def test_a_websocket_is_closed_when_its_cancellation_is_over() -> None:
    """Another connection has failed. An event loop that ends before complains of what is still open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        target = Target("127.0.0.1", listener.getsockname()[1], Scheme("ws"), name="localhost")

        async def cancel() -> bytes:
            loop = asyncio.get_running_loop()
            opening = asyncio.ensure_future(open_transport(asyncio.Protocol(), target))
            served, _ = await loop.sock_accept(listener)
            with served:
                assert (await loop.sock_recv(served, 4096)).startswith(b"GET /mqtt ")
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
                served.setblocking(False)
                return served.recv(1)  # BlockingIOError if it is open

        assert uvloop.run(cancel()) == b""
