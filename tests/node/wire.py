"""A minimal MQTT client that does exactly what a test says, packet by packet."""

import socket
import time
from types import TracebackType
from typing import TypeVar

from broker.mqtt import (
    MQTT_3_1_1,
    Connack,
    Connect,
    Decoder,
    Packet,
    Properties,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Will,
    encode,
)

P = TypeVar("P", bound=Packet)
MAXIMUM_PACKET_SIZE = 1 << 24


class WireClient:
    """Sends packets and waits for packets; answers nothing by itself."""

    def __init__(self, port: int, version: int = MQTT_3_1_1, timeout_seconds: float = 5.0) -> None:
        self.version = version
        self.timeout_seconds = timeout_seconds
        self.received: list[Packet] = []
        self._decoder = Decoder(False, MAXIMUM_PACKET_SIZE, version)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "WireClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(
        self,
        client_id: str,
        *,
        clean_start: bool = True,
        keep_alive: int = 0,
        will: Will | None = None,
        properties: Properties | None = None,
    ) -> Connack:
        """CONNECT and its CONNACK."""
        self.send(
            Connect(client_id, self.version, clean_start, keep_alive, None, None, will, properties)
        )
        return self.expect(Connack)

    def subscribe(self, filter: str, qos: int, packet_id: int = 1) -> Suback:
        """SUBSCRIBE to one filter and its SUBACK."""
        self.send(Subscribe(packet_id, [SubscriptionRequest(filter, qos, False, False, 0)], None))
        return self.expect(Suback)

    def send(self, *packets: Packet) -> None:
        """Sends packets in one piece."""
        self._socket.sendall(b"".join(encode(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        """Sends anything."""
        self._socket.sendall(data)

    def expect(self, kind: type[P]) -> P:
        """The next packet, which must be of this kind."""
        packet = self.next()
        assert isinstance(packet, kind), f"expected {kind.__name__}, got {packet!r}"
        return packet

    def next(self) -> Packet:
        """The next packet. Fails if none comes in time or the connection ends."""
        packet = self.poll(self.timeout_seconds)
        assert packet is not None, f"nothing received within {self.timeout_seconds} s"
        return packet

    def poll(self, seconds: float) -> Packet | None:
        """The next packet, or None if none comes within `seconds`. ConnectionError if the peer has closed."""
        deadline = time.monotonic() + seconds
        while not self.received:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._socket.settimeout(left)
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                return None
            if not chunk:
                raise ConnectionError("closed by the broker")
            self._decoder.feed(chunk, self.received)
        return self.received.pop(0)

    def wait_closed(self) -> list[Packet]:
        """Waits until the broker closes; what it sent before."""
        packets: list[Packet] = []
        while True:
            try:
                packet = self.poll(self.timeout_seconds)
            except ConnectionError:
                return packets
            assert packet is not None, "the broker keeps the connection open"
            packets.append(packet)

    def close(self) -> None:
        """Closes the socket without a word: what a network failure looks like."""
        self._socket.close()
