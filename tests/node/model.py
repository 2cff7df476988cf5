"""What a correct client does, in the simplest form that keeps its promises: session state that outlives the
connection, sent again with DUP where the specification says so [4.4], and nothing taken twice [4.3.3].

Both kinds of clients call `strike(event)` after each step of a handshake. A test that kills something there
answers True if the connection is not to be used any more.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from broker.mqtt import (
    MQTT_5,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from tests.node.harness import NodeProcess
from tests.node.wire import HOUR, WireClient

Strike = Callable[[str], bool]
SILENCE_SECONDS = 0.3


def no_strike(_event: str) -> bool:
    """Nothing happens."""
    return False


class _Client:
    """The connection of a client, which may be lost and made again, and its session, which may not."""

    def __init__(
        self, node: NodeProcess, client_id: str, version: int = MQTT_5, strike: Strike = no_strike
    ) -> None:
        self._node = node
        self._client_id = client_id
        self._version = version
        self._strike = strike
        self._wire: WireClient | None = None
        self._has_session = False
        self._abandoned: list[WireClient] = []
        self.abandons = False  # leaves a lost connection open: the next one takes the session over from it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lose()
        for wire in self._abandoned:
            wire.close()

    def connect(self) -> WireClient:
        """The connection; a new one, on which what is pending has been sent again, if there is none."""
        if self._wire is None:
            self._wire = self._reconnect()
            self._has_session = True
            self._resume(self._wire)
        return self._wire

    def move(self, node: NodeProcess) -> None:
        """Connects to another node of the cluster from now on."""
        self._node = node

    def lose(self) -> None:
        """The connection is gone."""
        if self._wire is None:
            return
        if self.abandons:
            self._abandoned.append(self._wire)
        else:
            self._wire.close()
        self._wire = None

    def _resume(self, wire: WireClient) -> None:
        """Sends again what the specification says."""

    def _reconnect(self) -> WireClient:
        wire = WireClient(self._node.port, self._version, timeout_seconds=15.0)
        try:
            properties = HOUR if self._version == MQTT_5 else None
            connack = wire.connect(self._client_id, clean_start=False, properties=properties)
            assert connack.reason_code == 0, connack
            assert connack.session_present == self._has_session, connack
        except BaseException:
            wire.close()
            raise
        return wire

    def _struck(self, event: str) -> None:
        if self._strike(event):
            raise ConnectionError(event)


class Publisher(_Client):
    """A client that publishes at QoS 1 or 2 until everything is acknowledged, over as many connections as
    that takes."""

    def __init__(
        self, node: NodeProcess, client_id: str, version: int = MQTT_5, strike: Strike = no_strike
    ) -> None:
        super().__init__(node, client_id, version, strike)
        self.reason_codes: list[int] = []
        self._pending: dict[int, Packet] = {}  # what has been sent and must be sent again, in order
        self._last_id = 0

    def publish(
        self, messages: Sequence[tuple[str, bytes]], qos: int, *, window: int = 100, retain: bool = False
    ) -> None:
        """Publishes them in order; returns when all are acknowledged."""
        waiting = [(topic, payload) for topic, payload in reversed(messages)]
        while waiting or self._pending:
            try:
                self._fill(waiting, qos, window, retain)
                self._take(self.connect().next())
            except OSError:
                self.lose()

    def _resume(self, wire: WireClient) -> None:
        if self._pending:
            wire.send(*[_again(packet) for packet in self._pending.values()])

    def _fill(self, waiting: list[tuple[str, bytes]], qos: int, window: int, retain: bool) -> None:
        wire = self.connect()
        batch: list[Packet] = []
        while waiting and len(self._pending) < window:
            topic, payload = waiting.pop()
            self._last_id = self._last_id % 65_535 + 1
            assert self._last_id not in self._pending
            publish = Publish(topic, payload, qos, retain, False, self._last_id)
            self._pending[self._last_id] = publish
            batch.append(publish)
        if batch:
            wire.send(*batch)
            self._struck("PUBLISH sent")

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Puback):
            self.reason_codes.append(packet.reason_code)
            publish = self._pending.pop(packet.packet_id)
            assert isinstance(publish, Publish), "PUBACK in a QoS 2 handshake"
            assert publish.qos == 1
            self._struck("PUBACK received")
        elif isinstance(packet, Pubrec):
            assert packet.reason_code < 0x80, packet
            if isinstance(self._pending[packet.packet_id], Publish):
                del self._pending[packet.packet_id]  # PUBRELs are sent in the order of their PUBRECs
                self._pending[packet.packet_id] = Pubrel(packet.packet_id)
                self.reason_codes.append(packet.reason_code)
            self._struck("PUBREC received")
            self.connect().send(Pubrel(packet.packet_id))
            self._struck("PUBREL sent")
        elif isinstance(packet, Pubcomp):
            assert isinstance(self._pending.pop(packet.packet_id), Pubrel), "PUBCOMP without PUBREL"
            self._struck("PUBCOMP received")
        else:
            raise AssertionError(f"unexpected {packet!r}")


class Subscriber(_Client):
    """A client with a persistent session that takes messages at any QoS and never one of QoS 2 twice.

    `received` has what the application got, in order, `repeated` what came again. Whatever comes again must
    have DUP set, except at QoS 1 if `sender_repeats`: to the server a PUBLISH sent again is a new message.
    """

    def __init__(
        self, node: NodeProcess, client_id: str, version: int = MQTT_5, strike: Strike = no_strike
    ) -> None:
        super().__init__(node, client_id, version, strike)
        self.received: list[bytes] = []
        self.repeated: list[bytes] = []
        self.sender_repeats = False
        self._seen: set[bytes] = set()
        self._unreleased: dict[int, bytes] = {}  # QoS 2, from PUBLISH to PUBREL

    def subscribe(self, filter: str, qos: int) -> None:
        """Connects and subscribes; the session is there from now on."""
        assert self.connect().subscribe(filter, qos=qos).reason_codes == [qos]

    def receive(self, count: int) -> None:
        """Takes messages, over as many connections as that takes, until `count` different ones have come and
        every handshake is complete."""
        while len(self.received) < count or self._unreleased:
            try:
                self._take(self.connect().next())
            except OSError:
                self.lose()

    def receive_no_more(self) -> None:
        """Nothing new comes: neither now nor on a new connection."""
        for _ in range(2):
            wire = self.connect()
            while (packet := wire.poll(SILENCE_SECONDS)) is not None:
                assert not isinstance(packet, Publish) or packet.qos == 1, f"comes again: {packet!r}"
                self._take(packet)
            self.lose()

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self._take_publish(packet)
        elif isinstance(packet, Pubrel):
            self._unreleased.pop(packet.packet_id, None)
            self._struck("PUBREL received")
            self.connect().send(Pubcomp(packet.packet_id))
            self._struck("PUBCOMP sent")
        else:
            raise AssertionError(f"unexpected {packet!r}")

    def _take_publish(self, packet: Publish) -> None:
        payload = packet.payload
        if packet.qos == 2:
            open_payload = self._unreleased.get(packet.packet_id)
            assert open_payload is None or open_payload == payload, "identifier in use [MQTT-2.2.1-4]"
            assert open_payload is not None or payload not in self._seen, f"{payload!r} twice"
            is_new = open_payload is None
            self._unreleased[packet.packet_id] = payload
        else:
            is_new = payload not in self._seen
        if is_new:
            self.received.append(payload)
            self._seen.add(payload)
        else:
            may_be_new = packet.qos == 1 and self.sender_repeats
            assert packet.dup or may_be_new, f"{payload!r} comes again without DUP [MQTT-3.3.1-1]"
            self.repeated.append(payload)
        self._struck("PUBLISH received")
        if packet.qos == 1:
            self.connect().send(Puback(packet.packet_id))
            self._struck("PUBACK sent")
        elif packet.qos == 2:
            self.connect().send(Pubrec(packet.packet_id))
            self._struck("PUBREC sent")


def receive_no_more(*subscribers: Subscriber) -> None:
    """Nothing new comes to any of them; they listen at the same time."""
    with ThreadPoolExecutor(len(subscribers)) as pool:
        list(pool.map(Subscriber.receive_no_more, subscribers))


def _again(packet: Packet) -> Packet:
    if isinstance(packet, Publish):  # [MQTT-3.3.1-1]
        return Publish(packet.topic, packet.payload, packet.qos, packet.retain, True, packet.packet_id)
    return packet
