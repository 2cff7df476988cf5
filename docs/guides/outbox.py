"""An outbox on the device: what was measured is on its own disk until the broker has acknowledged it.

    python docs/guides/outbox.py 127.0.0.1:1883 /var/lib/device/outbox.db 50

measures 50 times and ends when all is acknowledged. Kill the broker, the network or the device at any moment
and start it again: nothing that was measured is lost. What was on its way may come twice (QoS 1), hence the
number in it.
"""

import sqlite3
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

HOST, PORT = sys.argv[1].split(":")
DATABASE, COUNT = sys.argv[2], int(sys.argv[3])
UNACKNOWLEDGED_MAXIMUM = 20  # so much may come twice

SCHEMA = "CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY, value TEXT, done INTEGER DEFAULT 0)"


class Outbox:
    """The table, and a client that empties it. All in one thread: paho's network loop runs in `step`."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(DATABASE, isolation_level=None)
        self.database.execute("PRAGMA synchronous = FULL")
        self.database.execute(SCHEMA)
        self.on_the_way: dict[int, int] = {}  # packet identifier -> number
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, "device-7", protocol=mqtt.MQTTv5)
        self.client.on_publish = self.acknowledged
        self.client.connect_async(HOST, int(PORT))

    def measure(self, value: str) -> None:
        """First of all it is on the disk."""
        self.database.execute("INSERT INTO outbox (value) VALUES (?)", [value])

    def waiting(self) -> list[tuple[int, str]]:
        """What is not acknowledged, in order."""
        sql = "SELECT number, value FROM outbox WHERE done = 0 ORDER BY number"
        return self.database.execute(sql).fetchall()

    def send(self) -> None:
        """What is not on its way. Of what is, paho itself sends again after a reconnect what was lost."""
        for number, value in self.waiting():
            if len(self.on_the_way) >= UNACKNOWLEDGED_MAXIMUM:
                break
            if number not in self.on_the_way.values():
                sent = self.client.publish("devices/7/measured", f"{number} {value}", qos=1)
                self.on_the_way[sent.mid] = number

    def acknowledged(self, _client: mqtt.Client, _user: object, mid: int, *_: object) -> None:
        """The broker has stored it: only now it may be forgotten here."""
        number = self.on_the_way.pop(mid)
        self.database.execute("UPDATE outbox SET done = 1 WHERE number = ?", [number])
        print(f"acknowledged {number}", flush=True)

    def step(self) -> None:
        """A moment of the network. How to wait between two tries of many devices: reconnect.py."""
        if self.client.is_connected():
            self.send()
        if self.client.loop(0.02) != mqtt.MQTT_ERR_SUCCESS:
            try:
                self.client.reconnect()
            except OSError:
                time.sleep(0.5)


def main() -> None:
    """Measures, and ends when the outbox is empty."""
    outbox = Outbox()
    (measured,) = outbox.database.execute("SELECT count(*) FROM outbox").fetchone()
    while measured < COUNT or outbox.waiting():
        if measured < COUNT:
            outbox.measure(f"{time.time():.3f}")
            measured += 1
        outbox.step()
    outbox.client.disconnect()
    print("the outbox is empty", flush=True)


if __name__ == "__main__":
    main()
