"""A transactional outbox, and a consumer that may get everything twice and does everything once.

    python docs/guides/transactional_outbox.py 127.0.0.1:1883 shop.db sell 20
    python docs/guides/transactional_outbox.py 127.0.0.1:1883 stock.db book [--crash-after 5]
    python docs/guides/transactional_outbox.py 127.0.0.1:8090 shop.db mark

The shop writes each order and the message about it in one transaction, and a relay publishes what is not yet
published. The stock books a message, and notes its identifier, in one transaction, and acknowledges then.
What becomes of a message is told by a forward of the broker, an HTTP client: `mark` is its server, and marks
the row.
"""

import contextlib
import json
import os
import sqlite3
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST, PORT = sys.argv[1].split(":")
TOPIC = "shop/orders"
SHOP = """
CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, pieces INTEGER);
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE, text TEXT, published INTEGER DEFAULT 0, outcome TEXT
)
"""
STOCK = """
CREATE TABLE IF NOT EXISTS stock (pieces INTEGER);
CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY);
INSERT INTO stock SELECT 1000 WHERE NOT EXISTS (SELECT * FROM stock)
"""


def opened(path: str, schema: str) -> sqlite3.Connection:
    """With its tables."""
    database = sqlite3.connect(path)
    database.executescript(schema)
    return database


def connected(client: mqtt.Client, expiry_seconds: int) -> mqtt.Client:
    """As soon as the broker is there."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it without types
    properties.SessionExpiryInterval = expiry_seconds
    while True:
        try:
            client.connect(HOST, int(PORT), clean_start=False, properties=properties)
        except OSError:
            time.sleep(0.5)
        else:
            return client


def sell(path: str, count: int) -> None:
    """Orders first, all of them; the relay would be a thread or a process of its own."""
    database = opened(path, SHOP)
    for _ in range(count):
        with database:  # one transaction: an order without its message, or the other way round, can't be
            database.execute("INSERT INTO orders (pieces) VALUES (1)")
            database.execute("INSERT INTO outbox (id, text) VALUES (?, '1 piece')", [str(uuid.uuid4())])
    client = connected(mqtt.Client(CallbackAPIVersion.VERSION2, "shop", protocol=mqtt.MQTTv5), 3600)
    acknowledged = threading.Event()
    client.on_publish = lambda *_: acknowledged.set()
    client.loop_start()  # connects again, and sends again what was not acknowledged
    for number, message_id, text in database.execute(
        "SELECT number, id, text FROM outbox WHERE published = 0"
    ).fetchall():
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # the same
        properties.UserProperty = ("message-id", message_id)
        acknowledged.clear()
        client.publish(TOPIC, text, qos=1, properties=properties)
        acknowledged.wait()
        with database:  # a crash before this publishes it again, with the same identifier
            database.execute("UPDATE outbox SET published = 1 WHERE number = ?", [number])
        print(f"published {number}", flush=True)
    client.disconnect()
    client.loop_stop()


def book(path: str, crash_after: int) -> None:
    """Until somebody ends it."""
    database = opened(path, STOCK)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "stock", protocol=mqtt.MQTTv5, manual_ack=True)
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    booked = 0

    def take(_client: mqtt.Client, _user: object, message: mqtt.MQTTMessage) -> None:
        nonlocal booked
        assert message.properties is not None
        message_id = dict(getattr(message.properties, "UserProperty"))["message-id"]  # noqa: B009 - untyped
        with database:  # the effect and the identifier, or neither
            new = database.execute("INSERT OR IGNORE INTO inbox VALUES (?)", [message_id]).rowcount
            database.execute("UPDATE stock SET pieces = pieces - ?", [new])
        print("booked" if new else "had it", flush=True)
        booked += new
        if new and booked == crash_after:
            os._exit(1)  # booked, not acknowledged: it will come again
        client.ack(message.mid, message.qos)

    def subscribe(*_: object) -> None:
        client.subscribe(TOPIC, qos=1)

    client.on_connect = subscribe
    client.on_message = take
    while True:
        connected(client, 3600)
        while client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS:
            pass


class Marks(BaseHTTPRequestHandler):
    """Takes events. One comes again if our answer gets lost; `delivered` also after a kill of the broker."""

    def do_POST(self) -> None:
        """One event, as the payload of a message."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        event = json.loads(message["payload"])
        message_id = dict(event.get("user_properties", [])).get("message-id")  # None: it is not known which
        with contextlib.closing(opened(sys.argv[2], SHOP)) as database, database:
            database.execute(
                "UPDATE outbox SET outcome = ? WHERE id = ? AND outcome IS NOT 'delivered'",
                [event["kind"], message_id],
            )
        print(event["kind"], message_id, flush=True)
        self.send_response(204)  # committed: now it need not be told again
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        """Nothing."""


def mark() -> None:
    """Until somebody ends it."""
    with HTTPServer((HOST, int(PORT)), Marks) as server:
        print(f"listening at {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    what = sys.argv[3]
    if what == "sell":
        sell(sys.argv[2], int(sys.argv[4]))
    elif what == "mark":
        mark()
    else:
        book(sys.argv[2], int(sys.argv[5]) if "--crash-after" in sys.argv else 0)
