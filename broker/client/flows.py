"""Which flow a packet belongs to. The acknowledgements of PUBLISH are not here: `Ingress` takes them,
and each PUBLISH whose topic does not begin with `$`."""

from collections.abc import Callable, Mapping

from broker.client.authenticating import on_auth
from broker.client.client import Client
from broker.client.closing import on_disconnect
from broker.client.connecting import on_connect
from broker.client.delaying import delay
from broker.client.publishing import DELAYED_PREFIX, begin, refusal_of_topic, refuse
from broker.client.subscribing import on_subscribe, on_unsubscribe
from broker.mqtt import (
    Auth,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    Unsubscribe,
    encode,
)


def on_pingreq(client: Client, packet: Packet) -> None:
    """[MQTT-3.12.4-1]"""
    client.send(encode(Pingresp(), client.connection.version))


def on_publish(client: Client, packet: Packet) -> None:
    """To a topic that begins with `$`: perhaps to one that means something."""
    assert isinstance(packet, Publish)
    session = client.session
    assert session is not None
    hub = client.hub
    refusal = refusal_of_topic(packet.topic, client.mount_point)
    if refusal is None:
        hub.ingress.publish(session, packet)
        return
    hub.ingress.received[packet.qos] += 1
    hub.settings.capabilities.check_publish(packet.qos, packet.retain)
    if packet.qos and not begin(session, packet):
        return
    if packet.topic.startswith(DELAYED_PREFIX) and hub.settings.topics.delayed_maximum_seconds:
        delay(client, session, packet)
    else:
        refuse(client, session, packet, refusal)


HANDLERS: Mapping[type[Packet], Callable[[Client, Packet], None]] = {
    Connect: on_connect,
    Publish: on_publish,
    Subscribe: on_subscribe,
    Unsubscribe: on_unsubscribe,
    Pingreq: on_pingreq,
    Disconnect: on_disconnect,
    Auth: on_auth,
}
