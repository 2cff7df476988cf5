"""Retained messages over real sockets: kept by Redis, replayed to new subscriptions."""

import threading
import time
from pathlib import Path

import pytest

from broker.mqtt import MQTT_3_1_1, Properties, Publish, Suback, Subscribe, SubscriptionRequest
from tests.node.conftest import Clients
from tests.node.harness import running_node
from tests.node.model import Publisher, Subscriber

AT_ONCE_SECONDS = 0.1
LIVES = pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
NOTHING_COMES_SECONDS = 0.3
"""How long to wait for retained messages that must not come: they are read after SUBACK."""


def _properties(expiry: int) -> Properties:
    return Properties(session_expiry_interval=expiry)


@LIVES
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_set_replace_clear(client: Clients, name: str, expiry: int, qos: int) -> None:
    """[MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-8]"""
    publisher = client("publisher")
    subscriber = client("subscriber", properties=_properties(expiry))
    publisher.publish(name, b"first", qos, retain=True)
    publisher.publish(name, b"second", qos, retain=True)
    publisher.publish(name, b"not retained", qos)
    publisher.publish(f"{name}/later", b"", 1)  # when this is acknowledged, those at QoS 0 are stored, too
    subscriber.subscribe(name, qos=2)
    publish = subscriber.message()
    assert (publish.payload, publish.qos, publish.retain) == (b"second", qos, True)
    subscriber.unsubscribe(name)
    publisher.publish(name, b"", qos, retain=True)
    publisher.publish(f"{name}/later", b"", 1)
    subscriber.subscribe(name, qos=2)
    subscriber.assert_silence(NOTHING_COMES_SECONDS)


@LIVES
def test_without_delay(client: Clients, name: str, expiry: int) -> None:
    """Retained messages follow the SUBACK at once, not with the next thing that happens to be sent."""
    client("publisher").publish(name, b"kept", 1, retain=True)
    subscriber = client("subscriber", properties=_properties(expiry))
    waited = []
    for _ in range(5):
        subscriber.subscribe(name, qos=1)
        start = time.monotonic()
        subscriber.message()
        waited.append(time.monotonic() - start)
        subscriber.unsubscribe(name)
    assert sorted(waited)[2] < AT_ONCE_SECONDS, waited


@LIVES
def test_wildcards(client: Clients, name: str, expiry: int) -> None:
    publisher = client("publisher", MQTT_3_1_1)
    topics = ["a", "a/b", "a/b/c", "b", "b/b", "", "a//c"]
    for topic in topics:
        publisher.publish(f"{name}/{topic}", b"at " + topic.encode(), 1, retain=True)
    expected = {
        f"{name}/#": topics,
        f"{name}/+": ["a", "b", ""],
        f"{name}/+/b": ["a/b", "b/b"],
        f"{name}/a/#": ["a", "a/b", "a/b/c", "a//c"],
        f"{name}/+/+/c": ["a/b/c", "a//c"],
        f"{name}/b/+/#": ["b/b"],
    }
    subscriber = client("subscriber", properties=_properties(expiry))
    for filter, matching in expected.items():
        subscriber.subscribe(filter, qos=1)
        received = subscriber.payloads(len(matching))
        assert sorted(received) == sorted(b"at " + topic.encode() for topic in matching), filter
        subscriber.assert_silence(0.1)
        subscriber.unsubscribe(filter)


def test_leading_wildcards(client: Clients, name: str) -> None:
    """All buckets are asked, `$` topics aside [MQTT-4.7.2-1]."""
    publisher = client("publisher")
    for first in range(20):
        publisher.publish(f"{first}/{name}", b"%d" % first, 1, retain=True)
    publisher.publish(f"$hidden/{name}", b"hidden", 1, retain=True)
    subscriber = client("subscriber")
    subscriber.subscribe(f"+/{name}", qos=1)
    assert sorted(subscriber.payloads(20)) == sorted(b"%d" % first for first in range(20))
    subscriber.assert_silence(NOTHING_COMES_SECONDS)


@LIVES
def test_retain_handling(client: Clients, name: str, expiry: int) -> None:
    """[MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]"""
    client("publisher").publish(name, b"kept", 1, retain=True)
    subscriber = client("subscriber", properties=_properties(expiry))
    subscriber.subscribe(name, qos=1, retain_handling=2)
    subscriber.assert_silence(NOTHING_COMES_SECONDS)
    subscriber.subscribe(name, qos=1, retain_handling=1)  # it exists already
    subscriber.assert_silence(NOTHING_COMES_SECONDS)
    subscriber.subscribe(name, qos=1, retain_handling=0)
    assert subscriber.message().payload == b"kept"
    subscriber.unsubscribe(name)
    subscriber.subscribe(name, qos=1, retain_handling=1)
    assert subscriber.message().payload == b"kept"
    subscriber.assert_silence(NOTHING_COMES_SECONDS)


@LIVES
def test_everything_of_the_message_is_kept(client: Clients, name: str, expiry: int) -> None:
    sent = Properties(
        payload_format_indicator=0,
        content_type="a",
        response_topic="r",
        correlation_data=b"\x01",
        user_property=(("k", "1"), ("k", "2")),
    )
    client("publisher").publish(name, b"\x00\xff", 2, retain=True, properties=sent)
    subscriber = client("subscriber", properties=_properties(expiry))
    subscriber.subscribe(name, qos=1, identifier=7)
    publish = subscriber.message()
    assert publish.properties == Properties(
        payload_format_indicator=0,
        content_type="a",
        response_topic="r",
        correlation_data=b"\x01",
        user_property=(("k", "1"), ("k", "2")),
        subscription_identifier=(7,),
    )
    assert (publish.payload, publish.qos, publish.retain) == (b"\x00\xff", 1, True)


def test_expiry(client: Clients, name: str) -> None:
    """[MQTT-3.3.2-5], [MQTT-3.3.2-6]"""
    publisher = client("publisher")
    publisher.publish(f"{name}/short", b"", 1, retain=True, properties=Properties(message_expiry_interval=1))
    publisher.publish(f"{name}/short", b"x", 1, retain=True, properties=Properties(message_expiry_interval=1))
    publisher.publish(
        f"{name}/long", b"y", 1, retain=True, properties=Properties(message_expiry_interval=100)
    )
    threading.Event().wait(1.6)
    subscriber = client("subscriber")
    subscriber.subscribe(f"{name}/#", qos=1)
    publish = subscriber.message()
    assert publish.payload == b"y"
    assert publish.properties is not None
    assert publish.properties.message_expiry_interval in (98, 99)
    subscriber.assert_silence(NOTHING_COMES_SECONDS)


@LIVES
def test_more_than_the_window(client: Clients, name: str, expiry: int) -> None:
    """The replay goes on as the client acknowledges; nothing is skipped, nothing comes twice."""
    count = 700
    publisher = client("publisher")
    for first in range(0, count, 100):
        publisher.send(
            *[
                Publish(f"{name}/{i:03}", b"%03d" % i, 1, True, False, i + 1)
                for i in range(first, first + 100)
            ]
        )
        for _ in range(100):
            publisher.next()
    subscriber = client(
        "subscriber", properties=Properties(session_expiry_interval=expiry, receive_maximum=7)
    )
    subscriber.subscribe(f"{name}/#", qos=2)
    assert sorted(subscriber.payloads(count)) == [b"%03d" % i for i in range(count)]
    subscriber.assert_silence(NOTHING_COMES_SECONDS)


@LIVES
def test_retained_or_live_never_neither(client: Clients, name: str, expiry: int) -> None:
    """Subscribers that come while one client publishes growing numbers as retained: each gets a number that
    is not older than the last acknowledged before its SUBSCRIBE, and all that follow."""
    for numbers, floor, last in _race(client, name, expiry):
        received = [number for number, _ in numbers]
        assert received[0] >= floor, f"{received} begins before {floor}"
        live = [number for number, is_retained in numbers if not is_retained]
        assert not live or live == list(range(live[0], last + 1)), f"a gap in {live}"
        assert sorted(set(received)) == list(range(min(received), last + 1)), f"neither way: {received}"


@LIVES
def test_retained_never_after_a_newer_one(client: Clients, name: str, expiry: int) -> None:
    """Who keeps the last value of a topic must not end with an old one."""
    for numbers, _, last in _race(client, name, expiry):
        assert numbers[-1][0] == last, f"an old one comes last: {numbers}"


def _race(client: Clients, topic: str, expiry: int) -> list[tuple[list[tuple[int, bool]], int, int]]:
    """What each of some subscribers got: numbers, and whether as retained; the last number acknowledged
    before its SUBSCRIBE; the last of all."""
    publisher = client("publisher")
    publisher.publish(topic, b"0", 1, retain=True)
    acknowledged = 0
    stop = threading.Event()

    def publish_on() -> None:
        nonlocal acknowledged
        while not stop.is_set():
            publisher.publish(topic, b"%d" % (acknowledged + 1), 1, retain=True)
            acknowledged += 1

    thread = threading.Thread(target=publish_on)
    thread.start()
    begun = []
    try:
        for number in range(12):
            subscriber = client(f"subscriber-{number}", properties=_properties(expiry))
            floor = acknowledged
            subscriber.send(Subscribe(1, [SubscriptionRequest(topic, 1)]))
            begun.append((subscriber, floor))
    finally:
        stop.set()
        thread.join()
    results = []
    for subscriber, floor in begun:
        subscriber.expect(Suback)
        numbers: list[tuple[int, bool]] = []
        while (packet := subscriber.poll(NOTHING_COMES_SECONDS if numbers else 5.0)) is not None:
            assert isinstance(packet, Publish)
            numbers.append((int(packet.payload), packet.retain))
        results.append((numbers, floor, acknowledged))
    return results


def test_replay_goes_on_after_a_kill(tmp_path: Path) -> None:
    """A persistent session gets each retained message once at QoS 2, though the node dies in the replay."""
    count = 500
    with (
        running_node(tmp_path) as node,
        Publisher(node, "publisher") as publisher,
        Subscriber(node, "subscriber") as subscriber,
    ):
        publisher.publish([(f"r/{i:03}", b"%03d" % i) for i in range(count)], qos=2, retain=True)
        subscriber.subscribe("r/#", 2)
        subscriber.receive(150)
        node.restart()
        subscriber.receive(300)
        node.kill_all()
        node.start()
        subscriber.receive(count)
        assert sorted(subscriber.received) == [b"%03d" % i for i in range(count)]
