"""Connections from a listening socket to their protocol objects, by both kinds of event loops."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Final

import pytest
import uvloop

from broker.client import Peer
from broker.listeners.acceptor import Acceptor
from broker.listeners.admission import Visit
from broker.listeners.introducing import MakeProtocol
from tests.listeners.visiting import admission

RUN: Final = {"uvloop": uvloop.run, "asyncio": asyncio.run}

Run = Callable[[Coroutine[object, object, None]], None]

pytestmark = pytest.mark.parametrize("run", RUN.values(), ids=RUN)


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


def _acceptor(listening: socket.socket, make_protocol: MakeProtocol, *, banned: str = "") -> Acceptor:
    gate = admission().gate("tcp", 0, 0.0)
    return Acceptor(listening, gate, None, make_protocol, lambda _: None, lambda host: host == banned)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_has_a_protocol_object_that_knows_its_peer(
    run: Run, family: socket.AddressFamily
) -> None:
    peers: list[Peer | None] = []

    def make_protocol(peer: Peer | None, visit: Visit) -> asyncio.BaseProtocol:
        peers.append(peer)
        return _Echo(visit)

    async def scenario() -> None:
        listening = _listening(family)
        acceptor = _acceptor(listening, make_protocol)
        reader, writer = await asyncio.open_connection(*listening.getsockname()[:2])
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert peers == [writer.get_extra_info("sockname")]
        writer.close()
        await writer.wait_closed()
        acceptor.close()

    run(scenario())


def test_a_connection_that_comes_to_nothing_is_closed(run: Run) -> None:
    def make_protocol(peer: Peer | None, visit: Visit) -> asyncio.BaseProtocol:
        raise RuntimeError("no protocol object")

    async def scenario() -> None:
        listening = _listening()
        acceptor = _acceptor(listening, make_protocol)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        acceptor.close()

    run(scenario())


def test_nothing_is_left_of_connections_that_have_ended(run: Run) -> None:
    async def scenario() -> None:
        listening = _listening()
        acceptor = _acceptor(listening, lambda _, visit: _Echo(visit))

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
        acceptor.close()

    run(scenario())


def test_who_is_banned_is_closed_before_anything_is_made(run: Run) -> None:
    made: list[Peer | None] = []

    def make_protocol(peer: Peer | None, visit: Visit) -> asyncio.BaseProtocol:
        made.append(peer)
        return _Echo(visit)

    async def scenario() -> None:
        listening = _listening()
        acceptor = _acceptor(listening, make_protocol, banned="127.0.0.1")
        with pytest.raises(ConnectionResetError):  # perhaps before it is open
            await _end_of(await asyncio.open_connection(*listening.getsockname()))
        acceptor.close()

    run(scenario())
    assert made == []
