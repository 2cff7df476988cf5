"""Connecting again with back-off and jitter: a fleet that does not come back in one moment.

    python docs/guides/reconnect.py 127.0.0.1:1883 20

runs 20 devices in this process. Kill the broker, and start it again: they come back one after the other.
"""

import random
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

HOST, PORT = sys.argv[1].split(":")
FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
CALM_SECONDS = 10.0


class BackOff:
    """How long to wait before the next try: anything up to a limit that doubles ("full jitter"). All of it is
    chance: if it were not, all devices that lost the broker in one moment would come back in one moment."""

    def __init__(self) -> None:
        self.limit = FIRST_SECONDS

    def wait(self) -> float:
        """Before the next try."""
        seconds = random.uniform(0, self.limit)
        self.limit = min(self.limit * 2, LONGEST_SECONDS)
        return seconds

    def note_connection(self, seconds: float) -> None:
        """One has ended. Not each one was good: a broker that takes us and throws us out at once is as bad as
        none, and must not be tried all the time."""
        if seconds >= CALM_SECONDS:
            self.limit = FIRST_SECONDS


def device(number: int, started: float) -> None:
    """For ever."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, f"fleet-{number}", protocol=mqtt.MQTTv5)

    def say(client: mqtt.Client, _user: object, _flags: object, reason: ReasonCode, *_: object) -> None:
        if reason.is_failure:  # "server busy", "quota exceeded": a failure like any other
            client.disconnect()
        else:
            sys.stdout.write(
                f"{number} connected at {time.monotonic() - started:.2f}\n"
            )  # whole: there are threads
            sys.stdout.flush()

    client.on_connect = say
    back_off = BackOff()
    while True:
        begun = time.monotonic()
        try:
            client.connect(HOST, int(PORT), keepalive=10)
            while client.loop(1.0) == mqtt.MQTT_ERR_SUCCESS:
                pass
            back_off.note_connection(time.monotonic() - begun)
        except OSError:
            pass
        time.sleep(back_off.wait())


def main() -> None:
    """Runs them all."""
    started = time.monotonic()
    for number in range(int(sys.argv[2])):
        threading.Thread(target=device, args=(number, started), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
