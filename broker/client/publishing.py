"""Topics that begin with `$`: some of them mean something to the broker, and clients may not publish there as
they like [4.7.2].

A client is told by PUBACK or PUBREC why its message was not taken. Before MQTT 5 there is no such answer: the
message is acknowledged and dropped [MQTT-3.3.5-2]; at QoS 0 it is only dropped. Either way that leaves a
dead letter.
"""

from broker.client.client import Client
from broker.client.mounting import MountPoint
from broker.mqtt import SYS_PREFIX, ProtocolError, Publish, ReasonCode
from broker.session import Receipt, Session

DELAYED_PREFIX = "$delayed/"
"""What a message is published to that is to be published later."""
EVENTS_PREFIX = "$events/"
"""Topics at which the broker itself tells what becomes of clients and messages, to its forwards only."""


def is_beyond_limits(client: Client, topic: str) -> bool:
    """Whether the topic is longer or deeper than topics may be. Looked at before rules are, so that no such
    topic is remembered as allowed."""
    limits = client.hub.topic_limits
    if limits is None:
        return False
    if limits.is_beyond(topic):
        limit = "topic_bytes" if limits.is_too_long(topic) else "topic_levels"
        client.hub.offences.refuse(limit, client_id=client.client_id, peer=client.peer)
        return True
    limits.remember(topic)
    return False


def refusal_of_topic(topic: str, mount_point: MountPoint | None) -> ReasonCode | None:
    """Why no message may go to this topic; None if it may. A will has a delay of its own."""
    if topic.startswith((SYS_PREFIX, EVENTS_PREFIX)) or topic == SYS_PREFIX[:-1]:
        return ReasonCode.NOT_AUTHORIZED
    if topic.startswith(DELAYED_PREFIX) or (mount_point is not None and not mount_point.has(topic)):
        return ReasonCode.TOPIC_NAME_INVALID
    return None


def begin(client: Client, session: Session, packet: Publish) -> bool:
    """Opens the exchange of a PUBLISH at QoS 1 or 2; False if it is a repeat for which nothing is left to do.
    Raises ProtocolError if the client exceeds the Receive Maximum."""
    if packet.qos == 2:
        receipt = session.inbound.begin(packet.packet_id)
        if receipt != Receipt.NEW:
            receipt = client.hub.ingress.begin_again(session, packet, receipt)
        if receipt == Receipt.UNROUTED:  # of another message, as its topic was an ordinary one
            session.inbound.take_token(packet.packet_id)
        if receipt in (Receipt.ROUTED, Receipt.PENDING):
            return False
    if not session.intake.open(len(packet.payload)):
        raise ProtocolError(
            "more PUBLISH packets than the Receive Maximum", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
        )
    return True


def refuse(client: Client, session: Session, packet: Publish, reason_code: ReasonCode) -> None:
    """Does not take a message, whose exchange, at QoS 1 and 2, has begun: that is answered in its turn."""
    reason = reason_code.name.lower()
    client.hub.drops.add(session.bucket, session.client_id, packet.topic, reason, packet.qos)
    if packet.qos:
        client.hub.ingress.refuse(session, packet, reason_code)
