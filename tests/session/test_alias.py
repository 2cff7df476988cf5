"""Topic Aliases that we set: what the client makes of the packets is always the message that was meant."""

from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import Packet, Properties, Publish
from broker.session import Delivery, Message, QueueState, TopicAliases
from tests.session.wire import Link, message

LONG = "plant/line/7/temperature"
OTHER = "plant/line/8/temperature"
SHORT = "short/t"


def _seen(packet: Packet) -> tuple[str, int]:
    """Topic and alias as they are on the wire."""
    assert isinstance(packet, Publish)
    alias = packet.properties.topic_alias if packet.properties is not None else None
    return packet.topic, alias or 0


class Receiver:
    """A client that keeps the table, as the specification tells it [3.3.2.3.4]."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._topics: dict[int, str] = {}

    def topic_of(self, packet: Packet) -> str:
        topic, alias = _seen(packet)
        if not alias:
            assert topic
            return topic
        assert alias <= self._maximum, "[MQTT-3.3.2-9], [MQTT-3.1.2-26]"
        if topic:
            self._topics[alias] = topic
        return self._topics[alias]


def test_what_each_alias_stands_for() -> None:
    aliases = TopicAliases(2)
    assert aliases.topics() == {}
    aliases.set(LONG, 1)
    aliases.set(OTHER, 2)
    assert aliases.topics() == {1: LONG, 2: OTHER}


def test_the_second_time_sets_it_and_then_it_stands_for_the_topic() -> None:
    link = Link()
    outbound = link.direct(topic_aliases=5)
    for _ in range(4):
        outbound.deliver_at_most_once(message(topic=LONG, qos=0), False)
    assert [_seen(packet) for packet in link.take()] == [(LONG, 0), (LONG, 1), ("", 1), ("", 1)]


def test_a_short_topic_gets_none() -> None:
    link = Link()
    outbound = link.direct(topic_aliases=5)
    for _ in range(3):
        outbound.deliver_at_most_once(message(topic=SHORT, qos=0), False)
    assert [_seen(packet) for packet in link.take()] == [(SHORT, 0)] * 3


def test_none_for_a_client_that_takes_none() -> None:  # [MQTT-3.1.2-27]
    link = Link()
    outbound = link.direct()
    for _ in range(3):
        outbound.deliver_at_most_once(message(topic=LONG, qos=0), False)
    assert [_seen(packet) for packet in link.take()] == [(LONG, 0)] * 3


def test_a_full_table_gives_away_what_was_not_used_for_longest() -> None:
    link = Link()
    outbound = link.direct(topic_aliases=2)
    topics = [f"a/long/topic/{number}" for number in range(3)]
    for number in (0, 0, 1, 1, 0, 2, 2, 2, 0, 1, 1):
        outbound.deliver_at_most_once(message(topic=topics[number], qos=0), False)
    assert [_seen(packet) for packet in link.take()] == [
        (topics[0], 0), (topics[0], 1), (topics[1], 0), (topics[1], 2), ("", 1),
        (topics[2], 0), (topics[2], 2), ("", 2), ("", 1), (topics[1], 0), (topics[1], 2),
    ]  # fmt: skip


def test_topics_seen_once_take_no_more_room_than_aliases() -> None:
    aliases = TopicAliases(2)
    assert [aliases.offer(topic) for topic in (LONG, OTHER, "a/third/topic")] == [0, 0, 0]
    assert aliases.offer(LONG) == 0, "forgotten"
    assert aliases.offer("a/third/topic") == 1
    assert repr(aliases) == "TopicAliases(0/2)"


def test_qos_1_with_everything_else_that_a_packet_has() -> None:
    link = Link()
    outbound = link.direct(topic_aliases=5)
    text = Message(LONG, b"x", 1, True, b"\x03\x00\x01a", link.clock.now_ms + 5_000)
    for _ in range(3):
        outbound.deliver(text, 1, True, (7,))
    properties = Properties(content_type="a", message_expiry_interval=5, subscription_identifier=(7,))
    aliased = Properties(
        content_type="a", message_expiry_interval=5, subscription_identifier=(7,), topic_alias=1
    )
    assert link.take() == [
        Publish(LONG, b"x", 1, True, False, 1, properties),
        Publish(LONG, b"x", 1, True, False, 2, aliased),
        Publish("", b"x", 1, True, False, 3, aliased),
    ]


def test_what_a_slow_reader_does_not_get_teaches_nothing() -> None:
    link = Link(limit_bytes=20)
    outbound = link.direct(topic_aliases=5)
    assert outbound.deliver_at_most_once(message(topic=LONG, qos=0), False)
    link.outbox.blocked = True
    assert not outbound.deliver_at_most_once(message(topic=LONG, qos=0), False)
    link.outbox.blocked = False
    for _ in range(2):
        outbound.deliver_at_most_once(message(topic=LONG, qos=0), False)
    assert [_seen(packet) for packet in link.take()] == [(LONG, 0), (LONG, 1), ("", 1)]


def test_what_is_too_large_teaches_nothing() -> None:
    link = Link()
    size = 2 + 2 + len(LONG) + 1 + 10
    outbound = link.direct(maximum_packet_size=size, topic_aliases=5)
    fits = message(b"0123456789", topic=LONG, qos=0)  # but not with an alias beside the topic
    for _ in range(3):
        assert outbound.deliver_at_most_once(fits, False)
    assert not outbound.deliver_at_most_once(message(b"0123456789A", topic=LONG, qos=0), False)
    assert [_seen(packet) for packet in link.take()] == [(LONG, 0)] * 3
    for _ in range(2):
        assert outbound.deliver_at_most_once(message(b"0123456", topic=LONG, qos=0), False)
    assert outbound.deliver_at_most_once(message(b"0" * 31, topic=LONG, qos=0), False), (
        "fits without the topic"
    )
    assert not outbound.deliver_at_most_once(message(b"0" * 32, topic=LONG, qos=0), False)
    assert [_seen(packet) for packet in link.take()] == [(LONG, 1), ("", 1), ("", 1)]
    assert link.drops.counts == {"packet_too_large": 2}


def test_a_queue_sets_them_too_and_a_new_connection_knows_none() -> None:  # [MQTT-3.3.2-7]
    for _ in range(2):
        link = Link()
        queued = link.queued(topic_aliases=5)
        for n in range(1, 4):
            queued.take(Delivery(message(topic=LONG), 1, False, (), 1, n))
        assert [_seen(packet) for packet in link.take()] == [(LONG, 0), (LONG, 1), ("", 1)]


def test_what_is_sent_again_has_its_topic_on_a_new_connection() -> None:
    link = Link()
    queued = link.queued(n=2, sent=2, has_queue=True, topic_aliases=5)
    entries = [Delivery(message(topic=LONG), 1, False, (), 1, n) for n in (1, 2)]
    queued.take_page(10, 2, entries, 8)
    packets = link.take()
    assert [_seen(packet) for packet in packets] == [(LONG, 0), (LONG, 1)]
    assert all(isinstance(packet, Publish) and packet.dup for packet in packets)


def test_a_session_hands_the_number_on() -> None:
    link = Link()
    assert link.session().outbound.aliases is None
    for queue in (None, QueueState(1, 0, 0, 8, (), (), True)):
        made = link.session(queue, topic_aliases=3)
        assert repr(made.outbound.aliases) == "TopicAliases(0/3)"


@given(
    limit=st.integers(1, 4),
    sent=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.sampled_from([0, 5, 40])), max_size=60),
)
def test_the_client_always_knows_which_topic_is_meant(limit: int, sent: list[tuple[int, int, int]]) -> None:
    """Whatever is dropped in between; a packet of the larger ones fits only if an alias stands for its
    topic, or not at all."""
    link = Link()
    outbound = link.direct(window=100, maximum_packet_size=45, topic_aliases=limit)
    receiver = Receiver(limit)
    for number, qos, size in sent:
        text = message(b"%d" % number + bytes(size), topic=f"topic/number/{number}", qos=qos)
        if qos:
            outbound.deliver(text, 1, False)
        else:
            outbound.deliver_at_most_once(text, False)
        for packet in link.take():
            assert isinstance(packet, Publish)
            assert receiver.topic_of(packet) == f"topic/number/{number}"
            assert packet.payload == text.payload
            if packet.qos:
                outbound.puback(packet.packet_id)
    assert len(link.drops.take_letters()) == sum(link.drops.counts.values())
