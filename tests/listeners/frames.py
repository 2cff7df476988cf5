"""WebSocket as the test says, byte by byte: frames made by hand, good ones and bad ones."""

import base64
import os
import socket
import ssl
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
SECONDS = 5.0
HEADERS = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    "Sec-WebSocket-Protocol": "mqtt",
}
"""Of a good request."""

ACCEPT = "ICX+Yqv66kxgM0FcWaLWlFLwTAI="
"""What a server makes of that key."""


@dataclass(frozen=True)
class Frame:
    """One that has come."""

    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def close_code(self) -> int:
        """Of a close frame."""
        assert self.opcode == CLOSE
        return int.from_bytes(self.payload[:2])


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, bits: int = 0, masked: bool = True
) -> bytes:
    """A frame as a client sends it."""
    size = len(payload)
    mask_bit = 0x80 if masked else 0
    head = bytes([opcode | bits | (FIN if fin else 0)])
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 65_536:
        head += bytes([mask_bit | 126]) + size.to_bytes(2)
    else:
        head += bytes([mask_bit | 127]) + size.to_bytes(8)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = int.from_bytes((mask * (size // 4 + 1))[:size])
    return head + mask + (int.from_bytes(payload) ^ repeated).to_bytes(size)


def request(path: str = "/mqtt", headers: dict[str, str | None] | None = None) -> bytes:
    """A request for WebSocket, with other headers where they are given; None leaves one out."""
    given = {**HEADERS, **(headers or {})}
    lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


def read_frame(data: bytes) -> tuple[Frame, int] | None:
    """The first frame of a server, and its size; None if there is more to come."""
    if len(data) < 2:
        return None
    assert not data[1] & 0x80, "masked by the server"
    size, head = data[1], 2
    if size >= 126:
        head = 4 if size == 126 else 10
        size = int.from_bytes(data[2:head])
    if len(data) < head + size:
        return None
    return Frame(data[0] & 0x0F, data[head : head + size], bool(data[0] & FIN)), head + size


def trusting(certificate: str) -> ssl.SSLContext:
    """A client's side of TLS."""
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols(["mqtt", "http/1.1"])
    return context


class Peer:
    """A socket on which WebSocket is spoken, or tried."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain if context is None else context.wrap_socket(plain, server_hostname="localhost")
        self._data = bytearray()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        """In one piece."""
        self.socket.sendall(b"".join(frames))

    def ask(self, asked: bytes) -> tuple[int, dict[str, str]]:
        """Sends a request; status and headers of the answer."""
        self.socket.sendall(asked)
        while b"\r\n\r\n" not in self._data:
            self._read()
        head, _, rest = bytes(self._data).partition(b"\r\n\r\n")
        self._data = bytearray(rest)
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value for name, value in headers.items()}

    def upgrade(self, subprotocol: str = "mqtt") -> "Peer":
        """The opening handshake."""
        status, headers = self.ask(request(headers={"Sec-WebSocket-Protocol": subprotocol}))
        assert status == 101, headers
        return self

    def next(self) -> Frame:
        """The next frame. ConnectionError if the peer has closed."""
        while (found := read_frame(bytes(self._data))) is None:
            self._read()
        taken, size = found
        del self._data[:size]
        return taken

    def wait_closed(self, *, answers: bool = True) -> list[Frame]:
        """What comes until the node closes the socket; its close frame is answered."""
        frames: list[Frame] = []
        while True:
            try:
                frames.append(self.next())
                if answers and frames[-1].opcode == CLOSE:
                    self.send(frame(CLOSE, frames[-1].payload))
            except OSError:
                return frames

    def wait_eof(self) -> None:
        """Waits until the node closes, whatever it says before."""
        while self.socket.recv(65_536):
            pass

    def _read(self) -> None:
        chunk = self.socket.recv(65_536)
        if not chunk:
            raise ConnectionError("closed by the node")
        self._data += chunk


class Carrier(socket.socket):
    """For a `WireClient`: what it sends leaves as one binary frame, what it reads are payloads."""

    def __init__(self, peer: Peer) -> None:
        super().__init__()  # never connected
        self.peer = peer

    def settimeout(self, seconds: float | None) -> None:
        self.peer.socket.settimeout(seconds)

    def setsockopt(self, *option: object) -> None:
        self.peer.socket.setsockopt(*option)  # type: ignore[call-overload]  # whatever it is

    def sendall(self, data: object, flags: int = 0) -> None:
        assert isinstance(data, bytes)
        self.peer.send(frame(BINARY, data))

    def recv(self, size: int, flags: int = 0) -> bytes:
        while True:
            received = self.peer.next()
            if received.opcode == BINARY:
                return received.payload
            if received.opcode == CLOSE:
                return b""

    def close(self) -> None:
        self.peer.socket.close()
        super().close()
