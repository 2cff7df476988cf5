"""What is fuzzed of the listeners: the header of a proxy, the request for WebSocket, and its frames."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final

from broker.client import Client, Peer
from broker.listeners.admission import Visit
from broker.listeners.proxy_header import HEADER_MAXIMUM, BadHeader, Header, parse_header
from broker.listeners.upgrade import Pages
from broker.listeners.websocket import FRAME_MINIMUM_BYTES, WebSocket, WebSocketOptions, websocket_protocol
from broker.mqtt import MqttError
from broker.observability.metrics import Tally
from tests.fuzz.cuts import cut
from tests.listeners.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    Frame,
    read_frame,
    request,
)
from tests.listeners.proxy_headers import HEALTH_CHECK, UNKNOWN, V4, V6, binary_header, text_header
from tests.listeners.visiting import visit

_REQUEST: Final = request()
_AFTER_REQUEST: Final = 1
_LISTED: Final = 2
_BLOCKED: Final = 4


# The header of a proxy


def _proxy(mode: int, sizes: bytes, data: bytes) -> None:
    whole = _header([data])
    for pieces in (cut(sizes, data), [data[at : at + 1] for at in range(len(data))]):
        assert _header(pieces) == whole
    if isinstance(whole, Header):
        assert 0 < whole.size <= min(len(data), HEADER_MAXIMUM)
        assert whole.origin is None or str(ip_address(whole.origin.host)) == whole.origin.host
    elif whole is None:
        assert len(data) < HEADER_MAXIMUM


def _header(pieces: Iterable[bytes]) -> Header | type[BadHeader] | None:
    begun = b""
    for piece in pieces:
        begun += piece
        try:
            header = parse_header(begun)
        except BadHeader:
            return BadHeader
        if header is not None:
            return header
    return None


# WebSocket


class Errors(logging.Handler):
    """A line of the log of picows is an error that was caught: a bug."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


class _Client:
    """In place of a Client: keeps what comes, and closes when the frames are broken, as a Client does."""

    def __init__(self) -> None:
        self.transport: WebSocket | None = None
        self.data = b""
        self.failures: list[MqttError] = []
        self.losses = 0

    def connection_made(self, transport: WebSocket) -> None:
        assert self.transport is None
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert not self.failures
        self.data += data

    def pause_writing(self) -> None:
        """As told by the loop."""

    resume_writing = pause_writing

    def fail(self, error: MqttError) -> None:
        assert not self.failures
        self.failures.append(error)
        assert self.transport is not None
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.losses += 1


class _Below(asyncio.Transport):
    """A transport of the event loop that keeps what is written. picows would write to the socket by itself if
    nothing waited here; so something always does."""

    def __init__(self) -> None:
        super().__init__({"socket": _NOWHERE, "peername": ("192.0.2.1", 5)})
        self._written: list[bytes | bytearray | memoryview] = []
        self.is_closed = False

    def get_write_buffer_size(self) -> int:
        return 1

    @property
    def written(self) -> bytes:
        return b"".join(self._written)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written.append(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._written.extend(list_of_data)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Of one that has ended."""

    def pause_reading(self) -> None:
        """Nothing is read."""

    resume_reading = pause_reading

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    abort = close


_NOWHERE: Final = socket.socket()


def _websocket(mode: int, sizes: bytes, data: bytes) -> None:
    stream = _REQUEST + data if mode & _AFTER_REQUEST else data
    whole = _talk(mode, [stream])
    parts = _talk(mode, cut(sizes, stream))
    assert whole[1:] == parts[1:]
    # What comes in the chunk in which the frames break may be lost, as the connection is.
    assert whole[0].startswith(parts[0]) or parts[0].startswith(whole[0])
    assert whole[1] or whole[0] == parts[0]


def _talk(mode: int, pieces: list[bytes]) -> tuple[bytes, bool, bool]:
    """What the Client got, whether the frames were broken, and whether there was a Client at all."""
    return _loop().run_until_complete(_talk_in_loop(mode, pieces))


async def _talk_in_loop(mode: int, pieces: list[bytes]) -> tuple[bytes, bool, bool]:
    made: list[_Client] = []

    def connect(_peer: Peer | None, _visit: Visit) -> Client:
        made.append(_Client())
        return made[-1]  # type: ignore[return-value]  # what is used of it

    pages = Pages(frozenset({"https://app.example"}) if mode & _LISTED else None, False)
    below = _Below()
    failed = Tally()
    options = WebSocketOptions("/mqtt", pages, 1000, 10.0, failed)
    protocol = websocket_protocol(connect, options, None, visit())
    assert isinstance(protocol, asyncio.BufferedProtocol)
    protocol.connection_made(below)
    if mode & _BLOCKED:
        protocol.pause_writing()
    for piece in pieces:
        _feed(protocol, below, piece)
    if mode & _BLOCKED and not below.is_closed:
        protocol.resume_writing()
    protocol.connection_lost(None)
    is_open = bool(made) and made[0].transport is not None
    _check(below.written, is_open)
    assert (sum(count for _, count in failed.items()) == 0) == is_open
    client = made[0] if made else _Client()
    assert client.losses == is_open
    return client.data, bool(client.failures), is_open


def _feed(protocol: asyncio.BufferedProtocol, below: _Below, piece: bytes) -> None:
    while piece and not below.is_closed:
        view = memoryview(protocol.get_buffer(-1))
        assert 0 < len(view) <= FRAME_MINIMUM_BYTES
        size = min(len(view), len(piece))
        view[:size] = piece[:size]
        protocol.buffer_updated(size)
        piece = piece[size:]


def _check(written: bytes, is_open: bool) -> None:
    """An answer to the request, if there was one, and then frames; nothing behind a close frame."""
    head, _, rest = written.partition(b"\r\n\r\n")
    assert not head or head.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 4"))
    assert not is_open or head.startswith(b"HTTP/1.1 101 ")
    if not is_open:
        return
    frames: list[Frame] = []
    while (read := read_frame(rest)) is not None:
        frames.append(read[0])
        rest = rest[read[1] :]
    assert rest == b""
    closing = [frame for frame in frames if frame.opcode == CLOSE]
    assert len(closing) <= 1
    assert not closing or frames[-1] is closing[0]


_made: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """One for all inputs; whatever it has to say is a bug."""
    if not _made:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(_fail)
        logging.getLogger("broker.listeners.websocket").addHandler(Errors(logging.ERROR))
        _made.append(loop)
    return _made[0]


def _fail(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    raise AssertionError(context)


EDGE_TARGETS: Final[dict[bytes, Callable[[int, bytes, bytes], None]]] = {b"P": _proxy, b"W": _websocket}


def edge_seeds() -> list[bytes]:
    """Letter, mode and bytes; the sizes of chunks are put between."""
    headers = [
        text_header(V4, 5),
        text_header(V6, 5),
        binary_header(V4, 5, b"\x04\x00\x01x"),
        binary_header(V6, 65_535),
        UNKNOWN,
        HEALTH_CHECK,
    ]
    return [b"P\0" + header + b"behind" for header in headers] + _websocket_seeds()


def _websocket_seeds() -> list[bytes]:
    listed = request(headers={"Origin": "https://app.example"})
    other = request(headers={"Origin": "http://evil.example", "Host": "evil.example:8083"})
    whole = [_REQUEST, listed, other, request("/mqtt?x"), request("/"), request(headers={"Upgrade": "h2c"})]
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01x"
    frames = [
        _frame(BINARY, connect) + _frame(BINARY, b"\xc0\x00"),
        _frame(BINARY, connect[:5], fin=False) + _frame(PING, b"p") + _frame(CONTINUATION, connect[5:]),
        _frame(TEXT, b"x"),
        _frame(CONTINUATION, b"x"),
        _frame(BINARY, b"", fin=False) + _frame(BINARY, b"x"),
        _frame(PONG, b"") + _frame(CLOSE, b"\x03\xe8bye") + _frame(BINARY, b"late"),
        _frame(CLOSE, b""),
        _frame(CLOSE, b"\x03"),
        _frame(BINARY, b"x", bits=0x40),
        _frame(0x3, b"x"),
        _frame(PING, b"x", fin=False),
        b"\x82\xfe\x01\x00" + bytes(4) + bytes(256),
        b"\x82\xff" + (1 << 63).to_bytes(8) + bytes(4),
        b"\x82\xff" + (70_000).to_bytes(8) + bytes(4),
        b"\x82\x01x",
    ]
    found = [b"W\2" + each for each in whole] + [b"W\0" + other]
    found += [
        b"W" + bytes([mode]) + each for each in frames for mode in (_AFTER_REQUEST, _AFTER_REQUEST | _BLOCKED)
    ]
    return found


def _frame(opcode: int, payload: bytes, *, fin: bool = True, bits: int = 0) -> bytes:
    """With a mask that changes nothing: the same at each run, and easy to change."""
    return bytes([opcode | bits | (FIN if fin else 0), 0x80 | len(payload)]) + bytes(4) + payload
