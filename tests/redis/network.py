"""The ways between the nodes and servers of a topology, which can be cut without anybody being told.

Theory of operation. Each server announces ports of its own network in place of its own ones, so everybody who
looks for it, by Sentinel, by a redirection or by the cluster bus, comes here, and the bytes are passed on.
Servers connect from a loopback address of their own (`bind-source-addr`), nodes from 127.0.0.1: so a way
knows who comes. A cut way reads nothing and says nothing: connections stay open, new ones are accepted and
silent, as packets get lost in a partition; what has been written arrives when it is mended.

It lives in a thread with a loop of its own, so it goes on while a test waits.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from tests.redis.server import HOST

NODES: Final = HOST
"""The source address of everybody but servers."""


def address_of(number: int) -> str:
    """The source address of a server."""
    return f"127.0.9.{number + 1}"


@dataclass(frozen=True, slots=True)
class Cut:
    """What is lost: between this server and these sources; `*`: all other servers."""

    server: str
    source: str


class _Half(asyncio.Protocol):
    """One of the two connections of a way."""

    def __init__(self, way: "_Way") -> None:
        self.way = way
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.way.made(self)

    def data_received(self, data: bytes) -> None:
        self.way.pass_on(self, data)

    def pause_writing(self) -> None:
        self.way.pause(self, True)

    def resume_writing(self) -> None:
        self.way.pause(self, False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.way.end()


class _Way:
    """From one connection to a port of a server, to the server."""

    def __init__(self, network: "Network", server: str, port: int) -> None:
        self.server = server
        self.source = ""
        self.is_cut = False
        self._network = network
        self._port = port
        self._near = _Half(self)
        self._far = _Half(self)
        self._early: list[bytes] = []
        self._held: set[_Half] = set()  # whoever can't write at the moment

    @property
    def near(self) -> asyncio.Protocol:
        """The side of who comes."""
        return self._near

    def made(self, half: _Half) -> None:
        """One of the two connections is there."""
        assert half.transport is not None
        if half is self._near:
            self.source = half.transport.get_extra_info("peername")[0]
            self._network.ways.add(self)
            self.look()
            self._network.spawn(self._open())
        else:
            half.transport.writelines(self._early)
            self._early.clear()
            self._flow()

    def look(self) -> None:
        """Whether it is cut has changed, perhaps."""
        self.is_cut = self._network.is_cut(self.server, self.source)
        self._flow()

    def pass_on(self, half: _Half, data: bytes) -> None:
        """To the other side."""
        other = self._other(half)
        if other.transport is None:
            self._early.append(data)
        else:
            other.transport.write(data)

    def pause(self, half: _Half, is_full: bool) -> None:
        """It can't take more, or can again."""
        (self._held.add if is_full else self._held.discard)(half)
        self._flow()

    def end(self) -> None:
        """Of both connections."""
        self._network.ways.discard(self)
        for half in (self._near, self._far):
            if half.transport is not None:
                half.transport.close()

    def _flow(self) -> None:
        for half in (self._near, self._far):
            if half.transport is None or half.transport.is_closing():
                continue
            if self.is_cut or self._other(half) in self._held:
                half.transport.pause_reading()
            else:
                half.transport.resume_reading()

    def _other(self, half: _Half) -> _Half:
        return self._far if half is self._near else self._near

    async def _open(self) -> None:
        await self._network.until_mended(self)
        try:
            await asyncio.get_running_loop().create_connection(lambda: self._far, HOST, self._port)
        except OSError:
            self.end()


class Network:
    """Started when it is made; `close` ends it."""

    def __init__(self) -> None:
        self.ways: set[_Way] = set()
        self._cuts: set[Cut] = set()
        self._addresses: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._mended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def enter(self, server: str, address: str) -> None:
        """A server, by its name, will come from this address."""
        self._addresses[server] = address

    def open_port(self, server: str, port: int, announced: int) -> None:
        """Whoever connects to `announced` is connected to `port` of this server."""

        async def listen() -> None:
            listener = socket.create_server((HOST, announced), backlog=512)
            self._servers.append(
                await self._loop.create_server(lambda: _Way(self, server, port).near, sock=listener)
            )

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result()

    def cut(self, *cuts: Cut) -> None:
        """From now on these are lost, too."""
        self._change(lambda: self._cuts.update(cuts))

    def mend(self, *cuts: Cut) -> None:
        """These are not lost any more."""
        self._change(lambda: self._cuts.difference_update(cuts))

    def close(self) -> None:
        """Ends all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # In its loop

    def is_cut(self, server: str, source: str) -> bool:
        """Whether nothing passes between the two."""
        is_server = source != NODES
        return (
            Cut(server, source) in self._cuts
            or (is_server and Cut(server, "*") in self._cuts)
            or any(cut.source == "*" and self._addresses[cut.server] == source for cut in self._cuts)
        )

    async def until_mended(self, way: _Way) -> None:
        """Until something passes."""
        while way.is_cut:
            self._mended.clear()
            await self._mended.wait()

    def spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        """Runs what opens a connection."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _change(self, change: Callable[[], None]) -> None:
        async def apply() -> None:
            change()
            for way in list(self.ways):
                way.look()
            self._mended.set()

        asyncio.run_coroutine_threadsafe(apply(), self._loop).result()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        for way in list(self.ways):
            way.end()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
