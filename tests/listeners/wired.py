"""Connections without transports of the event loop, and what sees them: protocol objects and peers."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import uvloop

from broker.client.transport import Transport
from broker.listeners.transports import Transports
from broker.listeners.wires import Wire, Wires, open_wires

RUN: Final = {"uvloop": uvloop.run, "asyncio": asyncio.run}
AT_ONCE: Final = struct.pack("ii", 1, 0)

Run = Callable[[Coroutine[object, object, None]], None]

each_loop = pytest.mark.parametrize("run", RUN.values(), ids=RUN)


class Noting:
    """A protocol object that notes what it is told."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.transport: Transport | None = None
        self.is_reading = True
        self.received = b""
        self.told: list[str] = []
        self.ends: list[Exception | None] = []

    def connection_made(self, transport: Wire) -> None:
        self.wire = self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.ends.append(error)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.001)


def wire_of(protocol: Noting) -> Wire:
    assert protocol.wire is not None
    return protocol.wire


def opened(new_seconds: float = 3600.0) -> Wires:
    wires = open_wires(new_seconds)
    assert wires is not None
    return wires


def connected(wires: Wires, protocol: Any) -> socket.socket:
    """The peer of a new wire."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        taken, _ = server.accept()
        transports = Transports(server)
    peer.setblocking(False)
    try:
        wires.open(taken.detach(), lambda: protocol, transports)
    except BaseException:
        peer.close()
        raise
    return peer


@asynccontextmanager
async def wired(new_seconds: float = 3600.0) -> AsyncIterator[tuple[Wires, Noting, socket.socket]]:
    """Wires, the protocol object of one of them, and its peer; until that is told that it has ended."""
    wires, protocol = opened(new_seconds), Noting()
    with connected(wires, protocol) as peer:
        yield wires, protocol, peer
    await until(lambda: bool(protocol.ends))
    wires.close()


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    peer.close()


async def read_all(peer: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    received = bytearray()
    while data := await loop.sock_recv(peer, 1 << 20):
        received += data
    return bytes(received)


def fill(protocol: Noting, pattern: bytes) -> int:
    """Writes more than the kernel and the wire's limit take. How often `pattern` was written."""
    count = 0
    while "pause" not in protocol.told:
        wire_of(protocol).write(pattern)
        count += 1
    return count
