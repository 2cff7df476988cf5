"""MQTT in the frames of WebSocket: a `Client` on one side, picows on the other.

Theory of operation: picows owns the bytes of the socket, and calls `WebSocket` with each frame. Payloads of
one chunk are put together and given to the Client as it would get a chunk of TCP; where frames begin and end
means nothing to it [MQTT-6.0.0-2]. To the Client a `WebSocket` is its transport.

Four things are done here as picows does them otherwise: it reads as much at once as the kernel has, into a
buffer that never shrinks; it answers pings also while the peer does not read; it wants `Connection` to be
`Upgrade` and nothing else, which that of Firefox is not; and while a large frame waits for a slow peer, the
next one overwrites its header (2.3.1 with uvloop).
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # left out of its stubs

from broker.client import Client, Peer
from broker.listeners.admission import Visit
from broker.listeners.upgrade import Pages, Refusal, choose_subprotocol
from broker.mqtt import ProtocolError
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally

FRAME_MINIMUM_BYTES: Final = 65_536
"""A frame may be as large as that whatever `mqtt.maximum_packet_size` is: it may hold several packets."""

CLOSE_SECONDS: Final = 1.0
"""How long the peer has to answer our close frame."""

_READ_BYTES: Final = 65_536
_FIRST_BUFFER_BYTES: Final = 4096
_COPIED_BYTES: Final = 8192  # up to here picows copies what it is given before it returns

logger = get_logger(__name__)


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """picows has lines for each connection and each broken frame, as we have. Our bugs are let through.

    Of a plain Logger it would make a child for each connection.
    """

    def exception(self, msg: object, *args: object, **_: object) -> None:
        logger.exception(msg, *args)


_quiet: Final = _Quiet(logging.Logger("picows", logging.CRITICAL + 1))


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """What holds for all connections of a listener."""

    path: str
    pages: Pages
    maximum_packet_size: int
    handshake_timeout_seconds: float
    failed: Tally
    """Counts requests that did not lead to a connection."""


def websocket_protocol(
    connect: Callable[[Peer | None, Visit], Client],
    options: WebSocketOptions,
    peer: Peer | None,
    visit: Visit,
) -> asyncio.BaseProtocol:
    """For a connection on which the request has yet to come; `peer` as far as it is known before there is a
    transport."""
    return _Framing(partial(connect, peer, visit), options, peer, visit)


class _Nobody(asyncio.BufferedProtocol):
    """The protocol of connections that have ended."""


_nobody: Final = _Nobody()


class _Door:
    """Answers the request. picows may keep what answers, so it must not lead back to the protocol object:
    what refers to itself stays in memory until a full collection, and there is hardly ever one."""

    __slots__ = ("_connect", "_pages", "_path", "refusal", "socket")

    def __init__(self, connect: Callable[[], Client], path: str, pages: Pages) -> None:
        self._connect = connect
        self._path = path
        self._pages = pages
        self.socket: WebSocket | None = None
        self.refusal: Refusal | None = None

    def answer(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        answer: Refusal | str | None = self._pages.refusal(request.headers)
        if answer is None:
            answer = choose_subprotocol(self._path, request.path, request.headers)
        if isinstance(answer, Refusal):
            self.refusal = answer
            body = f"{answer.reason}\n".encode()
            refusal = WSUpgradeResponse.create_error_response(answer.status, body, answer.headers)
            return WSUpgradeResponseWithListener(refusal, None)
        request.headers["Connection"] = "Upgrade"  # it was in there
        self.socket = WebSocket(self._connect())
        accepted = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": answer})
        return WSUpgradeResponseWithListener(accepted, self.socket)


class _Framing(WSProtocol):  # type: ignore[misc]  # as above
    """picows, with what the module's docstring says."""

    __slots__ = ("_door", "_failed", "_peer", "_visit")

    def __init__(
        self, connect: Callable[[], Client], options: WebSocketOptions, peer: Peer | None, visit: Visit
    ) -> None:
        self._door = _Door(connect, options.path, options.pages)
        self._visit = visit
        self._failed = options.failed
        self._peer: object = peer
        super().__init__(
            None,
            None,
            False,
            self._door.answer,
            _quiet,
            True,
            options.handshake_timeout_seconds,
            False,
            0,
            0,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,
            max(options.maximum_packet_size, FRAME_MINIMUM_BYTES),
            None,
            _FIRST_BUFFER_BYTES,
        )

    def connection_made(self, transport: asyncio.Transport) -> None:
        if self._peer is None:
            self._peer = transport.get_extra_info("peername")
        self._visit.when_evicted(transport.abort)
        super().connection_made(transport)

    def get_buffer(self, hint: int) -> memoryview:
        whole: memoryview = super().get_buffer(hint)
        return whole[:_READ_BYTES]

    def buffer_updated(self, size: int) -> None:
        super().buffer_updated(size)
        socket = self._door.socket
        if socket is not None and self.transport.is_close_frame_sent:
            socket.frames_are_broken()

    def connection_lost(self, error: Exception | None) -> None:
        was_open = self._door.socket is not None and self._door.socket.was_open
        super().connection_lost(error)
        self._visit.leave()
        if not was_open:
            refusal = self._door.refusal
            is_page = refusal is not None and refusal.status is HTTPStatus.FORBIDDEN
            self._failed.add("origin" if is_page else "websocket")
            reason = "no request for WebSocket that could be read, in time"
            if refusal is not None:
                reason = refusal.reason
            logger.debug("WebSocket refused: %s", reason, extra={"peer": str(self._peer)})
        self.transport.underlying_transport.set_protocol(_nobody)  # with TLS it would keep us, and we keep it


class WebSocket(WSListener):
    """One connection, from the answer to the request on. The Client's transport."""

    def __init__(self, client: Client) -> None:
        self.was_open = False
        self._client = client
        self._ws: WSTransport | None = None
        self._parts: list[bytes] = []  # of this chunk
        self._in_message = False  # more frames of it have to come
        self._is_blocked = False
        self._pong: bytes | None = None  # for when the peer reads again
        self._is_closing = False
        self._close_code = WSCloseCode.OK
        self._end: asyncio.TimerHandle | None = None

    # From picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._ws = transport
        self.was_open = True
        self._client.connection_made(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if self._is_closing:
            if kind is WSMsgType.CLOSE:
                transport.underlying_transport.close()
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._refuse(WSCloseCode.PROTOCOL_ERROR, "a frame with bits of an extension")
        elif kind is (WSMsgType.CONTINUATION if self._in_message else WSMsgType.BINARY):
            self._in_message = not frame.fin
            self._parts.append(frame.get_payload_as_bytes())
        else:
            self._give()
            self._control(transport, kind, frame)
        if frame.last_in_buffer:
            self._give()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._end is not None:
            self._end.cancel()
        self._ws = None  # it leads back to us
        self._client.connection_lost(None)

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._client.pause_writing()

    def resume_writing(self) -> None:
        self._is_blocked = False
        if self._pong is not None and self._ws is not None:
            self._ws.send_pong(self._pong)
            self._pong = None
        self._client.resume_writing()

    def frames_are_broken(self) -> None:
        """picows has told the peer, and closes. No-op if it was we who sent the close frame."""
        if not self._is_closing:
            self._client.fail(ProtocolError("not the frames of WebSocket"))

    def _give(self) -> None:
        """What has come goes to the Client, as a whole."""
        if self._parts and not self._is_closing:
            parts, self._parts = self._parts, []
            self._client.data_received(parts[0] if len(parts) == 1 else b"".join(parts))

    def _control(self, transport: WSTransport, kind: WSMsgType, frame: WSFrame) -> None:
        if self._is_closing:  # by what came before
            return
        if kind is WSMsgType.PING:
            self._answer_ping(transport, frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            self._is_closing = True
            code = frame.get_close_code()
            transport.send_close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code)
            transport.underlying_transport.close()
        elif kind is WSMsgType.TEXT:
            self._refuse(WSCloseCode.UNSUPPORTED_DATA, "a text frame")  # [MQTT-6.0.0-1]
        elif kind is not WSMsgType.PONG:
            self._refuse(WSCloseCode.PROTOCOL_ERROR, "a frame out of the order of its message")

    def _answer_ping(self, transport: WSTransport, payload: bytes) -> None:
        """While the peer does not read, only the last one is kept (RFC 6455, 5.5.3)."""
        if self._is_blocked:
            self._pong = payload
        else:
            transport.send_pong(payload)

    def _refuse(self, code: WSCloseCode, what: str) -> None:
        self._close_code = code
        self._client.fail(ProtocolError(what))

    # The Client's transport

    def get_extra_info(self, name: str) -> object:
        """Of the connection below."""
        return None if self._ws is None else self._ws.underlying_transport.get_extra_info(name)

    def write(self, data: bytes) -> None:
        """One frame."""
        if self._ws is None:
            return
        if len(data) <= _COPIED_BYTES:
            self._ws.send(WSMsgType.BINARY, data)
            return
        # Larger ones it would give to the loop with a view of a header that the next frame may overwrite.
        framed = bytearray(14)
        framed += data
        self._ws.send_reuse_external_bytearray(WSMsgType.BINARY, framed, 14)

    def get_write_buffer_size(self) -> int:
        """Of the connection below."""
        return 0 if self._ws is None else self._ws.underlying_transport.get_write_buffer_size()

    def close(self) -> None:
        """In order: our close frame, theirs, the socket. What else they send is not looked at."""
        if self._is_closing or self._ws is None:
            return
        self._is_closing = True
        below = self._ws.underlying_transport
        self._ws.send_close(self._close_code)
        below.resume_reading()  # or theirs would not be seen
        self._end = asyncio.get_running_loop().call_later(CLOSE_SECONDS, below.close)

    def abort(self) -> None:
        """Closes the socket at once."""
        self._is_closing = True
        if self._ws is not None:
            self._ws.underlying_transport.abort()

    def pause_reading(self) -> None:
        """Frames that were read before still come, up to a chunk."""
        if self._ws is not None and not self._is_closing:
            self._ws.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        if self._ws is not None and not self._is_closing:
            self._ws.underlying_transport.resume_reading()
