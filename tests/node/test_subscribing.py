"""What a subscription asks for and what it gets, over real sockets; for direct and for stored sessions."""

import pytest

from broker.mqtt import (
    MQTT_3_1_1,
    Connect,
    Properties,
    Publish,
    ReasonCode,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from tests.node.conftest import Clients
from tests.node.wire import WireClient

LIVES = pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
DENIED = 0x80


def _properties(expiry: int) -> Properties:
    return Properties(session_expiry_interval=expiry)


def _identifiers(publish: Publish) -> list[int]:
    return sorted(publish.properties.subscription_identifier) if publish.properties is not None else []


@LIVES
@pytest.mark.parametrize("subscribed", [0, 1, 2])
def test_qos_is_the_lower_of_both(client: Clients, name: str, expiry: int, subscribed: int) -> None:
    """[MQTT-3.8.4-8]"""
    subscriber = client("subscriber", properties=_properties(expiry))
    assert subscriber.subscribe(name, qos=subscribed).reason_codes == [subscribed]
    publisher = client("publisher")
    for qos in (0, 1, 2):
        publisher.publish(name, b"%d" % qos, qos)
        publish = subscriber.message()
        assert (publish.payload, publish.qos) == (b"%d" % qos, min(qos, subscribed))
        assert not publish.dup
        assert not publish.retain


@LIVES
def test_filters(client: Clients, name: str, expiry: int) -> None:
    subscriber = client("subscriber", properties=_properties(expiry))
    subscriber.subscribe(f"{name}/+/b", f"{name}/d/#", qos=1)
    publisher = client("publisher")
    for topic in ("a/b", "a/c", "a/b/c", "/b", "d", "d/e", "d/e/f", "dd"):
        publisher.publish(f"{name}/{topic}", topic.encode(), 1)
    assert subscriber.payloads(5) == [b"a/b", b"/b", b"d", b"d/e", b"d/e/f"]
    subscriber.assert_silence()


def test_wildcards_spare_topics_of_the_server(client: Clients, name: str) -> None:
    """[MQTT-4.7.2-1]"""
    subscriber = client("subscriber")
    subscriber.subscribe("#", f"+/{name}", qos=1)
    publisher = client("publisher")
    publisher.publish(f"$SYS/{name}", b"hidden", 1)
    publisher.publish(f"seen/{name}", b"seen", 1)
    while (payload := subscriber.message().payload) != b"seen":  # '#' gets what other tests publish, too
        assert payload != b"hidden"


@LIVES
def test_overlapping_filters_give_one_copy(client: Clients, name: str, expiry: int) -> None:
    """At the highest QoS, with all Subscription Identifiers [MQTT-3.3.4-2], [MQTT-3.3.4-4]."""
    subscriber = client("subscriber", properties=_properties(expiry))
    subscriber.subscribe(f"{name}/#", qos=0, identifier=10)
    subscriber.subscribe(f"{name}/+", qos=2, identifier=20)
    subscriber.subscribe(f"{name}/a", qos=1)
    publisher = client("publisher")
    publisher.publish(f"{name}/a", b"1", 2)
    publish = subscriber.message()
    assert (publish.qos, _identifiers(publish)) == (2, [10, 20])
    publisher.publish(f"{name}/a/b", b"2", 2)
    publish = subscriber.message()
    assert (publish.payload, publish.qos, _identifiers(publish)) == (b"2", 0, [10])
    subscriber.assert_silence()


@LIVES
def test_subscription_identifier_is_replaced(client: Clients, name: str, expiry: int) -> None:
    """[MQTT-3.8.4-3]"""
    subscriber = client("subscriber", properties=_properties(expiry))
    publisher = client("publisher")
    for identifier, qos in ((1, 1), (268_435_455, 0), (0, 2)):
        subscriber.subscribe(name, qos=qos, identifier=identifier)
        publisher.publish(name, b"", 2)
        publish = subscriber.message()
        assert (publish.qos, _identifiers(publish)) == (qos, [identifier] if identifier else [])
    subscriber.assert_silence()


@LIVES
def test_no_local(client: Clients, name: str, expiry: int) -> None:
    """[MQTT-3.8.3-3]; an overlapping subscription without it still gets the message."""
    both = client("both", properties=_properties(expiry))
    other = client("other", properties=_properties(expiry))
    both.subscribe(f"{name}/#", qos=1, no_local=True)
    other.subscribe(f"{name}/#", qos=1, no_local=True)
    assert both.publish(f"{name}/a", b"mine", 1) == 0
    both.publish(f"{name}/a", b"mine at 0", 0)
    assert other.payloads(2) == [b"mine", b"mine at 0"]
    both.assert_silence()
    other.publish(f"{name}/a", b"yours", 1)
    assert both.message().payload == b"yours"
    both.subscribe(f"{name}/b", qos=0)
    both.send(Publish(f"{name}/b", b"asked for", 1, False, False, 99))
    received = {type(packet).__name__: packet for packet in (both.next(), both.next())}
    publish = received["Publish"]
    assert isinstance(publish, Publish)
    assert (publish.payload, publish.qos) == (b"asked for", 0)


@LIVES
def test_retain_as_published(client: Clients, name: str, expiry: int) -> None:
    """[MQTT-3.3.1-12], [MQTT-3.3.1-13]"""
    plain = client("plain", properties=_properties(expiry))
    bridge = client("bridge", properties=_properties(expiry))
    plain.subscribe(name, qos=1)
    bridge.subscribe(name, qos=1, retain_as_published=True)
    publisher = client("publisher")
    for qos in (0, 1):
        for retain in (True, False):
            publisher.publish(name, b"x", qos, retain=retain)
            assert plain.message().retain is False
            assert bridge.message().retain is retain


@LIVES
def test_unsubscribe(client: Clients, name: str, expiry: int) -> None:
    """[MQTT-3.10.4-2], [MQTT-3.10.4-4]"""
    subscriber = client("subscriber", properties=_properties(expiry))
    subscriber.subscribe(f"{name}/a", f"{name}/b", qos=1)
    publisher = client("publisher")
    answer = subscriber.unsubscribe(f"{name}/a", f"{name}/never")
    assert answer.reason_codes == [0, ReasonCode.NO_SUBSCRIPTION_EXISTED]
    assert publisher.publish(f"{name}/a", b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
    publisher.publish(f"{name}/b", b"b", 1)
    assert subscriber.message().payload == b"b"
    subscriber.assert_silence()
    assert subscriber.unsubscribe(f"{name}/a").reason_codes == [ReasonCode.NO_SUBSCRIPTION_EXISTED]


@LIVES
def test_no_matching_subscribers(client: Clients, name: str, expiry: int) -> None:
    publisher = client("publisher", properties=_properties(expiry))
    for qos in (1, 2):
        assert publisher.publish(name, b"", qos) == ReasonCode.NO_MATCHING_SUBSCRIBERS
    subscriber = client("subscriber", properties=_properties(expiry))
    subscriber.subscribe(name, qos=0)
    for qos in (1, 2):
        assert publisher.publish(name, b"", qos) == 0


def test_many_filters_in_one_packet(client: Clients, name: str) -> None:
    """One Reason Code for each, in their order [MQTT-3.8.4-6]."""
    for suffix, expiry in (("direct", 0), ("stored", 60)):
        subscriber = client(suffix, properties=_properties(expiry))
        requests = [SubscriptionRequest(f"{name}/{i}", i % 3) for i in range(200)]
        subscriber.send(Subscribe(3, requests))
        assert subscriber.expect(Suback).reason_codes == [i % 3 for i in range(200)]


def test_too_many_subscriptions(client: Clients, name: str) -> None:
    """Beyond the limit of a session each is refused with 0x97; replacing one is not adding one."""
    greedy = client("greedy")
    for first in range(0, 1000, 250):
        codes = greedy.subscribe(*[f"{name}/{i}" for i in range(first, first + 250)]).reason_codes
        assert codes == [0] * 250
    assert greedy.subscribe(f"{name}/more", f"{name}/7", qos=1).reason_codes == [ReasonCode.QUOTA_EXCEEDED, 1]


def test_too_deep_filter(client: Clients, name: str) -> None:
    subscriber = client("subscriber")
    assert subscriber.subscribe("/".join("a" * 500)).reason_codes == [ReasonCode.TOPIC_FILTER_INVALID]


def test_properties_are_forwarded(client: Clients, name: str) -> None:
    """Unaltered, User Properties in order [MQTT-3.3.2-4], [MQTT-3.3.2-17], [MQTT-3.3.2-18]."""
    sent = Properties(
        payload_format_indicator=1,
        content_type="text/plain",
        response_topic="reply/to",
        correlation_data=b"\x00\xff",
        user_property=(("b", "1"), ("a", "2"), ("b", "1"), ("", "")),
    )
    for suffix, expiry in (("direct", 0), ("stored", 60)):
        subscriber = client(suffix, properties=_properties(expiry))
        subscriber.subscribe(name, qos=2)
        old = client(f"{suffix}-old", MQTT_3_1_1)
        old.subscribe(name, qos=2)
        publisher = client("publisher")
        for qos in (0, 1, 2):
            publisher.publish(name, b"\xc3\xa9", qos, properties=sent)
            publish = subscriber.message()
            assert publish.properties == sent
            assert publish.payload == b"\xc3\xa9"
            assert old.message().properties is None


def test_subscription_counts_from_its_suback(client: Clients, name: str) -> None:
    """A message acknowledged after the SUBACK reaches it, however the two race: with and without a store."""
    publisher = client("publisher")
    for suffix, expiry in (("direct", 0), ("stored", 60)):
        subscribers: list[WireClient] = []
        for number in range(20):
            subscriber = client(f"{suffix}-{number}", properties=_properties(expiry))
            subscriber.send(Subscribe(1, [SubscriptionRequest(name, 1)]))
            publisher.send(Publish(name, b"racing", 1, False, False, 1))
            subscriber.expect(Suback)
            publisher.next()
            publisher.publish(name, b"%d" % number, 1)
            while (payload := subscriber.message().payload) == b"racing":
                pass
            assert payload == b"%d" % number
            subscribers.append(subscriber)
            for earlier in subscribers[:-1]:
                earlier.ping()
            subscriber.unsubscribe(name)


def test_connect_with_the_longest_client_id(client: Clients) -> None:
    long = client.raw()
    long.send(Connect("i" * 65_535, 5, True, 0))
    assert getattr(long.next(), "reason_code", None) == 0
