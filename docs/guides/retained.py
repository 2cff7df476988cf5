"""Retained message or persistent session: what *is* so, and what has *happened*.

python docs/guides/retained.py 127.0.0.1:1883
"""

import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST, PORT = sys.argv[1].split(":")


def app(name: str, *, has_session: bool) -> mqtt.Client:
    """Somebody who wants to know; says so when the subscription counts."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it without types
    properties.SessionExpiryInterval = 3600 if has_session else 0
    made = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)

    def say(_client: mqtt.Client, _user: object, message: mqtt.MQTTMessage) -> None:
        sys.stdout.write(
            f"{name} got {message.topic}: {message.payload.decode()}\n"
        )  # whole: there are threads
        sys.stdout.flush()

    made.on_message = say
    made.connect_async(HOST, int(PORT), clean_start=not has_session, properties=properties)
    return made


def start(client: mqtt.Client) -> None:
    """Returns when it is connected."""
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.loop_start()
    connected.wait(10)


def subscribe(client: mqtt.Client) -> None:
    """Both: a door's state, and what happens to it. With a session that is there, once is enough."""
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    start(client)
    client.subscribe("door/#", qos=1)
    subscribed.wait(10)


def end(client: mqtt.Client) -> None:
    """With a DISCONNECT."""
    client.disconnect()
    client.loop_stop()


def live() -> None:
    """Opened and closed while nobody looks. The state is retained: the newest takes the place of the one
    before. Events are not: each goes to the sessions that there are."""
    door = app("door", has_session=False)
    start(door)
    for what in ("open", "closed", "open"):
        door.publish("door/events", what, qos=1).wait_for_publish(10)
        door.publish("door/state", what, qos=1, retain=True).wait_for_publish(10)
    end(door)


if __name__ == "__main__":
    historian = app("historian", has_session=True)
    subscribe(historian)
    end(historian)
    live()
    print("lived: kill the broker (kill -9), start it again, and press Enter", flush=True)
    input()
    newcomer = app("newcomer", has_session=False)
    subscribe(newcomer)  # one message: the state
    historian = app("historian", has_session=True)
    historian.loop_start()  # all that has happened
    print("back: press Enter to end", flush=True)
    input()
    end(newcomer)
    end(historian)
