"""One MQTT connection of a driver: packets out, packets in; who wants them may come later."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from broker.mqtt import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    MqttError,
    Packet,
    Pingreq,
    Pingresp,
    encode,
)

_MAXIMUM_PACKET_SIZE: Final = 1 << 24

Handler = Callable[[Packet], None]


class Wire(asyncio.Protocol):
    """Packets that come before `adopt` wait; after `drop` they are thrown away."""

    def __init__(self, version: int, node: str) -> None:
        self.version = version
        self.node = node
        loop = asyncio.get_running_loop()
        self.connack: asyncio.Future[Connack] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()  # closed, or dropped
        self.farewell: int | None = None  # Reason Code of the DISCONNECT that came
        self.error = ""  # bytes that are not MQTT
        self.late: list[tuple[float, Packet]] = []  # what came after `drop`, and when
        self.unanswered_since: float | None = None  # a PINGREQ waits for its answer
        self.longest_silence = 0.0  # seconds from a PINGREQ to its answer
        self._decoder = Decoder(False, _MAXIMUM_PACKET_SIZE, version)
        self._transport: asyncio.Transport | None = None
        self._handler: Handler | None = None
        self._waiting: list[Packet] = []
        self._is_dropped = False

    # What the client does

    @property
    def is_open(self) -> bool:
        """Whether the peer can still be spoken to."""
        return not self.closed.done() and self._transport is not None and not self._transport.is_closing()

    def send(self, *packets: Packet) -> None:
        """In one write; nothing happens if the connection is over."""
        if self._transport is not None and self.is_open:
            self._transport.write(b"".join(encode(packet, self.version) for packet in packets))

    def ping(self) -> None:
        """PINGREQ, unless one waits for its answer."""
        if self.unanswered_since is None:
            self.unanswered_since = asyncio.get_running_loop().time()
            self.send(Pingreq())

    def silence_seconds(self) -> float:
        """Since the PINGREQ that is not answered."""
        if self.unanswered_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self.unanswered_since

    def adopt(self, handler: Handler) -> None:
        """What has come and what will come goes to `handler`."""
        self._handler = handler
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            if not self._is_dropped:
                handler(packet)

    def drop(self) -> None:
        """Nothing that comes is taken any more."""
        self._is_dropped = True
        self._waiting = []
        if not self.over.done():
            self.over.set_result(None)

    def abort(self) -> None:
        """Ends it without a word."""
        self.drop()
        if self._transport is not None:
            self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        packets: list[Packet] = []
        try:
            self._decoder.feed(data, packets)
        except MqttError as error:
            self.error = repr(error)
            self.abort()
        for packet in packets:
            self._take(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        if not self.over.done():
            self.over.set_result(None)
        if not self.connack.done():
            self.connack.cancel()

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Connack):
            if not self.connack.done():
                self.connack.set_result(packet)
        elif isinstance(packet, Pingresp):
            self.longest_silence = max(self.longest_silence, self.silence_seconds())
            self.unanswered_since = None
        elif isinstance(packet, Disconnect):
            self.farewell = packet.reason_code
        elif self._is_dropped:
            self.late.append((asyncio.get_running_loop().time(), packet))
        elif self._handler is None:
            self._waiting.append(packet)
        else:
            self._handler(packet)


async def open_wire(port: int, version: int, node: str, connect: Connect) -> Wire:
    """Opens a connection and sends CONNECT. Raises OSError if nobody listens."""
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: Wire(version, node), "127.0.0.1", port)
    wire.send(connect)
    return wire


async def connack_of(wire: Wire, seconds: float) -> Connack | None:
    """The CONNACK; None if the connection ends before, or it takes too long."""
    done, _ = await asyncio.wait([wire.connack], timeout=seconds)
    return wire.connack.result() if done and not wire.connack.cancelled() else None
