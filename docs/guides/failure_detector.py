"""A will as failure detector: whoever watches knows which devices are there, however they went.

python docs/guides/failure_detector.py 127.0.0.1:1883 watch
python docs/guides/failure_detector.py 127.0.0.1:1883 device 7
"""

import signal
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

HOST, PORT = sys.argv[1].split(":")
KEEP_ALIVE_SECONDS = (
    2  # a device that hangs, or whose network does, is missed after one and a half times that
)


def run(client: mqtt.Client) -> None:
    """Until it is ended; connects again whenever that is needed. How many devices do that: reconnect.py."""
    while True:
        try:
            client.connect(HOST, int(PORT), KEEP_ALIVE_SECONDS)
            while client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS:
                pass
        except OSError:
            pass
        time.sleep(0.5)


def device(number: str) -> None:
    """Its state is retained: who comes later sees it, too."""
    topic = f"devices/{number}/status"
    client = mqtt.Client(CallbackAPIVersion.VERSION2, f"device-{number}", protocol=mqtt.MQTTv5)
    # The broker has it from CONNECT on, in Redis: it is sent if this connection ends without a DISCONNECT,
    # also if it is the node that ends.
    client.will_set(topic, "lost", qos=1, retain=True)

    def appear(*_: object) -> None:
        """After each CONNECT: a will that was sent meanwhile would stand there for ever."""
        client.publish(topic, "there", qos=1, retain=True)

    client.on_connect = appear

    def leave(*_: object) -> None:
        """On purpose: no will is sent, so it says so itself."""
        client.publish(topic, "gone", qos=1, retain=True)
        client.disconnect()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    run(client)


def watch() -> None:
    """Each change, and first of all how it is."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "watch", protocol=mqtt.MQTTv5)

    def subscribe(*_: object) -> None:
        client.subscribe("devices/+/status", qos=1)

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: print("watching", flush=True)
    client.on_message = lambda _c, _u, message: print(
        f"{message.topic.split('/')[1]} {message.payload.decode()}", flush=True
    )
    run(client)


if __name__ == "__main__":
    if sys.argv[2] == "watch":
        watch()
    else:
        device(sys.argv[3])
