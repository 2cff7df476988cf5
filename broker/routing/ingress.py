"""What a connected client sends most: PUBLISH and the packets of the QoS 1 and 2 handshakes, many per call.

This loop and everything it calls is compiled; the connection hands it all packets of a chunk and takes back
whatever is not its business.
"""

from collections.abc import Sequence
from typing import Final

from broker.mqtt import (
    Capabilities,
    Packet,
    ProtocolError,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    ReasonCode,
    forwarded_properties,
    is_payload_as_said,
)
from broker.routing.publication import Publication
from broker.routing.router import Router
from broker.session import NO_DEADLINE, Clock, Message, Receipt, Session, TokenSource

_OVERHEAD_BYTES: Final = 512  # of a message that waits, beside its payload
_QUOTA_EXCEEDED: Final = 0x97
_PAYLOAD_FORMAT_INVALID: Final = 0x99


class Ingress:
    """Turns incoming packets into Application Messages for the router, and acknowledgements into freed
    places."""

    __slots__ = (
        "_capabilities",
        "_checks_payload_format",
        "_clock",
        "_maximum_qos",
        "_nearby",
        "_router",
        "_tokens",
        "received",
        "refused_payload_format",
        "refused_retained",
        "taken_anew",
    )

    def __init__(
        self,
        router: Router,
        clock: Clock,
        tokens: TokenSource,
        capabilities: Capabilities = Capabilities(),  # noqa: B008 - it is frozen
    ) -> None:
        self._capabilities = capabilities
        self._maximum_qos = capabilities.maximum_qos
        self._checks_payload_format = capabilities.checks_payload_format
        self._router = router
        self._nearby = router.nearby
        self._clock = clock
        self._tokens = tokens
        self.received: list[int] = [0, 0, 0]  # PUBLISH packets by QoS
        self.refused_payload_format = 0  # messages, as not UTF-8 though they say so
        self.refused_retained = 0  # messages, as too large to be retained
        self.taken_anew = 0  # messages at QoS 2 under an identifier that may have been in use

    def receive(self, session: Session, packets: Sequence[Packet], start: int) -> int:
        """Handles packets from `start` on; returns the position of the first that it leaves to the caller.

        Raises ProtocolError if the client exceeds the Receive Maximum that it was told.
        """
        position = start
        end = len(packets)
        allowed = session.allowed
        while position < end:
            packet = packets[position]
            if isinstance(packet, Publish):
                if packet.topic.startswith("$"):  # may be of those that mean something to the broker
                    return position
                if allowed is not None and packet.topic not in allowed:  # somebody has to be asked
                    return position
                self.publish(session, packet)
            elif isinstance(packet, Puback):
                session.outbound.puback(packet.packet_id)
            elif isinstance(packet, Pubrec):
                session.outbound.pubrec(packet.packet_id, packet.reason_code)
            elif isinstance(packet, Pubrel):
                session.pubrel(packet.packet_id)
            elif isinstance(packet, Pubcomp):
                session.outbound.pubcomp(packet.packet_id)
            else:
                return position
            position += 1
        return position

    def publish(self, session: Session, packet: Publish) -> None:
        """A PUBLISH of this client. Raises ProtocolError if it is more than the client was told it may send,
        or at QoS 0 not of the format that it says."""
        qos = packet.qos
        self.received[qos] += 1
        if qos > self._maximum_qos or packet.retain:
            self._capabilities.check_publish(qos, packet.retain)
        message = self._message(session, packet)
        refusal = 0
        if self._checks_payload_format and not is_payload_as_said(packet.payload, packet.properties):
            self.refused_payload_format += 1
            refusal = _PAYLOAD_FORMAT_INVALID
        if message.retain and self._capabilities.is_too_large(message.payload):
            self.refused_retained += 1
            if qos == 0:  # nobody can be told; the connection need not pay for it
                return
            refusal = _QUOTA_EXCEEDED
        if qos == 0:
            if refusal:
                raise ProtocolError("the payload isn't UTF-8", ReasonCode.PAYLOAD_FORMAT_INVALID)
            if packet.retain:
                size_bytes = len(packet.payload) + _OVERHEAD_BYTES
                session.intake.hold(size_bytes)
                self._router.publish(Publication(message, session, 0, size_bytes))
            else:
                self._nearby.publish_at_most_once(message, session)
            return
        if qos == 2:
            self._publish_exactly_once(session, packet, message, refusal)
            return
        size_bytes = len(packet.payload)
        if not session.intake.open(size_bytes):  # [MQTT-3.3.4-7]
            raise ProtocolError(
                "more PUBLISH packets than the Receive Maximum", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
            )
        self._router.publish(Publication(message, session, packet.packet_id, size_bytes, refusal=refusal))

    def refuse(self, session: Session, packet: Publish, reason_code: int) -> None:
        """Answers a PUBLISH at QoS 1 or 2, whose exchange has begun and which may reach nobody, in its turn
        [MQTT-4.6.0-2], [MQTT-4.6.0-3]."""
        message = self._message(session, packet)
        if packet.qos == 2 and session.queued is not None:
            session.inbound.store(packet.packet_id, message, reason_code)
        else:
            self._route(session, packet.packet_id, message, reason_code)

    def route_stored(self, session: Session, packet_id: int, message: Message) -> None:
        """The token of a QoS 2 message of a queued session is stored: now it may be routed. One that is
        refused has no token; now it is its turn."""
        self._route(session, packet_id, message, session.inbound.take_refusal(packet_id))

    def _route(self, session: Session, packet_id: int, message: Message, refusal: int) -> None:
        self._router.publish(Publication(message, session, packet_id, len(message.payload), refusal=refusal))

    def begin_again(self, session: Session, packet: Publish, receipt: Receipt) -> Receipt:
        """What to do with a PUBLISH at QoS 2 whose identifier is held. Nothing is left to do if it is PENDING
        or ROUTED."""
        receipt = session.inbound.judge(packet.packet_id, receipt, packet.dup)
        if receipt == Receipt.NEW:
            self.taken_anew += 1
        elif receipt == Receipt.ROUTED:
            session.published_again(packet.packet_id)
        return receipt

    def _publish_exactly_once(
        self, session: Session, packet: Publish, message: Message, refusal: int
    ) -> None:
        packet_id = packet.packet_id
        receipt = session.inbound.begin(packet_id)
        if receipt != Receipt.NEW:
            receipt = self.begin_again(session, packet, receipt)
            if receipt == Receipt.PENDING or receipt == Receipt.ROUTED:
                return
        size_bytes = len(message.payload)
        if not session.intake.open(size_bytes):
            raise ProtocolError(
                "more PUBLISH packets than the Receive Maximum", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
            )
        message.token_ttl_ms = session.token_ttl_ms
        if receipt == Receipt.UNROUTED:
            message.token = session.inbound.take_token(packet_id)
            self._route(session, packet_id, message, 0)
            return
        if not refusal:
            message.token = self._tokens.next()
        if session.direct is not None:
            self._route(session, packet_id, message, refusal)
        else:
            session.inbound.store(packet_id, message, refusal)

    def _message(self, session: Session, packet: Publish) -> Message:
        properties = packet.properties
        if properties is None:
            return Message(
                packet.topic, packet.payload, packet.qos, packet.retain, b"", NO_DEADLINE, session.client_id
            )
        deadline_ms = NO_DEADLINE
        expiry = properties.message_expiry_interval
        if expiry is not None:
            deadline_ms = self._clock.now_ms + expiry * 1000
        return Message(
            packet.topic,
            packet.payload,
            packet.qos,
            packet.retain,
            forwarded_properties(properties),
            deadline_ms,
            session.client_id,
        )
