"""Clients that are legal and unusual: in a hurry, oddly named, taken over, with many or large messages."""

import random
from pathlib import Path

import pytest

from broker.mqtt import (
    MQTT_5,
    Connect,
    Disconnect,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from tests.node.conftest import Clients
from tests.node.harness import NodeProcess, running_node
from tests.node.model import Publisher, Strike, Subscriber
from tests.node.wire import HOUR, WireClient, connected

ODD_NAMES = ["{a}", "}{", "%7B%", "a:b/c d", "ünï·码·😀", "\x7f\u200b", "f:x", "*?[a]", "'\"\\", "a" * 5000]


@pytest.mark.timeout(40)
def test_odd_names(tmp_path: Path) -> None:
    """As client ids, topics and filters of sessions, retained messages and wills; also after a kill."""
    with running_node(tmp_path) as node:
        for odd in ODD_NAMES:
            with connected(node.port, odd, properties=HOUR) as subscriber:
                subscriber.subscribe(f"{odd}/+", f"{odd}/#", f"{odd}/x", qos=2)
                subscriber.assert_silence(0.1)  # until it is known that nothing is retained yet
            with connected(node.port, f"{odd}-p", properties=HOUR) as publisher:
                publisher.publish(f"{odd}/x", odd.encode(), 2, retain=True)
        node.kill_all()
        node.start()
        for odd in ODD_NAMES:
            with WireClient(node.port) as subscriber:
                assert subscriber.connect(odd, clean_start=False, properties=HOUR).session_present
                publish = subscriber.message()
                assert (publish.topic, publish.payload) == (f"{odd}/x", odd.encode())
                assert subscriber.unsubscribe(f"{odd}/+", f"{odd}/#", f"{odd}/x").reason_codes == [0, 0, 0]
                for filter in (f"{odd}/+", f"{odd}/x", f"{odd}/#"):
                    subscriber.send(Subscribe(9, [SubscriptionRequest(filter, 1)]))
                    subscriber.expect(Suback)
                    assert subscriber.message().payload == odd.encode(), filter
                subscriber.assert_silence()


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
def test_publish_and_gone(client: Clients, name: str, qos: int, expiry: int) -> None:
    """CONNECT, PUBLISH and DISCONNECT in one piece: the message counts."""
    watcher = client("watcher", properties=HOUR)
    watcher.subscribe(name, qos=2)
    for number in range(10):
        with client.raw() as hasty:
            hasty.send(
                Connect(
                    client.id_of(f"h{number}"),
                    MQTT_5,
                    True,
                    0,
                    properties=Properties(session_expiry_interval=expiry),
                ),
                Publish(name, b"%d" % number, qos, False, False, 1 if qos else 0),
                Disconnect(),
            )
            hasty.wait_closed()
        assert watcher.message().payload == b"%d" % number


def test_subscribe_and_gone(client: Clients, name: str) -> None:
    """A stored subscription whose SUBACK nobody waits for: there, or not, but the same for everyone."""
    publisher = client("publisher")
    for number in range(10):
        topic = f"{name}/{number}"
        suffix = f"s{number}"
        with client(suffix, properties=HOUR) as hasty:
            hasty.send(Subscribe(1, [SubscriptionRequest(topic, 1)]))
            if number % 2:
                hasty.send(Disconnect())
        with client(suffix, clean_start=False, properties=HOUR) as back:
            is_matched = publisher.publish(topic, b"x", 1) == 0
            if is_matched:
                assert back.message().payload == b"x"
            assert back.unsubscribe(topic).reason_codes == [0 if is_matched else 0x11]


def test_gone_before_connack(client: Clients) -> None:
    """The session is free for the next connection, which finds it."""
    for number in range(20):
        with client.raw() as hasty:
            hasty.send(Connect(client.id_of(f"s{number}"), MQTT_5, False, 0, properties=HOUR))
        with client.raw() as back:
            assert (
                back.connect(client.id_of(f"s{number}"), clean_start=False, properties=HOUR).reason_code == 0
            )
            assert back.ping() == []


def test_one_filter_twice_in_a_packet(client: Clients, name: str) -> None:
    """As if they were two packets, one after the other [MQTT-3.8.4-5]."""
    for suffix, expiry in (("direct", 0), ("stored", 3600)):
        subscriber = client(suffix, properties=Properties(session_expiry_interval=expiry))
        requests = [SubscriptionRequest(name, 2), SubscriptionRequest(name, 0), SubscriptionRequest(name, 1)]
        subscriber.send(Subscribe(1, requests))
        assert subscriber.expect(Suback).reason_codes == [2, 0, 1]
        publisher = client("publisher")
        publisher.publish(name, b"x", 2)
        assert subscriber.message().qos == 1
        subscriber.assert_silence()
        assert subscriber.unsubscribe(name, name).reason_codes == [0, 0x11]
        assert publisher.publish(name, b"x", 1) == 0x10


def _sometimes(event: str, seed: int) -> Strike:
    chance = random.Random(seed)
    return lambda happened: happened == event and chance.random() < 0.15


@pytest.mark.parametrize("event", ["PUBLISH received", "PUBREC sent", "PUBREL received", "PUBCOMP sent"])
def test_taken_over_subscriber(node: NodeProcess, name: str, event: str) -> None:
    """The old connection is still there, perhaps with packets on their way, when the next one comes."""
    messages = [(name, b"%d" % number) for number in range(200)]
    with (
        Subscriber(node, f"{name}-s", strike=_sometimes(event, 1)) as subscriber,
        Publisher(node, f"{name}-p") as publisher,
    ):
        subscriber.abandons = True
        subscriber.subscribe(name, 2)
        publisher.publish(messages[:100], 2)
        subscriber.receive(100)
        publisher.publish(messages[100:], 2)
        subscriber.receive(200)
        subscriber.receive_no_more()
        assert subscriber.received == [payload for _, payload in messages]


@pytest.mark.parametrize("event", ["PUBLISH sent", "PUBREC received", "PUBREL sent", "PUBCOMP received"])
def test_taken_over_publisher(node: NodeProcess, name: str, event: str) -> None:
    messages = [(name, b"%d" % number) for number in range(200)]
    with (
        Subscriber(node, f"{name}-s") as subscriber,
        Publisher(node, f"{name}-p", strike=_sometimes(event, 2)) as publisher,
    ):
        publisher.abandons = True
        subscriber.subscribe(name, 2)
        publisher.publish(messages, 2, window=7)
        subscriber.receive(200)
        subscriber.receive_no_more()
        assert subscriber.received == [payload for _, payload in messages]


def test_large_messages(tmp_path: Path) -> None:
    """As large as they may be, several at once, over a kill."""
    with (
        running_node(tmp_path) as node,
        Subscriber(node, "s") as subscriber,
        Publisher(node, "p") as publisher,
    ):
        subscriber.subscribe("t", 2)
        subscriber.lose()
        messages = [("t", b"%02d" % number + bytes(1_000_000)) for number in range(20)]
        publisher.publish(messages[:10], 2, window=10)
        node.kill_all()
        node.start()
        publisher.publish(messages[10:], 2, window=10)
        subscriber.receive(20)
        assert [payload[:2] for payload in subscriber.received] == [b"%02d" % number for number in range(20)]


@pytest.mark.timeout(60)
def test_identifiers_wrap_around(tmp_path: Path) -> None:
    """After 65,535 messages Packet Identifiers begin again; one that is still in use is not given away
    [MQTT-2.2.1-4]."""
    count = 65_600
    with (
        running_node(tmp_path, environment={"MOORLINE_SESSION__QUEUE_LIMIT": "100000"}) as node,
        Publisher(node, "p") as publisher,
        connected(node.port, "s", properties=HOUR) as subscriber,
    ):
        subscriber.subscribe("t", qos=2)
        publisher.publish([("t", b"held")], 2)
        held = subscriber.expect(Publish)
        subscriber.send(Pubrec(held.packet_id))
        assert subscriber.expect(Pubrel) == Pubrel(held.packet_id)
        received = 0
        seen: set[int] = set()
        while received < count:
            batch = min(800, count - received)
            publisher.publish([("t", b"%d" % (received + i)) for i in range(batch)], 1, window=batch)
            for _ in range(batch):
                if received == 65_534:  # the one that would get the identifier of the first waits for it
                    subscriber.assert_silence(0.2)
                    subscriber.send(Pubcomp(held.packet_id))
                    seen.clear()
                publish = subscriber.expect(Publish)
                assert publish.packet_id not in seen
                seen.add(publish.packet_id)
                assert publish.payload == b"%d" % received
                subscriber.send(Puback(publish.packet_id))
                received += 1
