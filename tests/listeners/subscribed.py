"""A paho client that is subscribed, however it has come."""

import contextlib
import queue
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

SECONDS = 10.0


@dataclass(frozen=True)
class Subscribed:
    """It, and what it gets."""

    client: paho.Client
    messages: "queue.Queue[bytes]"

    def echo(self, topic: str, payload: bytes) -> None:
        """Publishes what it is subscribed to, at each QoS, and gets it."""
        for qos in (0, 1, 2):
            self.client.publish(topic, payload, qos)
            assert self.messages.get(timeout=SECONDS) == payload


@contextlib.contextmanager
def subscribed(
    client_id: str,
    topic: str,
    host: str,
    port: int = 1883,
    *,
    transport: Literal["tcp", "websockets", "unix"] = "tcp",
    context: ssl.SSLContext | None = None,
    bind_address: str = "",
) -> Iterator[Subscribed]:
    """Until the end of the block. `host`: the path of a unix socket, if that is the transport."""
    is_subscribed: queue.Queue[None] = queue.Queue()
    messages: queue.Queue[bytes] = queue.Queue()
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5, transport=transport
    )
    if context is not None:
        client.tls_set_context(context)
    if transport == "websockets":
        client.ws_set_options("/mqtt")

    def subscribe() -> None:
        client.subscribe(topic, 2)

    client.on_message = lambda _c, _u, message: messages.put(bytes(message.payload))
    client.on_subscribe = lambda *_: is_subscribed.put(None)
    client.on_connect = lambda *_: subscribe()
    client.connect(host, port, bind_address=bind_address)
    client.loop_start()
    try:
        is_subscribed.get(timeout=SECONDS)
        yield Subscribed(client, messages)
    finally:
        client.disconnect()
        client.loop_stop()
