"""PUBLISH to a topic that begins with `$`: some of these mean something to the broker, and are no topics that
clients may use as they like [4.7.2]. All others are handed back to `Ingress`.

A client is told by PUBACK or PUBREC why its message was not taken. Before MQTT 5 there is no such answer: the
message is acknowledged and dropped [MQTT-3.3.5-2]; at QoS 0 it is only dropped. Either way that leaves a
dead letter.
"""

from broker.client.client import Client
from broker.mqtt import MQTT_5, Packet, ProtocolError, Publish, ReasonCode
from broker.session import Receipt, Session

SYS_PREFIX = "$SYS/"
"""Topics under which nodes tell of themselves."""


def on_publish(client: Client, packet: Packet) -> None:
    """Takes what `Ingress` has left to others."""
    assert isinstance(packet, Publish)
    session = client.session
    assert session is not None
    refusal = refusal_of_topic(packet.topic)
    if refusal is not None:
        client.hub.ingress.received[packet.qos] += 1
        if packet.qos == 0 or begin(session, packet):
            refuse(client, session, packet, refusal)
        return
    client.hub.ingress.publish(session, packet)


def refusal_of_topic(topic: str) -> ReasonCode | None:
    """Why a client may not publish to this topic, with a will neither; None if it may."""
    if topic.startswith(SYS_PREFIX) or topic == SYS_PREFIX[:-1]:
        return ReasonCode.NOT_AUTHORIZED
    return None


def begin(session: Session, packet: Publish) -> bool:
    """Opens the exchange of a PUBLISH at QoS 1 or 2; False if it is a repeat for which nothing is left to do.
    Raises ProtocolError if the client exceeds the Receive Maximum."""
    if packet.qos == 2:
        receipt = session.inbound.begin(packet.packet_id)
        if receipt == Receipt.ROUTED:
            session.published_again(packet.packet_id)
        if receipt in (Receipt.ROUTED, Receipt.PENDING):
            return False
    if not session.intake.open(len(packet.payload)):
        raise ProtocolError(
            "more PUBLISH packets than the Receive Maximum", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
        )
    return True


def refuse(client: Client, session: Session, packet: Publish, reason_code: ReasonCode) -> None:
    """Does not take a message whose exchange has begun."""
    client.hub.drops.add(session.bucket, session.client_id, packet.topic, reason_code.name.lower())
    if packet.qos:
        told = reason_code if session.version == MQTT_5 else ReasonCode.SUCCESS
        session.published(packet.packet_id, packet.qos, told, len(packet.payload))
