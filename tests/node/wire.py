"""A minimal MQTT client that does exactly what a test says, packet by packet."""

import socket
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

from broker.mqtt import (
    MQTT_5,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
    encode,
)

P = TypeVar("P", bound=Packet)
MAXIMUM_PACKET_SIZE = 1 << 24
NEVER = 0xFFFF_FFFF
HOUR = Properties(session_expiry_interval=3600)
"""Properties of a CONNECT that makes the session a persistent one."""


class WireClient:
    """Sends packets and waits for packets; answers nothing by itself."""

    def __init__(
        self,
        port: int,
        version: int = MQTT_5,
        timeout_seconds: float = 5.0,
        carrier: socket.socket | None = None,
    ) -> None:
        """`carrier`: connected already, to be used instead of a TCP connection to `port`."""
        self.version = version
        self.timeout_seconds = timeout_seconds
        self.received: list[Packet] = []
        self._decoder = Decoder(False, MAXIMUM_PACKET_SIZE, version)
        self._packet_id = 0
        self._socket = carrier or socket.create_connection(("127.0.0.1", port), timeout_seconds)
        if self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "WireClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Whole exchanges

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
        self.send(Connect(client_id, self.version, clean_start, keep_alive, None, None, will, properties))
        return self.expect(Connack)

    def connect_only(
        self, client_id: str, *, clean_start: bool, properties: Properties | None = None
    ) -> None:
        """CONNECT, whose CONNACK may take its time."""
        self.send(Connect(client_id, self.version, clean_start, 0, None, None, None, properties))

    def subscribe(
        self,
        *filters: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        identifier: int = 0,
    ) -> Suback:
        """SUBSCRIBE to filters, all with the same options, and its SUBACK. For a filter which may have
        retained messages only if none of them overtakes the SUBACK."""
        requests = [
            SubscriptionRequest(each, qos, no_local, retain_as_published, retain_handling) for each in filters
        ]
        properties = Properties(subscription_identifier=(identifier,)) if identifier else None
        packet_id = self.next_packet_id()
        self.send(Subscribe(packet_id, requests, properties))
        suback = self.expect(Suback)
        assert suback.packet_id == packet_id
        return suback

    def unsubscribe(self, *filters: str) -> Unsuback:
        """UNSUBSCRIBE and its UNSUBACK."""
        packet_id = self.next_packet_id()
        self.send(Unsubscribe(packet_id, list(filters), None))
        unsuback = self.expect(Unsuback)
        assert unsuback.packet_id == packet_id
        return unsuback

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int:
        """PUBLISH with the whole handshake of its QoS; the Reason Code of PUBACK or PUBREC, 0 at QoS 0.

        At QoS 0 also waits for PINGRESP: what the node delivers at once is on its way then.
        """
        packet_id = self.next_packet_id() if qos else 0
        self.send(Publish(topic, payload, qos, retain, False, packet_id, properties))
        if qos == 0:
            self.ping()
            return 0
        if qos == 1:
            puback = self.expect(Puback)
            assert puback.packet_id == packet_id
            return puback.reason_code
        pubrec = self.expect(Pubrec)
        assert pubrec.packet_id == packet_id
        if pubrec.reason_code < 0x80:
            self.send(Pubrel(packet_id))
            assert self.expect(Pubcomp) == Pubcomp(packet_id)
        return pubrec.reason_code

    def message(self) -> Publish:
        """The next PUBLISH, with the whole handshake of its QoS."""
        publish = self.expect(Publish)
        if publish.qos == 1:
            self.send(Puback(publish.packet_id))
        elif publish.qos == 2:
            self.send(Pubrec(publish.packet_id))
            self._take_out(Pubrel(publish.packet_id))
            self.send(Pubcomp(publish.packet_id))
        return publish

    def payloads(self, count: int) -> list[bytes]:
        """The payloads of the next messages, each with its handshake."""
        return [self.message().payload for _ in range(count)]

    def ping(self) -> list[Packet]:
        """PINGREQ and PINGRESP; what came between the two and before."""
        self.send(Pingreq())
        before: list[Packet] = []
        while True:
            packet = self.next()
            if isinstance(packet, Pingresp):
                return before
            before.append(packet)

    def assert_silence(self, seconds: float = 0.0) -> None:
        """Nothing has come, and nothing comes within `seconds` (only for what the node does by itself)."""
        before = self.ping()
        assert before == [], f"expected nothing, got {before!r}"
        packet = self.poll(seconds)
        assert packet is None, f"expected nothing, got {packet!r}"

    def disconnect(self, reason_code: int = 0, properties: Properties | None = None) -> None:
        """DISCONNECT; returns when the broker has closed the connection."""
        self.send(Disconnect(reason_code, properties))
        self.wait_closed()
        self.close()

    def _take_out(self, wanted: Packet) -> None:
        """Waits for a packet; what comes before it is kept for later."""
        before: list[Packet] = []
        while (packet := self.next()) != wanted:
            before.append(packet)
        self.received[:0] = before

    # Packets

    def next_packet_id(self) -> int:
        """Packet Identifiers of ours, one after the other."""
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id

    def send(self, *packets: Packet) -> None:
        """Sends packets in one piece."""
        self.send_bytes(b"".join(encode(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        """Sends anything."""
        self._socket.settimeout(self.timeout_seconds)
        self._socket.sendall(data)

    def expect(self, kind: type[P]) -> P:
        """The next packet, which must be of this kind."""
        packet = self.next()
        assert isinstance(packet, kind), f"expected {kind.__name__}, got {packet!r}"
        return packet

    def expect_all(self, *packets: Packet) -> None:
        """The next packets, which must be these."""
        for expected in packets:
            received = self.next()
            assert received == expected, f"expected {expected!r}, got {received!r}"

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
            assert packet is not None, f"the broker keeps the connection open, after {packets!r}"
            packets.append(packet)

    def wait_refused(self) -> int:
        """Waits until the broker closes; the Reason Code of the DISCONNECT or CONNACK it sends last."""
        packets = self.wait_closed()
        assert packets, "the broker closed without a word"
        last = packets[-1]
        assert isinstance(last, Disconnect | Connack), f"expected DISCONNECT or CONNACK, got {packets!r}"
        return last.reason_code

    def receive_bytes(self, count: int) -> bytes:
        """The next bytes as they come, at least so many; for a client that has decoded all that came."""
        self._socket.settimeout(self.timeout_seconds)
        received = b""
        while len(received) < count:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError("closed by the broker")
            received += chunk
        return received

    def shrink_buffer(self, buffer_bytes: int = 65_536) -> None:
        """Makes the receive buffer small, so that a client that doesn't read is noticed soon."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)

    def close(self) -> None:
        """Closes the socket without a word: what a network failure looks like."""
        self._socket.close()


def connected(
    port: int,
    client_id: str,
    version: int = MQTT_5,
    *,
    clean_start: bool = True,
    keep_alive: int = 0,
    will: Will | None = None,
    properties: Properties | None = None,
) -> WireClient:
    """A client that has been accepted; to be used as a context manager."""
    client = WireClient(port, version)
    try:
        connack = client.connect(
            client_id, clean_start=clean_start, keep_alive=keep_alive, will=will, properties=properties
        )
        assert connack.reason_code == 0, connack
    except BaseException:
        client.close()
        raise
    return client


def user_properties(packets: Iterable[Publish]) -> list[tuple[tuple[str, str], ...]]:
    """The User Properties of each message."""
    return [packet.properties.user_property if packet.properties is not None else () for packet in packets]
