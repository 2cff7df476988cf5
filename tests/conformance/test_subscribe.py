"""SUBSCRIBE and UNSUBSCRIBE, and their answers [3.8 to 3.11]."""

import pytest

from broker.mqtt import (
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow
from tests.node.wire import WireClient

TOO_MANY = 0x97
NO_SUBSCRIPTION_EXISTED = 0x11


@v5("3.8.4-1", "3.8.4-2", "3.8.4-6", "3.8.4-7", "3.9.3-1", "3.9.3-2", "2.2.1-6", "3.2.2-10")
@v3("3.8.4-1", "3.8.4-2", "3.8.4-5", "3.9.3-1", "3.9.3-2", "2.3.1-7")
def test_answer_to_subscribe(flow: Flow) -> None:
    """One code for each filter, in their order."""
    client = flow.near()
    requests = [SubscriptionRequest(flow.name(str(qos)), qos) for qos in (2, 0, 1)]
    for packet_id in (1, 77, 65_535):
        client.send(Subscribe(packet_id, requests))
        assert client.expect(Suback) == Suback(packet_id, [2, 0, 1])


@v5("3.8.4-7", "3.9.3-2", "3.9.3-1")
@v3("3.8.4-5", "3.9.3-2", "3.9.3-1")
def test_refused_filters_are_told(strict_flow: Flow) -> None:
    """The node lets a session have two subscriptions."""
    client = strict_flow.near()
    requests = [SubscriptionRequest(strict_flow.name(each), 1) for each in ("a", "b", "c")]
    client.send(Subscribe(1, requests))
    refused = TOO_MANY if strict_flow.is_mqtt_5 else 0x80
    assert client.expect(Suback).reason_codes == [1, 1, refused]
    strict_flow.far("publisher").publish(strict_flow.name("b"), b"granted", 1)
    assert client.message().payload == b"granted"


@v5("3.8.4-8")
@v3("3.8.4-6")
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
def test_lower_qos_of_both(flow: Flow, granted: int, published: int) -> None:
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("t"), qos=granted)
    publisher = flow.near("publisher")
    flow.open_way(publisher, subscriber, flow.name("t"))
    publisher.publish(flow.name("t"), b"x", published)
    assert subscriber.message().qos == min(granted, published)


@v5("3.8.4-5")
@v3("3.8.4-4")
def test_several_filters_count_like_several_packets(flow: Flow) -> None:
    """The same filter twice in a packet: the second one replaces the first."""
    client = flow.near()
    requests = [SubscriptionRequest(flow.name(each), qos) for each, qos in (("t", 0), ("u", 1), ("t", 2))]
    client.send(Subscribe(1, requests))
    assert client.expect(Suback).reason_codes == [0, 1, 2]
    publisher = flow.far("publisher")
    publisher.publish(flow.name("u"), b"x", 2)
    publisher.publish(flow.name("t"), b"x", 2)
    messages = [client.message(), client.message()]
    assert {(each.topic, each.qos) for each in messages} == {(flow.name("u"), 1), (flow.name("t"), 2)}


@v5("3.8.4-3")
@v3("3.8.4-3")
@pytest.mark.parametrize("keeps", [False, True])
def test_same_filter_replaces_the_subscription(flow: Flow, keeps: bool) -> None:
    """One copy, at the new QoS."""
    subscriber = flow.far("subscriber", keeps=keeps)
    subscriber.subscribe(flow.name("mark"), qos=1)
    publisher = flow.near("publisher")
    for qos in (2, 1, 2):
        subscriber.subscribe(flow.name("t"), qos=qos)
        flow.until_mark(publisher, subscriber)
        publisher.publish(flow.name("t"), b"x", 2)
        assert subscriber.message().qos == qos
        assert flow.until_mark(publisher, subscriber) == []


@v5("3.8.4-3")
@v3("3.8.4-3")
def test_replacement_counts_from_its_suback(flow: Flow) -> None:
    subscriber = flow.far("subscriber", keeps=True)
    publisher = flow.near("publisher")
    for qos in (2, 1) * 5:
        subscriber.subscribe(flow.name("t"), qos=qos)
        publisher.publish(flow.name("t"), b"x", 2)
        assert subscriber.message().qos == qos


@v5("3.8.4-3")
@v3("3.8.4-3")
def test_replacement_of_qos_0_counts_from_its_suback(flow: Flow) -> None:
    """Where it had no queue before."""
    subscriber = flow.far("subscriber", keeps=True)
    subscriber.subscribe(flow.name("mark"), qos=1)
    publisher = flow.near("publisher")
    for qos in (1, 2):
        subscriber.subscribe(flow.name("t"), qos=0)
        flow.until_mark(publisher, subscriber)
        subscriber.subscribe(flow.name("t"), qos=qos)
        publisher.publish(flow.name("t"), b"x", 2)
        assert subscriber.message().qos == qos


@v5("3.8.3-3")
def test_no_local(flow: Flow) -> None:
    """Not to the same Client Identifier, whatever the filter; to others it goes."""
    client = flow.near("s", keeps=True)
    client.subscribe(flow.name("#"), qos=1, no_local=True)
    other = flow.far("other")
    other.subscribe(flow.name("#"), qos=1, no_local=True)
    client.publish(flow.name("t"), b"own", 1)
    assert other.message().payload == b"own"
    assert flow.until_mark(other, client) == []


@v5("3.8.3-3")
def test_no_local_over_connections(flow: Flow) -> None:
    """A message that waits for its own publisher is not one of another client."""
    first = flow.near("s", keeps=True)
    first.subscribe(flow.name("#"), qos=1, no_local=True)
    publisher = flow.far("publisher")
    first.publish(flow.name("t"), b"own", 1)
    first.disconnect()
    publisher.publish(flow.name("t"), b"another's", 1)
    back = flow.far("s", keeps=True)
    assert back.message().payload == b"another's"


# UNSUBSCRIBE


@v5("3.10.4-4", "3.10.4-5", "3.10.4-6", "3.11.3-1", "3.11.3-2", "2.2.1-6")
@v3("3.10.4-4", "3.10.4-5", "3.10.4-6", "2.3.1-7")
def test_answer_to_unsubscribe(flow: Flow) -> None:
    """With the same Packet Identifier, also if there was nothing to delete."""
    client = flow.near()
    client.subscribe(flow.name("a"), flow.name("b"))
    for packet_id, codes in ((65_535, [0x11, 0, 0, 0x11]), (3, [0x11] * 4)):
        client.send(Unsubscribe(packet_id, [flow.name(each) for each in ("none", "a", "b", "a")]))
        expected = codes if flow.is_mqtt_5 else []
        assert client.expect(Unsuback) == Unsuback(packet_id, expected)


@v5("3.10.4-1")
@v3("3.10.4-1")
def test_same_characters_or_nothing(flow: Flow) -> None:
    """A filter that matches the same topics, or is the same to the eye, is another one."""
    subscriber = flow.far("subscriber")
    held = [flow.name(each) for each in ("a/b", "a/+", "é")]
    subscriber.subscribe(*held, flow.name("mark"), qos=1)
    others = [flow.name(each) for each in ("a/B", "a/#", "+/b", "a/b/", "e\u0301", "#")]
    codes = subscriber.unsubscribe(*others).reason_codes
    assert codes == ([NO_SUBSCRIPTION_EXISTED] * len(others) if flow.is_mqtt_5 else [])
    publisher = flow.near("publisher")
    for topic in ("a/b", "é"):
        publisher.publish(flow.name(topic), b"x", 1)
        assert subscriber.message().topic == flow.name(topic)
    subscriber.unsubscribe(flow.name("a/b"))
    publisher.publish(flow.name("a/b"), b"by the other filter", 1)
    assert subscriber.message().payload == b"by the other filter"
    subscriber.unsubscribe(flow.name("a/+"))
    publisher.publish(flow.name("a/b"), b"by none", 1)
    assert flow.until_mark(publisher, subscriber) == []


@v5("3.10.4-2")
@v3("3.10.4-2")
@pytest.mark.parametrize("keeps", [False, True])
def test_nothing_new_after_unsubscribe(flow: Flow, keeps: bool) -> None:
    subscriber = flow.far("subscriber", keeps=keeps)
    subscriber.subscribe(flow.name("t"), flow.name("mark"), qos=1)
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"before", 1)
    assert subscriber.message().payload == b"before"
    subscriber.unsubscribe(flow.name("t"))
    publisher.publish(flow.name("t"), b"after", 1)
    assert flow.until_mark(publisher, subscriber) == []


@v5("3.10.4-3")
@v3("3.10.4-3")
def test_what_was_begun_is_completed(flow: Flow) -> None:
    """QoS 2: PUBREC is still answered with PUBREL; QoS 1: it is sent again on a resume."""
    subscriber = flow.far("subscriber", keeps=True)
    subscriber.subscribe(flow.name("t"), qos=2)
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"at QoS 1", 1)
    first = subscriber.expect(Publish)
    publisher.publish(flow.name("t"), b"at QoS 2", 2)
    second = subscriber.expect(Publish)
    subscriber.unsubscribe(flow.name("t"))
    subscriber.send(Pubrec(second.packet_id))
    assert subscriber.expect(Pubrel).packet_id == second.packet_id
    subscriber.close()
    back = flow.near("subscriber", keeps=True)
    received = _by_kind(back, 2)
    assert received[Pubrel] == Pubrel(second.packet_id)
    again = received[Publish]
    assert isinstance(again, Publish)
    assert (again.payload, again.packet_id, again.dup) == (b"at QoS 1", first.packet_id, True)
    back.send(Puback(first.packet_id))
    assert back.ping() == []


def _by_kind(client: WireClient, count: int) -> dict[type, object]:
    packets = [client.next() for _ in range(count)]
    return {type(packet): packet for packet in packets}
