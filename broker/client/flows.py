"""Which flow a packet belongs to. The acknowledgements of PUBLISH are not here: `Ingress` takes them,
and each PUBLISH whose topic does not begin with `$`, if it is known that the client may publish there."""

from collections.abc import Callable, Mapping
from functools import partial

from broker.client.authenticating import on_auth
from broker.client.client import Client
from broker.client.closing import on_disconnect
from broker.client.deciding import on_connect
from broker.client.delaying import delay
from broker.client.permitting import ask_to_publish
from broker.client.publishing import DELAYED_PREFIX, begin, is_beyond_limits, refusal_of_topic, refuse
from broker.client.subscribing import on_subscribe, on_unsubscribe
from broker.mqtt import (
    Auth,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
    ReasonCode,
    Subscribe,
    Unsubscribe,
    encode,
)
from broker.session import Session


def on_pingreq(client: Client, packet: Packet) -> None:
    """[MQTT-3.12.4-1]. Whoever asks whether we are there may go elsewhere next, and be sent again what it has
    acknowledged here: that is stored now."""
    client.hub.changed.hasten()
    client.send(encode(Pingresp(), client.connection.version))


def on_publish(client: Client, packet: Packet) -> None:
    """To a topic that begins with `$`: perhaps to one that means something. Or to one of which it isn't known
    whether this client may publish there."""
    assert isinstance(packet, Publish)
    session = client.session
    assert session is not None
    if not is_beyond_limits(client, packet.topic):
        ask_to_publish(client, packet, partial(_publish, client, session, packet))
    elif _begin(client, session, packet):
        refuse(client, session, packet, ReasonCode.TOPIC_NAME_INVALID)


def _publish(client: Client, session: Session, packet: Publish, is_allowed: bool) -> None:
    hub = client.hub
    refusal: ReasonCode | None = ReasonCode.NOT_AUTHORIZED
    if is_allowed:
        refusal = refusal_of_topic(packet.topic, client.entrance.mount_point)
    if refusal is None:
        hub.ingress.publish(session, packet)
        return
    if not is_allowed and hub.guard is not None and hub.guard.disconnects(session.version):
        client.close(refusal, "the client may not publish there")
        return
    if not _begin(client, session, packet):
        return
    is_delayed = is_allowed and packet.topic.startswith(DELAYED_PREFIX)
    if is_delayed and hub.settings.topics.delayed_maximum_seconds:
        delay(client, session, packet)
    else:
        refuse(client, session, packet, refusal)


def _begin(client: Client, session: Session, packet: Publish) -> bool:
    """Of a PUBLISH that does not go to the router; False if nothing is left to do."""
    client.hub.ingress.received[packet.qos] += 1
    client.hub.settings.capabilities.check_publish(packet.qos, packet.retain)
    return not packet.qos or begin(client, session, packet)


Handler = Callable[[Client, Packet], None]


def _counted(name: str, handler: Handler) -> Handler:
    """Of a packet that is so rare that it may be counted by itself."""

    def handle(client: Client, packet: Packet) -> None:
        client.hub.counters.packets.add(name)
        handler(client, packet)

    return handle


HANDLERS: Mapping[type[Packet], Handler] = {
    Connect: _counted("connect", on_connect),
    Publish: on_publish,
    Subscribe: _counted("subscribe", on_subscribe),
    Unsubscribe: _counted("unsubscribe", on_unsubscribe),
    Pingreq: _counted("pingreq", on_pingreq),
    Disconnect: _counted("disconnect", on_disconnect),
    Auth: _counted("auth", on_auth),
}
