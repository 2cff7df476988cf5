"""Clients that other people wrote, by TLS, WebSocket and both; and one node whatever the way to it."""

import json
import queue
import subprocess
import time

import paho.mqtt.client as paho
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from broker.mqtt import Puback, Publish
from tests.e2e.program import SECONDS, Program
from tests.listeners.conftest import Listening
from tests.tools import require_node_package, require_tool

SIZES = [0, 1, 10_000, 70_000, 250_000]


def _subscriber(
    where: Listening, kind: str, client_id: str, topic: str
) -> tuple[paho.Client, queue.Queue[bytes]]:
    """A paho client that is subscribed; what it gets."""
    subscribed: queue.Queue[object] = queue.Queue()
    messages: queue.Queue[bytes] = queue.Queue()
    transport = "tcp" if kind == "tls" else "websockets"
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        protocol=MQTTProtocolVersion.MQTTv5,
        transport=transport,  # type: ignore[arg-type]  # one of the two
    )
    if kind != "ws":
        client.tls_set(str(where.certificate.file))
    if kind != "tls":
        client.ws_set_options("/mqtt")

    def subscribe() -> None:
        client.subscribe(topic, 2)

    client.on_message = lambda _c, _u, message: messages.put(bytes(message.payload))
    client.on_subscribe = lambda *_: subscribed.put(None)
    client.on_connect = lambda _c, _u, _f, _r, _p: subscribe()
    client.connect("localhost", getattr(where, kind))
    client.loop_start()
    subscribed.get(timeout=SECONDS)
    return client, messages


@pytest.mark.parametrize("kind", ["tls", "ws", "wss"])
def test_paho(where: Listening, name: str, kind: str) -> None:
    """Both ways, each QoS, small and large."""
    client, messages = _subscriber(where, kind, name, name)
    try:
        for qos in (0, 1, 2):
            for size in SIZES:
                client.publish(name, bytes(size), qos)
                assert messages.get(timeout=SECONDS) == bytes(size)
        label = {"listener": kind}
        assert where.metric("moorline_listener_connections", **label) >= 1
    finally:
        client.disconnect()
        client.loop_stop()
    (event,) = [event for event in where.node.events("connected") if event["client_id"] == name]
    assert str(event["peer"]).startswith(f"{kind}:127.0.0.1:")


def test_mosquitto(where: Listening, name: str) -> None:
    options = ["-h", "localhost", "-p", str(where.tls), "--cafile", str(where.certificate.file), "-t", name]
    buffered = [require_tool("stdbuf"), "-oL", require_tool("mosquitto_sub"), "-d", "-q", "2"]
    with Program([*buffered, *options]) as subscriber:
        subscriber.wait_for("Subscribed (mid: 1)")
        publish = [require_tool("mosquitto_pub"), *options, "-q", "2", "-m", "hello", "--tls-alpn", "mqtt"]
        subprocess.run(publish, check=True, timeout=SECONDS)
        assert subscriber.wait_for("hello") == "hello"


def test_mqttjs(where: Listening, name: str) -> None:
    """One process, which goes through TLS, WebSocket and secure WebSocket, MQTT 3.1.1 and 5.0."""
    directory = require_node_package("mqtt")
    urls = [
        f"mqtts://localhost:{where.tls}",
        f"ws://localhost:{where.ws}/mqtt",
        f"wss://localhost:{where.wss}/mqtt",
    ]
    plan = {"urls": urls, "ca": str(where.certificate.file), "topic": name, "sizes": SIZES}
    with Program([require_tool("node"), "mqttjs/listeners.js", json.dumps(plan)], directory) as program:
        for url in urls:
            for version in (4, 5):
                for qos in (0, 1, 2):
                    assert program.line() == f"{url} {version} {qos} {' '.join(map(str, SIZES))}"
        assert program.wait() == []


@pytest.mark.parametrize("kind", ["ws", "wss", "tls"])
def test_a_subscriber_that_does_not_read(where: Listening, name: str, kind: str) -> None:
    """QoS 0 is dropped beyond the limit, QoS 1 waits and comes in order, once it reads."""
    with where.wire(kind) as subscriber, where.wire("tcp") as publisher:
        subscriber.shrink_buffer()
        assert subscriber.connect(name).reason_code == 0
        assert publisher.connect(f"{name}-publisher").reason_code == 0
        subscriber.subscribe(name, qos=1)
        dropped = where.metric("moorline_messages_dropped_total", reason="slow_consumer", qos="0")
        payloads = [b"%06d" % number + bytes(60_000) for number in range(200)]
        for payload in payloads:
            publisher.publish(name, payload, 1)
        for _ in range(25):
            publisher.publish(name, bytes(60_000))
        deadline = time.monotonic() + SECONDS
        while where.metric("moorline_messages_dropped_total", reason="slow_consumer", qos="0") == dropped:
            assert time.monotonic() < deadline
        received: list[bytes] = []
        while len(received) < len(payloads):
            message = subscriber.message()
            if message.qos == 1:
                received.append(message.payload)
        assert received == payloads


@pytest.mark.parametrize("kind", ["ws", "wss", "tls"])
def test_while_redis_is_away_a_flood_is_held_back(where: Listening, name: str, kind: str) -> None:
    """Reading stops at the limit, all is acknowledged in order when Redis is back."""
    redis = psutil.Process(where.node.redis_pid())
    with where.wire(kind) as publisher:
        assert publisher.connect(name).reason_code == 0
        redis.suspend()
        try:
            for number in range(1, 101):
                publisher.send(Publish(name, bytes(3000), 1, False, False, number))
            deadline = time.monotonic() + SECONDS
            while where.metric("moorline_connections_reading_paused") == 0:
                assert time.monotonic() < deadline
            assert publisher.poll(0.05) is None
        finally:
            redis.resume()
        assert [publisher.expect(Puback).packet_id for _ in range(100)] == list(range(1, 101))
        publisher.ping()
        assert where.metric("moorline_connections_reading_paused") == 0
