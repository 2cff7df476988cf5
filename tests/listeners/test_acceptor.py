"""Connections from a listening socket to their protocol objects, by both kinds of event loops."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Final

import pytest
import uvloop

from broker.client import Peer
from broker.listeners.acceptor import Acceptor
from broker.listeners.admission import Visit
from broker.listeners.introducing import MakeProtocol
from broker.listeners.wires import Wires, open_wires
from tests.listeners.visiting import admission

RUN: Final = {"uvloop": uvloop.run, "asyncio": asyncio.run}

Run = Callable[[Coroutine[object, object, None]], None]
MakeWires = Callable[[], Wires | None]

pytestmark = [
    pytest.mark.parametrize("run", RUN.values(), ids=RUN),
    pytest.mark.parametrize("make_wires", [open_wires, lambda: None], ids=["wires", "transports"]),
]


class _Echo(asyncio.Protocol):
    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]  # uvloop's are none by name

    def connection_lost(self, exc: Exception | None) -> None:
        self._visit.leave()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _end_of(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    return await streams[0].read()


def _listening(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    listening = socket.socket(family)
    listening.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    listening.listen()
    listening.setblocking(False)
    return listening


@contextmanager
def _accepting(
    listening: socket.socket, make_protocol: MakeProtocol, wires: Wires | None, *, banned: str = ""
) -> Iterator[None]:
    gate = admission().gate("tcp", 0, 0.0)
    acceptor = Acceptor(
        listening, gate, None, make_protocol, lambda _: None, lambda host: host == banned, wires
    )
    yield
    acceptor.close()
    if wires is not None:
        wires.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_has_a_protocol_object_that_knows_its_peer(
    run: Run, make_wires: MakeWires, family: socket.AddressFamily
) -> None:
    peers: list[Peer | None] = []

    def make_protocol(peer: Peer | None, visit: Visit) -> asyncio.BaseProtocol:
        peers.append(peer)
        return _Echo(visit)

    async def scenario() -> None:
        listening = _listening(family)
        with _accepting(listening, make_protocol, make_wires()):
            reader, writer = await asyncio.open_connection(*listening.getsockname()[:2])
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            assert peers == [writer.get_extra_info("sockname")]
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_a_connection_that_comes_to_nothing_is_closed(run: Run, make_wires: MakeWires) -> None:
    def make_protocol(peer: Peer | None, visit: Visit) -> asyncio.BaseProtocol:
        raise RuntimeError("no protocol object")

    async def scenario() -> None:
        listening = _listening()
        with _accepting(listening, make_protocol, make_wires()):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_nothing_is_left_of_connections_that_have_ended(run: Run, make_wires: MakeWires) -> None:
    async def scenario() -> None:
        listening = _listening()
        with _accepting(listening, lambda _, visit: _Echo(visit), make_wires()):

            async def come_and_go() -> None:
                reader, writer = await asyncio.open_connection(*listening.getsockname())
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                writer.write_eof()
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()

            await come_and_go()  # the loop may open some files of its own
            before = _open_files()
            for _ in range(20):
                await come_and_go()
            assert _open_files() <= before

    run(scenario())


def test_who_is_banned_is_closed_before_anything_is_made(run: Run, make_wires: MakeWires) -> None:
    made: list[Peer | None] = []

    def make_protocol(peer: Peer | None, visit: Visit) -> asyncio.BaseProtocol:
        made.append(peer)
        return _Echo(visit)

    async def scenario() -> None:
        listening = _listening()
        with (
            _accepting(listening, make_protocol, make_wires(), banned="127.0.0.1"),
            pytest.raises(ConnectionResetError),  # perhaps before it is open
        ):
            await _end_of(await asyncio.open_connection(*listening.getsockname()))

    run(scenario())
    assert made == []
