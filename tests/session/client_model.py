"""A client that keeps to the rules: what it sends until it is acknowledged, and what it was sent. It
complains about whatever a client may not be sent."""

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.mqtt import (
    MQTT_5,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)

REFUSED = 0x80
_NOT_FOUND = 0x92


@dataclass
class Sending:
    """One exchange in which the client is the sender; `is_received`: PUBREC has come."""

    publish: Publish
    is_received: bool = False

    def packet(self) -> Packet:
        """What is sent again."""
        sent = self.publish
        if self.is_received:
            return Pubrel(sent.packet_id)
        return Publish(sent.topic, sent.payload, sent.qos, False, True, sent.packet_id)


@dataclass
class ClientSide:
    """`send` takes its packets. `is_taken` tells whether what it published was stored or refused: nothing
    else may be acknowledged. `received` is what its application got: payload and QoS; `owed` are answers."""

    version: int
    send: Callable[[Packet], None]
    is_taken: Callable[[bytes], bool]
    open: dict[int, Sending] = field(default_factory=dict)
    received: list[tuple[bytes, int]] = field(default_factory=list)
    remembered: dict[int, bytes] = field(default_factory=dict)
    owed: list[Packet] = field(default_factory=list)
    hurried: set[int] = field(default_factory=set)

    def publish(self, payload: bytes, qos: int) -> None:
        packet_id = 0
        if qos:
            packet_id = next(i for i in range(1, 65_536) if i not in self.open and i not in self.hurried)
        packet = Publish("t", payload, qos, False, False, packet_id)
        if qos:
            self.open[packet_id] = Sending(packet)
        self.send(packet)

    def hurry(self) -> bytes | None:
        """Sends a PUBREL without waiting for PUBREC, against the rules. The payload, of which nothing is
        promised any more."""
        for packet_id, sending in self.open.items():
            if sending.publish.qos == 2 and not sending.is_received:
                self.hurried.add(packet_id)
                sending.is_received = True
                self.send(sending.packet())
                return sending.publish.payload
        return None

    def connect(self, is_session_present: bool) -> None:
        """Over a new connection: goes on, in order, or begins anew [MQTT-4.4.0-1]."""
        self.owed.clear()
        if not is_session_present:
            self.open.clear()
            self.remembered.clear()
        for sending in self.open.values():
            self.send(sending.packet())

    def answer(self, place: int, is_refused: bool) -> None:
        """Sends one of the answers that it owes; the order is free between different messages."""
        answer = self.owed.pop(place)
        if is_refused and isinstance(answer, Pubrec) and self.version == MQTT_5:
            self.remembered.pop(answer.packet_id)
            answer = Pubrec(answer.packet_id, 0x97)
        self.send(answer)

    def take(self, packet: Packet) -> None:
        """Something has come from the server."""
        if isinstance(packet, Publish):
            self._take_publish(packet)
        elif isinstance(packet, Puback):
            sending = self.open.pop(packet.packet_id)
            assert sending.publish.qos == 1
            assert self.is_taken(sending.publish.payload), "acknowledged before it was stored"
        elif isinstance(packet, Pubrec):
            self._take_pubrec(packet)
        elif isinstance(packet, Pubrel):
            if packet.reason_code != _NOT_FOUND:
                self.remembered.pop(packet.packet_id, None)
                self.owed.append(Pubcomp(packet.packet_id))
        else:
            assert isinstance(packet, Pubcomp), packet
            completed = self.open.get(packet.packet_id)
            if completed is not None and completed.is_received:
                del self.open[packet.packet_id]

    def _take_pubrec(self, packet: Pubrec) -> None:
        sending = self.open[packet.packet_id]
        assert sending.publish.qos == 2
        assert self.is_taken(sending.publish.payload), "acknowledged before it was stored"
        if packet.reason_code >= REFUSED:
            del self.open[packet.packet_id]
            return
        sending.is_received = True
        self.send(sending.packet())

    def _take_publish(self, packet: Publish) -> None:
        packet_id = packet.packet_id
        if packet.qos == 2:
            self.owed.append(Pubrec(packet_id))
            if packet_id in self.remembered:
                assert self.remembered[packet_id] == packet.payload, "a new message passes for an old one"
                assert packet.dup
                return
            self.remembered[packet_id] = packet.payload
        elif packet.qos == 1:
            assert packet_id not in self.remembered, "the identifier is still in use"
            self.owed.append(Puback(packet_id))
        self.received.append((packet.payload, packet.qos))
