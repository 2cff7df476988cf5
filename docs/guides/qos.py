"""Which QoS for what: a reading, an event and a command, for somebody who is away, by a broker that dies.

python docs/guides/qos.py 127.0.0.1:1883
"""

import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST, PORT = sys.argv[1].split(":")
SENT = {
    "plant/telemetry": (0, "21.5 C"),
    "plant/event": (1, "door opened"),
    "plant/command": (2, "close valve"),
}


def keep(kind: int, seconds: int) -> Properties:
    """For how long a session, or a message, is worth something."""
    properties = Properties(kind)  # type: ignore[no-untyped-call]  # paho leaves this class without types
    if kind == PacketTypes.CONNECT:
        properties.SessionExpiryInterval = seconds
    else:
        properties.MessageExpiryInterval = seconds
    return properties


def client(name: str) -> mqtt.Client:
    """One whose session outlives its connections."""
    made = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)
    made.connect_async(HOST, int(PORT), clean_start=False, properties=keep(PacketTypes.CONNECT, 3600))
    return made


def start(client: mqtt.Client) -> None:
    """Returns when it is connected."""
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.loop_start()
    connected.wait(10)


def subscribe_and_go() -> None:
    """From the SUBACK on everything at QoS 1 and 2 waits for us, wherever we are."""
    control = client("control-room")
    subscribed = threading.Event()
    control.on_subscribe = lambda *_: subscribed.set()
    start(control)
    control.subscribe("plant/#", qos=2)
    subscribed.wait(10)
    control.disconnect()
    control.loop_stop()


def publish_all() -> None:
    """At QoS 1 and 2 `wait_for_publish` returns when the broker has stored it: the rest is its problem."""
    plant = client("plant")
    start(plant)
    for topic, (qos, text) in SENT.items():
        # A command that comes an hour late does harm: it expires.
        properties = keep(PacketTypes.PUBLISH, 60) if qos == 2 else None
        plant.publish(topic, text, qos, properties=properties).wait_for_publish(10)
    plant.disconnect()
    plant.loop_stop()


def come_back() -> None:
    """And get what has waited."""
    control = client("control-room")
    control.on_message = lambda _c, _u, message: print(
        f"got {message.topic}: {message.payload.decode()}", flush=True
    )
    control.loop_start()
    input()
    control.disconnect()
    control.loop_stop()


if __name__ == "__main__":
    subscribe_and_go()
    publish_all()
    print("published: kill the broker (kill -9), start it again, and press Enter", flush=True)
    input()
    print("back: press Enter to end", flush=True)
    come_back()
