"""Which flow a packet belongs to. PUBLISH and its acknowledgements are not here: `Ingress` takes them."""

from collections.abc import Callable, Mapping

from broker.client.authenticating import on_auth
from broker.client.client import Client
from broker.client.closing import on_disconnect
from broker.client.connecting import on_connect
from broker.client.subscribing import on_subscribe, on_unsubscribe
from broker.mqtt import (
    Auth,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Subscribe,
    Unsubscribe,
    encode,
)


def on_pingreq(client: Client, packet: Packet) -> None:
    """[MQTT-3.12.4-1]"""
    client.send(encode(Pingresp(), client.connection.version))


HANDLERS: Mapping[type[Packet], Callable[[Client, Packet], None]] = {
    Connect: on_connect,
    Subscribe: on_subscribe,
    Unsubscribe: on_unsubscribe,
    Pingreq: on_pingreq,
    Disconnect: on_disconnect,
    Auth: on_auth,
}
