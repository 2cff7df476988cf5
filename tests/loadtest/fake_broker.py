"""A broker of a few lines in the test's own event loop, which can be told to break its promises."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import cast

from broker.mqtt import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    encode,
    matches,
)
from loadtest.target import Target

Mischief = Callable[[Publish], list[Publish]]
"""What is delivered in place of a message."""


def honest(message: Publish) -> list[Publish]:
    """Deliver each message once."""
    return [message]


class _Connection(asyncio.Protocol):
    """One client; its session is its connection."""

    def __init__(self, broker: "FakeBroker") -> None:
        self._broker = broker
        self._decoder = Decoder(True, 1 << 20)
        self.filters: dict[str, int] = {}
        self.transport: asyncio.Transport | None = None
        self.next_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._broker.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._broker.connections.remove(self)

    def send(self, packet: Packet) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(encode(packet, self._decoder.version))

    def data_received(self, data: bytes) -> None:
        packets: list[Packet] = []
        self._decoder.feed(data, packets)
        for packet in packets:
            self._take(packet)

    def _take(self, packet: Packet) -> None:
        match packet:
            case Connect():
                self.send(Connack(False, self._broker.connack_code))
            case Subscribe():
                self.filters.update({s.filter: s.qos for s in packet.subscriptions})
                granted = [self._broker.granted_qos(s.qos) for s in packet.subscriptions]
                self.send(Suback(packet.packet_id, granted))
            case Publish():
                self._broker.route(packet)
                if packet.qos:
                    self.send(
                        (Puback if packet.qos == 1 else Pubrec)(packet.packet_id, self._broker.ack_code)
                    )
            case Pubrel():
                self.send(Pubcomp(packet.packet_id))
            case Pubrec():
                self.send(Pubrel(packet.packet_id))
            case Disconnect() if self.transport is not None:
                self.transport.close()
            case _:
                pass


class FakeBroker:
    """Everything the connections share."""

    def __init__(self, mischief: Mischief = honest) -> None:
        self.mischief = mischief
        self.connections: list[_Connection] = []
        self.connack_code = 0
        self.ack_code = 0
        self.highest_granted_qos = 2
        self.published = 0
        self.break_after: int | None = None  # publishes, then all connections are cut

    def granted_qos(self, wanted: int) -> int:
        """What SUBACK says."""
        return min(wanted, self.highest_granted_qos)

    def route(self, message: Publish) -> None:
        """Deliver to whoever has subscribed."""
        self.published += 1
        for copy in self.mischief(message):
            for connection in self.connections:
                if any(matches(topic_filter, copy.topic) for topic_filter in connection.filters):
                    self._deliver(connection, copy)
        if self.published == self.break_after:
            self.cut()

    def _deliver(self, connection: _Connection, message: Publish) -> None:
        connection.next_id = connection.next_id % 65535 + 1
        packet_id = connection.next_id if message.qos else 0
        connection.send(Publish(message.topic, message.payload, message.qos, False, False, packet_id, None))

    def cut(self) -> None:
        """Break all connections."""
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()

    @contextlib.asynccontextmanager
    async def serving(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Target]:
        """Listen on a free port of the loopback; with a context, for TLS."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, ssl=context)
        try:
            port: int = server.sockets[0].getsockname()[1]
            yield Target("127.0.0.1", port)
        finally:
            server.close()
            self.cut()
