"""Connections by TCP, TLS, WebSocket, WebSocket over TLS: the client sees the bytes of MQTT and a transport.

WebSocket is picows' business: the bytes of a chunk's frames go to the client together, what the client
writes at once is one frame.
"""

import asyncio
import contextlib
import logging
import socket
from typing import Final, Protocol, cast

from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from loadtest.target import Target, ssl_context

HANDSHAKE_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.001
_TAKEN_BYTES: Final = 1 << 28
_SENT_BYTES: Final = 1 << 16
_logger: Final = logging.Logger("picows", logging.ERROR)  # it has a line for each connection that is cut


class Transport(Protocol):
    """What a client needs of its connection."""

    def write(self, data: bytes) -> None:
        """Send."""

    def close(self) -> None:
        """Send what is left and close."""

    def abort(self) -> None:
        """Close at once."""

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""


async def open_transport(client: asyncio.Protocol, target: Target) -> None:
    """Connect a client, which is told by `connection_made`. Raises OSError."""
    loop = asyncio.get_running_loop()
    if target.scheme.is_websocket:
        await _open_websocket(client, target)
    elif target.scheme.is_secure:
        context = ssl_context(target.security)
        await loop.create_connection(
            lambda: client, target.host, target.port, ssl=context, server_hostname=target.name
        )
    else:
        await loop.create_connection(lambda: client, target.host, target.port)


async def _open_websocket(client: asyncio.Protocol, target: Target) -> None:
    name = f"[{target.name}]" if ":" in target.name else target.name
    framed = _Framed(client)
    opened: list[socket.socket] = []

    async def connect(_: object) -> socket.socket:
        opened.append(await _connected_socket(target))  # to the address that was checked
        return opened[-1]

    try:
        await ws_connect(
            lambda: framed,
            f"{target.scheme}://{name}:{target.port}{target.path}",
            ssl_context=ssl_context(target.security) if target.scheme.is_secure else None,
            websocket_handshake_timeout=HANDSHAKE_SECONDS,
            logger_name=_logger,
            max_frame_size=_TAKEN_BYTES,
            extra_headers={"Sec-WebSocket-Protocol": "mqtt"},  # [MQTT-6.0.0-3]
            max_redirects=0,
            socket_factory=connect,
            use_aiofastnet=False,  # it has noisy ends of TLS handshakes that fail
            server_hostname=target.name if target.scheme.is_secure else None,
        )
    except WSError as error:
        await _see_closed(opened)
        raise ConnectionError(str(error)) from error
    except asyncio.CancelledError:  # another connection failed: picows leaves this one as it is
        await _see_closed(opened)
        raise
    if framed.is_closing():  # which picows takes for an end like any other
        await _see_closed(opened)
        raise ConnectionResetError("closed before it answered the request for WebSocket")


async def _see_closed(opened: list[socket.socket]) -> None:
    """Close, and wait for it even if this is cancelled meanwhile: the event loop must not end before."""
    closing = asyncio.gather(*(_until_closed(one) for one in opened))
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
        raise


async def _until_closed(opened: socket.socket) -> None:
    """picows tells of a refusal before its transport has closed."""
    with contextlib.suppress(OSError):  # it is closed already, or the other side has done so
        opened.shutdown(socket.SHUT_RDWR)
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        while opened.fileno() >= 0:  # noqa: ASYNC110  # a socket tells nobody of its end
            await asyncio.sleep(_LOOK_SECONDS)
    await asyncio.sleep(_LOOK_SECONDS)  # what the loop has of it ends one turn later


async def _connected_socket(target: Target) -> socket.socket:
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(opened, (target.host, target.port))
    except BaseException:  # cancelled, too: nobody else knows of it
        opened.close()
        raise
    return opened


class _Framed(WSListener):
    """One WebSocket connection: the client's transport."""

    def __init__(self, client: asyncio.Protocol) -> None:
        self._client = client
        self._ws: WSTransport | None = None
        self._parts: list[bytes] = []  # of this chunk

    # From picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The request was answered by 101."""
        self._ws = transport
        self._client.connection_made(cast(asyncio.BaseTransport, self))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pings are answered by picows."""
        kind = frame.msg_type
        if kind is WSMsgType.BINARY or kind is WSMsgType.CONTINUATION:
            self._parts.append(frame.get_payload_as_bytes())
        if frame.last_in_buffer or kind is WSMsgType.CLOSE:
            self._give()
        if kind is WSMsgType.CLOSE:
            self.close()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is closed."""
        self._ws = None  # it leads back to us
        self._client.connection_lost(None)

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._client.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._client.resume_writing()

    def _give(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._client.data_received(parts[0] if len(parts) == 1 else b"".join(parts))

    # The client's transport

    def write(self, data: bytes) -> None:
        """One frame; several if there is much, as brokers have a limit."""
        if self._ws is None:
            return
        if len(data) <= _SENT_BYTES:
            self._ws.send(WSMsgType.BINARY, data)
            return
        for start in range(0, len(data), _SENT_BYTES):
            self._ws.send(WSMsgType.BINARY, data[start : start + _SENT_BYTES])

    def close(self) -> None:
        """Our close frame, then the socket: a load has nothing to hear any more."""
        if self._ws is not None and not self.is_closing():
            self._ws.send_close(WSCloseCode.OK)
            self._ws.disconnect()

    def abort(self) -> None:
        """The socket, at once."""
        if self._ws is not None:
            self._ws.disconnect(False)

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._ws is None or self._ws.underlying_transport.is_closing()
