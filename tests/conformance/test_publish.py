"""PUBLISH: what a message carries from one client to the other [3.3]."""

import time

import pytest

from broker.mqtt import MQTT_5, Properties, Puback, Pubcomp, Publish, Pubrec, Pubrel, encode
from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow
from tests.conformance.malformed.case import of_version, packet, text
from tests.node.wire import WireClient


def _pair(flow: Flow, qos: int = 1) -> tuple[WireClient, WireClient]:
    """A publisher, and a subscriber to everything of the test."""
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("#"), qos=qos)
    return flow.near("publisher"), subscriber


def _forwarded(flow: Flow, sent: Properties) -> Properties:
    """What becomes of the properties of a message."""
    publisher, subscriber = _pair(flow)
    publisher.publish(flow.name("t"), b"x", 1, properties=sent)
    received = subscriber.message().properties
    assert received is not None
    return received


@v5("3.3.2-4", "3.3.2-15", "3.3.2-16", "3.3.2-20")
def test_properties_are_forwarded_unaltered(flow: Flow) -> None:
    sent = Properties(
        payload_format_indicator=1,
        response_topic=f"{flow.name()}/ä/\ufeff",
        correlation_data=bytes(range(256)),
        content_type="text/plain; charset=\ufeffutf-8",
    )
    assert _forwarded(flow, sent) == sent


@v5("3.3.2-17", "3.3.2-18")
def test_user_properties_keep_their_order(flow: Flow) -> None:
    sent = Properties(user_property=(("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("a", "0")))
    assert _forwarded(flow, sent) == sent


@v5("3.3.2-4", "3.3.2-17", "3.3.2-18", "3.3.2-15", "3.3.2-16", "3.3.2-20")
def test_properties_wait_in_the_queue_unaltered(flow: Flow) -> None:
    sent = Properties(
        payload_format_indicator=0,
        response_topic="r",
        correlation_data=b"",
        content_type="",
        user_property=(("z", "1"), ("a", "2"), ("z", "1")),
    )
    away = flow.far("subscriber", keeps=True)
    away.subscribe(flow.name("t"), qos=1)
    away.disconnect()
    flow.near("publisher").publish(flow.name("t"), b"x", 1, properties=sent)
    assert flow.far("subscriber", keeps=True, clean_start=False).message().properties == sent


@v5("3.3.2-5", "3.3.2-6")
def test_expiry_counts_while_a_message_waits(flow: Flow) -> None:
    away = flow.far("subscriber", keeps=True)
    away.subscribe(flow.name("t"), qos=1)
    away.disconnect()
    publisher = flow.near("publisher")
    for payload, seconds in ((b"expires", 1), (b"stays", 30)):
        expiry = Properties(message_expiry_interval=seconds)
        publisher.publish(flow.name("t"), payload, 1, properties=expiry)
    time.sleep(1.2)
    message = flow.far("subscriber", keeps=True, clean_start=False).message()
    assert message.payload == b"stays"
    assert message.properties is not None
    assert message.properties.message_expiry_interval in range(20, 30)


@v5("3.3.2-3", "3.3.4-1")
@v3("3.3.2-3", "3.3.4-1")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_answer_and_topic(flow: Flow, qos: int) -> None:
    """Nothing, PUBACK, or PUBREC; and only to subscribers of the topic."""
    publisher, subscriber = _pair(flow, 2)
    other = flow.far("other")
    other.subscribe(flow.name("t/+"), qos=1)
    flow.open_way(publisher, subscriber, flow.name("t"))
    publisher.send(Publish(flow.name("t"), b"x", qos, False, False, 9 if qos else 0))
    if qos == 0:
        assert publisher.ping() == []
    else:
        answer = publisher.expect(Puback if qos == 1 else Pubrec)
        assert (answer.packet_id, answer.reason_code < 0x80) == (9, True)
    if qos == 2:
        publisher.send(Pubrel(9))
        assert publisher.expect(Pubcomp) == Pubcomp(9)
    assert subscriber.message().topic == flow.name("t")
    other.assert_silence()


@v5("2.2.2-1", "2.1.3-1", "2.2.1-2", "4.3.1-1", "3.3.1-2")
@v3("2.2.2-1", "2.3.1-5", "4.3.1-1", "3.3.1-2")
def test_bytes_of_a_message_at_qos_0(flow: Flow) -> None:
    """No flags, no Packet Identifier, no properties."""
    publisher, subscriber = _pair(flow)
    flow.open_way(publisher, subscriber, flow.name("t"))
    publisher.publish(flow.name("t"), b"x")
    expected = packet(0x30, text(flow.name("t")), of_version(flow.version), b"x")
    assert subscriber.receive_bytes(len(expected)) == expected


@v5("1.5.4-3")
@v3("1.5.3-3")
def test_byte_order_mark_is_a_character(flow: Flow) -> None:
    """In a topic, at its begin and within, and so another topic than without it."""
    subscriber = flow.far("subscriber")
    subscriber.subscribe(f"\ufeff{flow.name()}\ufeff", flow.name("mark"), qos=1)
    publisher = flow.near("publisher")
    publisher.publish(flow.name(), b"without", 1)
    publisher.publish(f"\ufeff{flow.name()}\ufeff", b"with", 1)
    (message,) = flow.until_mark(publisher, subscriber)
    assert (message.topic, message.payload) == (f"\ufeff{flow.name()}\ufeff", b"with")


@v5("3.3.4-2", "3.3.4-3", "3.3.4-4")
def test_overlapping_subscriptions(flow: Flow) -> None:
    """One copy, at the highest QoS, with all identifiers."""
    subscriber = flow.far("subscriber")
    for filter, qos, identifier in (("t", 0, 3), ("+", 2, 200), ("#", 1, 0)):
        subscriber.subscribe(flow.name(filter), qos=qos, identifier=identifier)
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"x", 2)
    message = subscriber.message()
    assert message.qos == 2
    assert message.properties is not None
    assert sorted(message.properties.subscription_identifier) == [3, 200]
    assert flow.until_mark(publisher, subscriber) == []


@v5("3.3.4-2", "3.3.4-3", "3.3.4-4")
@pytest.mark.parametrize("keeps", [False, True])
def test_overlapping_subscriptions_count_from_their_subacks(flow: Flow, keeps: bool) -> None:
    subscriber = flow.far("subscriber", keeps=keeps)
    publisher = flow.near("publisher")
    identifiers: dict[str, int] = {}
    for filter, qos, identifier, highest in (
        ("t", 1, 3, 1),
        ("+", 2, 200, 2),
        ("#", 1, 7, 2),
        ("+", 1, 4, 1),
    ):
        subscriber.subscribe(flow.name(filter), qos=qos, identifier=identifier)
        identifiers[filter] = identifier
        publisher.publish(flow.name("t"), b"x", 2)
        message = subscriber.message()
        assert message.qos == highest
        assert message.properties is not None
        assert sorted(message.properties.subscription_identifier) == sorted(identifiers.values())
    subscriber.unsubscribe(flow.name("+"))
    publisher.publish(flow.name("t"), b"x", 2)
    message = subscriber.message()
    assert message.properties is not None
    assert sorted(message.properties.subscription_identifier) == [3, 7]


@v3("3.3.5-1")
def test_overlapping_subscriptions_before_mqtt_5(flow: Flow) -> None:
    subscriber = flow.far("subscriber")
    for filter, qos in (("t", 0), ("+", 2), ("#", 1)):
        subscriber.subscribe(flow.name(filter), qos=qos)
    flow.near("publisher").publish(flow.name("t"), b"x", 2)
    assert subscriber.message().qos == 2


@v5("3.3.2-12")
def test_every_topic_alias_up_to_the_maximum(flow: Flow) -> None:
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("#"), qos=1)
    publisher = flow.raw()
    announced = publisher.connect(flow.name("publisher")).properties
    assert announced is not None
    maximum = announced.topic_alias_maximum
    assert maximum is not None
    for alias in range(1, maximum + 1):
        _by_alias(publisher, flow.name(str(alias)), alias)
    for alias in range(1, maximum + 1):
        _by_alias(publisher, "", alias)
    topics = [subscriber.message().topic for _ in range(2 * maximum)]
    assert topics == [flow.name(str(alias)) for alias in range(1, maximum + 1)] * 2


@v5("3.3.2-7")
def test_topic_alias_ends_with_its_connection(flow: Flow) -> None:
    publisher = flow.near("publisher", keeps=True)
    _by_alias(publisher, flow.name("t"), 1)
    publisher.disconnect()
    again = flow.far("publisher", keeps=True)
    again.send(Publish("", b"x", 1, False, False, 1, Properties(topic_alias=1)))
    assert again.wait_refused() == 0x82


def _by_alias(publisher: WireClient, topic: str, alias: int) -> None:
    assert publisher.publish(topic, b"x", 1, properties=Properties(topic_alias=alias)) < 0x80


@v5("3.1.2-27")
@pytest.mark.parametrize("maximum", [None, 0])
def test_no_topic_alias_to_a_client_that_takes_none(flow: Flow, maximum: int | None) -> None:
    subscriber = flow.far("subscriber", properties=Properties(topic_alias_maximum=maximum))
    subscriber.subscribe(flow.name("#"), qos=1)
    publisher = flow.near("publisher")
    for _ in range(3):
        publisher.publish(flow.name("a"), b"x", 1)
        message = subscriber.message()
        assert message.topic == flow.name("a")
        assert message.properties is None or message.properties.topic_alias is None


@v5("3.1.2-26", "3.3.2-11")
def test_topic_aliases_to_a_client(flow: Flow) -> None:
    """Within what it takes, each told with its topic before it stands for it."""
    maximum = 2
    subscriber = flow.far("subscriber", properties=Properties(topic_alias_maximum=maximum))
    subscriber.subscribe(flow.name("#"), qos=1)
    publisher = flow.near("publisher")
    topics = [flow.name(each) for each in "abcabcaabb"]
    known: dict[int, str] = {}
    received = []
    for topic in topics:
        publisher.publish(topic, b"x", 1)
        message = subscriber.message()
        alias = message.properties.topic_alias if message.properties is not None else None
        if alias is not None:
            assert 0 < alias <= maximum
            if message.topic:
                known[alias] = message.topic
            received.append(known[alias])
        else:
            received.append(message.topic)
    assert received == topics
    assert known


@v5("3.1.2-24", "3.1.2-25")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_too_large_a_message_is_left_out(flow: Flow, qos: int) -> None:
    """The subscriber gets the one before and the one after, and nothing waits for the one between."""
    narrow = Properties(maximum_packet_size=120, receive_maximum=1)
    subscriber = flow.far("subscriber", properties=narrow)
    subscriber.subscribe(flow.name("#"), qos=2)
    publisher = flow.near("publisher")
    flow.open_way(publisher, subscriber, flow.name("t"))
    for payload in (b"before", bytes(200), b"after"):
        publisher.publish(flow.name("t"), payload, qos)
    messages = [subscriber.message() for _ in range(2)]
    assert [message.payload for message in messages] == [b"before", b"after"]
    assert all(len(encode(message, MQTT_5)) <= 120 for message in messages)
