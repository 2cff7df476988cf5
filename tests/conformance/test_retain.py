"""Retained messages, and the options of a subscription that concern them [3.3.1.3, 3.8.3.1]."""

import pytest

from broker.mqtt import Properties, Puback, Publish, Suback, Subscribe, SubscriptionRequest
from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow
from tests.node.wire import WireClient


def _retained(flow: Flow, topic: str, *, qos: int = 1) -> list[Publish]:
    """What a new subscriber on the other half gets."""
    with flow.near("keeper") as keeper:
        keeper.publish(flow.name("last"), b"last", 1, retain=True)
    with flow.far("reader") as reader:
        return _retained_for(flow, reader, SubscriptionRequest(topic, qos))


def _retained_for(flow: Flow, reader: WireClient, request: SubscriptionRequest) -> list[Publish]:
    """What a SUBSCRIBE brings, up to the retained message of its last filter, which there must be."""
    last = SubscriptionRequest(flow.name("last"), 1)
    reader.send(Subscribe(reader.next_packet_id(), [request, last]))
    reader.expect(Suback)
    found: list[Publish] = []
    while (message := reader.message()).topic != last.filter:
        found.append(message)
    return found


@v5("3.3.1-5")
@v3("3.3.1-5", "3.3.1-6", "3.3.1-8")
def test_last_one_is_kept_with_its_qos(flow: Flow) -> None:
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"first", 1, retain=True)
    publisher.publish(flow.name("t"), b"second", 2, retain=True)
    (message,) = _retained(flow, flow.name("t"), qos=2)
    assert (message.payload, message.qos, message.retain) == (b"second", 2, True)


@v3("3.3.1-7")
@v5("3.3.1-5")
def test_message_at_qos_0_replaces_it(flow: Flow) -> None:
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"at QoS 1", 1, retain=True)
    publisher.publish(flow.name("t"), b"at QoS 0", 0, retain=True)
    publisher.publish(flow.name("later"), b"", 1)  # acknowledged behind what came before it
    assert [message.payload for message in _retained(flow, flow.name("t"))] == [b"at QoS 0"]


@v5("3.3.1-6", "3.3.1-7")
@v3("3.3.1-10", "3.3.1-11")
def test_empty_payload_removes_it(flow: Flow) -> None:
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("t"), qos=1)
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"kept", 1, retain=True)
    publisher.publish(flow.name("t"), b"", 1, retain=True)
    assert subscriber.payloads(2) == [b"kept", b""]
    assert _retained(flow, flow.name("t")) == []


@v5("3.3.1-8")
@v3("3.3.1-12")
def test_message_without_the_flag_changes_nothing(flow: Flow) -> None:
    publisher = flow.near("publisher")
    publisher.publish(flow.name("none"), b"not kept", 1)
    assert _retained(flow, flow.name("none")) == []
    publisher.publish(flow.name("t"), b"kept", 1, retain=True)
    publisher.publish(flow.name("t"), b"passes by", 1)
    publisher.publish(flow.name("t"), b"", 1)
    assert [message.payload for message in _retained(flow, flow.name("t"))] == [b"kept"]


@v3("3.3.1-6")
@v5("3.3.1-9")
def test_all_that_match_are_sent(flow: Flow) -> None:
    publisher = flow.near("publisher")
    for topic in ("a/x", "a/y", "b/x"):
        publisher.publish(flow.name(topic), topic.encode(), 1, retain=True)
    found = _retained(flow, flow.name("a/+"))
    assert sorted(message.topic for message in found) == [flow.name("a/x"), flow.name("a/y")]
    assert all(message.retain for message in found)


@v5("3.3.1-9", "3.3.1-10", "3.3.1-11", "3.8.4-4")
@pytest.mark.parametrize(("handling", "at_first", "again"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retain_handling(flow: Flow, handling: int, at_first: int, again: int) -> None:
    publisher = flow.near("publisher")
    for topic in ("t", "last"):
        publisher.publish(flow.name(topic), b"kept", 1, retain=True)
    subscriber = flow.far("subscriber")
    request = SubscriptionRequest(flow.name("t"), 1, retain_handling=handling)
    for expected in (at_first, again):
        assert len(_retained_for(flow, subscriber, request)) == expected


@v5("3.3.1-12", "3.3.1-13")
@pytest.mark.parametrize("as_published", [False, True])
def test_retain_as_published(flow: Flow, as_published: bool) -> None:
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("t"), qos=1, retain_as_published=as_published)
    publisher = flow.near("publisher")
    for retain in (True, False):
        publisher.publish(flow.name("t"), b"x", 1, retain=retain)
        assert subscriber.message().retain is (retain and as_published)


@v3("3.3.1-9")
def test_established_subscription_gets_no_flag(flow: Flow) -> None:
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("t"), qos=1)
    flow.near("publisher").publish(flow.name("t"), b"kept", 1, retain=True)
    assert subscriber.message().retain is False


@v5("3.8.4-4", "3.8.4-3")
@v3("3.8.4-3")
def test_subscribing_again_loses_no_message(flow: Flow) -> None:
    """Retained ones come again, and what is published meanwhile comes, in any case."""
    publisher = flow.near("publisher")
    publisher.publish(flow.name("kept"), b"kept", 1, retain=True)
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("#"), qos=1)
    assert subscriber.message().payload == b"kept"
    got: list[bytes] = []
    for number in range(10):
        publisher.publish(flow.name("t"), str(number).encode(), 1)
        _subscribe_again(subscriber, flow.name("#"), got)
    got += subscriber.payloads(20 - len(got))
    assert [payload for payload in got if payload != b"kept"] == [str(each).encode() for each in range(10)]
    assert got.count(b"kept") == 10


def _subscribe_again(subscriber: WireClient, filter: str, got: list[bytes]) -> None:
    """Takes what comes before the SUBACK too."""
    subscriber.send(Subscribe(subscriber.next_packet_id(), [SubscriptionRequest(filter, 1)]))
    while not isinstance(packet := subscriber.next(), Suback):
        assert isinstance(packet, Publish)
        subscriber.send(Puback(packet.packet_id))
        got.append(packet.payload)


@v5("3.8.4-4")
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("qos", [1, 2])
def test_retained_and_live_messages_meet(flow: Flow, keeps: bool, qos: int) -> None:
    """What has come live does not come again as retained; what was not retained takes nothing's place."""
    publisher = flow.near("publisher")
    for each in ("a", "b", "z"):
        publisher.publish(flow.name(each), b"kept", 1, retain=True)
    properties = Properties(receive_maximum=1)
    subscriber = flow.far("subscriber", keeps=keeps, properties=properties)
    subscriber.subscribe(flow.name("#"), qos=2)
    first = subscriber.expect(Publish)
    publisher.publish(flow.name("b"), b"event", qos)
    publisher.publish(flow.name("y"), b"kept", qos, retain=True)
    subscriber.send(Puback(first.packet_id))
    received = [first, *(subscriber.message() for _ in range(4))]
    assert sorted((each.topic, each.payload, each.retain) for each in received) == [
        (flow.name("a"), b"kept", True),
        (flow.name("b"), b"event", False),
        (flow.name("b"), b"kept", True),
        (flow.name("y"), b"kept", False),
        (flow.name("z"), b"kept", True),
    ]
    assert flow.until_mark(publisher, subscriber) == []
