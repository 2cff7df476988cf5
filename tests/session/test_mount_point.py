"""What a client of a listener with a mount point is sent: nothing but what is below, under the rest of its
name."""

import pytest

from broker.mqtt import Properties, Publish, forwarded_properties
from broker.session import Delivery, Message, QueueState
from tests.session.wire import Link, message

OUTSIDE = "outside_mount_point"


def test_qos_0() -> None:
    link = Link()
    outbound = link.direct(mount_point="a/", maximum_packet_size=20)
    shared = message(b"1", topic="a/t", qos=0)
    assert outbound.deliver_at_most_once(shared, False)
    assert outbound.deliver_at_most_once(shared, True, (7,))
    assert not outbound.deliver_at_most_once(message(topic="b/t"), False)
    assert not outbound.deliver_at_most_once(message(b"x" * 20, topic="a/t"), False)
    assert link.take() == [
        Publish("t", b"1", 0, False, False, 0),
        Publish("t", b"1", 0, True, False, 0, Properties(subscription_identifier=(7,))),
    ]
    assert [(letter.topic, letter.reason) for letter in link.drops.take_letters()] == [
        ("b/t", OUTSIDE),
        ("a/t", "packet_too_large"),
    ]


def test_a_fan_out_is_encoded_once_for_all_with_the_same_mount_point() -> None:
    links = [Link(), Link(), Link()]
    properties = forwarded_properties(Properties(response_topic="a/r"))
    shared = Message("a/t", b"x", 0, False, properties)
    for link, mount_point in zip(links, ("a/", "a/", ""), strict=True):
        link.direct(mount_point=mount_point).deliver_at_most_once(shared, False)
        link.outbox.flush()
    first, second, plain = (link.wire.writes[0] for link in links)
    assert first is second
    assert links[0].take() == [Publish("t", b"x", 0, False, False, 0, Properties(response_topic="r"))]
    assert plain == shared.whole(5, False)
    assert links[2].take() == [Publish("a/t", b"x", 0, False, False, 0, Properties(response_topic="a/r"))]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_direct_session(qos: int) -> None:
    link = Link()
    outbound = link.direct(window=1, mount_point="a/", maximum_packet_size=30)
    outbound.deliver(message(b"1", topic="a/t", qos=qos), qos, False)
    for topic, payload in (("b/t", b"2"), ("a/t", b"x" * 30), ("a/u", b"3")):
        outbound.deliver(message(payload, topic=topic, qos=qos), qos, False)
    assert link.take() == [Publish("t", b"1", qos, False, False, 1)]
    (state,) = outbound.inflight
    if qos == 1:
        outbound.puback(state)
    else:
        outbound.pubrec(state, 0x97)
    assert [packet.topic for packet in link.take() if isinstance(packet, Publish)] == ["u"]
    assert [(letter.topic, letter.reason) for letter in link.drops.take_letters()] == [
        ("b/t", OUTSIDE),
        ("a/t", "packet_too_large"),
    ]


def test_a_queued_session_is_done_with_what_it_can_not_see() -> None:
    link = Link()
    queued = link.queued(n=3, sent=1, has_queue=True, mount_point="a/")
    topics = ["a/t", "b/t", "a/u"]
    entries = [Delivery(message(b"", topic=topic), 1, False, (), 1, n) for n, topic in enumerate(topics, 1)]
    queued.take_page(10, 3, entries, 8)
    assert link.take() == [
        Publish("t", b"", 1, False, True, 1),
        Publish("u", b"", 1, False, False, 3),
    ]
    assert queued.take_acknowledged() == [1, 2]
    assert link.drops.counts == {OUTSIDE: 1}


def test_topic_aliases_are_those_of_the_topics_it_sees() -> None:
    link = Link()
    outbound = link.direct(topic_aliases=3, mount_point="a/")
    for topic in ("a/long/topic", "a/long/topic", "a/long/topic", "long/topic"):
        outbound.deliver_at_most_once(message(b"", topic=topic, qos=0), False)
    assert link.take() == [
        Publish("long/topic", b"", 0, False, False, 0),  # a topic that comes once needs none
        Publish("long/topic", b"", 0, False, False, 0, Properties(topic_alias=1)),
        Publish("", b"", 0, False, False, 0, Properties(topic_alias=1)),
    ]


def test_a_session_hands_it_on() -> None:
    link = Link()
    for queue in (None, QueueState(1, 0, 0, 8, (), (), True)):
        made = link.session(queue, mount_point="a/")
        assert made.outbound.mount_point == "a/"
