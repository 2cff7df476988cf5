"""picows and `WebSocket` by themselves: whatever the split into frames and chunks, the Client gets all."""

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import Coroutine, Iterable, Iterator
from functools import partial
from itertools import pairwise

import anyio
import anyio.to_thread
import pytest
from anyio.abc import TaskGroup
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.client import Client, Entrance
from broker.listeners import ListenerSurroundings, open_listener
from broker.listeners.admission import Visit
from broker.listeners.upgrade import Pages
from broker.listeners.websocket import FRAME_MINIMUM_BYTES, WebSocket, WebSocketOptions, websocket_protocol
from broker.mqtt import MqttError
from broker.observability.metrics import Counters, Tally
from broker.settings import Address, Kind, LimitSettings, ListenerAddress, ListenerSettings
from tests.listeners.frames import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    Frame,
    Peer,
    frame,
    read_frame,
    request,
    trusting,
)
from tests.listeners.visiting import admission, visit
from tests.tools import Certificate


def _is_never(address: str) -> bool:
    return False


class Recorder:
    """In place of a Client."""

    def __init__(self) -> None:
        self.transport: WebSocket | None = None
        self.chunks: list[bytes] = []
        self.failures: list[MqttError] = []
        self.blocked: list[bool] = []
        self.is_lost = False

    def connection_made(self, transport: WebSocket) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)

    def pause_writing(self) -> None:
        self.blocked.append(True)

    def resume_writing(self) -> None:
        self.blocked.append(False)

    def fail(self, error: MqttError) -> None:
        self.failures.append(error)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self.transport = None  # as a Client does


class Below(asyncio.Transport):
    """A transport of the event loop that writes to nobody. picows writes to the socket by itself if nothing
    waits in here; so something always does."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock, "peername": ("192.0.2.1", 5)})
        self._waiting: list[bytes | bytearray | memoryview] = []
        self.reading: list[bool] = []
        self.closings = 0

    def get_write_buffer_size(self) -> int:
        return 1

    @property
    def written(self) -> bytes:
        """What would leave now: views are looked at only then, as uvloop does."""
        return b"".join(self._waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._waiting.append(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._waiting.extend(list_of_data)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Nothing ever comes."""

    def pause_reading(self) -> None:
        self.reading.append(False)

    def resume_reading(self) -> None:
        self.reading.append(True)

    def close(self) -> None:
        self.closings += 1

    abort = close


class Room:
    """A connection without a network, past the request."""

    def __init__(self, sock: socket.socket) -> None:
        self.client = Recorder()
        self.below = Below(sock)
        options = WebSocketOptions("/mqtt", Pages(None, False), 1000, 10.0, Tally())
        client = self.client

        def connect(_peer: object, _visit: Visit) -> Client:
            return client  # type: ignore[return-value]  # what is used of it

        self.protocol = websocket_protocol(connect, options, None, visit())
        self.protocol.connection_made(self.below)

    def feed(self, data: bytes, *, at_once: int = 1 << 30) -> None:
        """As the event loop would, `at_once` bytes at a time."""
        assert isinstance(self.protocol, asyncio.BufferedProtocol)
        while data:
            view = memoryview(self.protocol.get_buffer(-1))
            size = min(len(view), at_once, len(data))
            view[:size] = data[:size]
            self.protocol.buffer_updated(size)
            data = data[size:]

    def frames(self) -> list[Frame]:
        """What it has written after the answer to the request."""
        rest = self.below.written.partition(b"\r\n\r\n")[2]
        found = []
        while (read := read_frame(rest)) is not None:
            found.append(read[0])
            rest = rest[read[1] :]
        assert not rest
        return found


@pytest.fixture(scope="module")
def sock() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


CUTS = st.lists(st.integers(0, 400), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    stream=st.binary(min_size=1, max_size=400),
    cuts=CUTS,
    joined=st.lists(st.booleans(), min_size=9, max_size=9),
    pings=st.sets(st.integers(0, 9)),
    at_once=st.integers(1, 300),
)
def test_any_split_gives_the_same_bytes(
    sock: socket.socket, stream: bytes, cuts: list[int], joined: list[bool], pings: set[int], at_once: int
) -> None:
    """Into frames, whole messages or parts of one, with pings between them, and into chunks of TCP."""
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[start:end] for start, end in pairwise(places)]
    sent = request()
    in_message = False
    for number, part in enumerate(parts):
        goes_on = joined[number] and number < len(parts) - 1
        sent += frame(CONTINUATION if in_message else BINARY, part, fin=not goes_on)
        in_message = goes_on
        if number in pings:
            sent += frame(PING, bytes([number]))

    async def run() -> Room:
        room = Room(sock)
        room.feed(sent, at_once=at_once)
        return room

    room = asyncio.run(run())
    assert b"".join(room.client.chunks) == stream
    answered = [Frame(PONG, bytes([number])) for number in sorted(pings) if number < len(parts)]
    assert room.frames() == answered
    assert not room.client.failures


def test_a_chunk_of_many_frames_is_one_chunk_for_the_client(sock: socket.socket) -> None:
    async def run() -> Room:
        room = Room(sock)
        room.feed(request())
        room.feed(frame(BINARY, b"a") * 3 + frame(PING) + frame(BINARY, b"b") + frame(BINARY, b"c" * 90)[:50])
        return room

    room = asyncio.run(run())
    assert room.client.chunks == [b"aaa", b"b"]


def test_while_the_peer_does_not_read_only_the_last_ping_is_kept(sock: socket.socket) -> None:
    async def run() -> Room:
        room = Room(sock)
        room.feed(request())
        room.protocol.pause_writing()
        for number in range(100):
            room.feed(frame(PING, bytes([number])))
        assert room.frames() == []
        room.protocol.resume_writing()
        return room

    room = asyncio.run(run())
    assert room.frames() == [Frame(PONG, bytes([99]))]
    assert room.client.blocked == [True, False]


@pytest.mark.parametrize("size", [0, 125, 126, 8192, 8193, 65_535, 65_536, 300_000])
def test_two_writes_of_any_size_in_one_tick(sock: socket.socket, size: int) -> None:
    """Each is a frame; the second must not spoil the first, which may still wait in the loop."""

    async def run() -> Room:
        room = Room(sock)
        room.feed(request())
        assert room.client.transport is not None
        room.client.transport.write(b"x" * size)
        room.client.transport.write(b"end")
        return room

    room = asyncio.run(run())
    assert room.frames() == [Frame(BINARY, b"x" * size), Frame(BINARY, b"end")]


def test_it_reads_a_bounded_piece_at_once(sock: socket.socket) -> None:
    """However much a fast client sends; picows' buffer would double each time that it is filled."""

    async def run() -> None:
        room = Room(sock)
        room.feed(request())
        assert isinstance(room.protocol, asyncio.BufferedProtocol)
        room.feed(frame(BINARY, bytes(30_000)) * 100)
        assert len(memoryview(room.protocol.get_buffer(-1))) == 65_536
        assert max(map(len, room.client.chunks)) < 3 * 65_536
        assert sum(map(len, room.client.chunks)) == 3_000_000

    asyncio.run(run())


def test_a_frame_may_be_larger_than_a_small_packet_maximum(sock: socket.socket) -> None:
    """As it may hold several packets; but not without limit."""

    async def run() -> Room:
        room = Room(sock)
        room.feed(request() + frame(BINARY, bytes(FRAME_MINIMUM_BYTES)))
        assert not room.client.failures
        room.feed(frame(BINARY, bytes(FRAME_MINIMUM_BYTES + 1))[:10])
        return room

    room = asyncio.run(run())
    assert [str(failure) for failure in room.client.failures] == ["not the frames of WebSocket"]
    assert [frame.close_code for frame in room.frames()] == [1009]


def test_reading_is_paused_below_and_goes_on_for_the_close_frame(sock: socket.socket) -> None:
    async def run() -> Room:
        room = Room(sock)
        room.feed(request())
        transport = room.client.transport
        assert transport is not None
        assert transport.get_extra_info("peername") == ("192.0.2.1", 5)
        below = room.below
        transport.pause_reading()
        transport.resume_reading()
        transport.pause_reading()
        assert below.reading == [False, True, False]
        transport.close()
        transport.pause_reading()  # no more
        assert below.reading == [False, True, False, True]
        transport.write(b"late")
        room.feed(frame(BINARY, b"late"))
        assert below.closings == 0
        room.feed(frame(0x8, b"\x03\xe8"))
        assert below.closings == 1
        room.protocol.connection_lost(None)
        return room

    room = asyncio.run(run())
    assert room.client.is_lost
    assert room.client.chunks == []
    assert [frame.close_code for frame in room.frames()] == [1000]


@pytest.mark.parametrize("kind", [Kind.WS, Kind.WSS, Kind.TLS])
@pytest.mark.parametrize(
    "sent", [b"", request("/other"), b"GARBAGE\r\n\r\n", request() + frame(BINARY, b"x")]
)
def test_nothing_of_a_connection_stays_in_memory(certificate: Certificate, kind: Kind, sent: bytes) -> None:
    """In the event loop of a node, without the garbage collector, which a node runs very seldom."""
    alive: weakref.WeakSet[Recorder] = weakref.WeakSet()

    def connect(_entrance: Entrance, _peer: object, _visit: Visit) -> Client:
        made = Recorder()
        alive.add(made)
        return made  # type: ignore[return-value]  # what is used of it

    async def run() -> list[str]:
        files = {"certificate": certificate.file, "key": certificate.key} if kind.is_secure else {}
        address = ListenerAddress(kind, Address("127.0.0.1", 0), "/mqtt" if kind.is_websocket else "")
        async with anyio.create_task_group() as tasks:
            around = ListenerSurroundings(
                connect,
                partial(_start, tasks),
                Counters(),
                10,
                False,
                1000,
                lambda _: True,
                _nobody_is_revoked,
                admission(),
                LimitSettings(),
                _is_never,
            )
            listener = await open_listener(
                "it", ListenerSettings.model_validate({"address": address, **files}), around
            )
            place = listener.settings.address.address
            assert isinstance(place, Address)
            await anyio.to_thread.run_sync(_visit, place.port, trusting(str(certificate.file)), kind, sent)
            listener.close()
            tasks.cancel_scope.cancel()  # the files of TLS are looked at for ever
        await anyio.sleep(0.02)  # picows closes a little later
        kept = {"_Framing", "WSTransport", "WebSocket", "SSLObject", "_Handshake"}
        return [name for name in (type(one).__name__ for one in gc.get_objects()) if name in kept]

    gc.collect()
    gc.disable()
    try:
        assert anyio.run(run, backend_options={"use_uvloop": True}) == []
        assert not alive
    finally:
        gc.enable()


async def _nobody_is_revoked(_listener: str) -> None:
    pass


def _start(tasks: TaskGroup, work: Coroutine[object, object, None]) -> None:
    tasks.start_soon(_run, work)


async def _run(work: Coroutine[object, object, None]) -> None:
    await work


def _visit(port: int, context: ssl.SSLContext, kind: Kind, sent: bytes) -> None:
    """Connects, says it, closes in order if it can, and waits until the other side has closed."""
    with Peer(port, context if kind.is_secure else None) as peer:
        if sent:
            peer.send(sent)
        if sent.startswith(request()) and kind.is_websocket:
            peer.send(frame(0x8, b"\x03\xe8"))
            peer.wait_eof()
