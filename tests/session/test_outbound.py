"""What direct and queued sessions have in common: QoS 0, and the handshakes in which a client goes astray."""

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Publish, Pubrel
from broker.session import packet_id_of
from tests.session.wire import Link, entry, message, payloads


@pytest.mark.parametrize(
    ("n", "packet_id"), [(1, 1), (2, 2), (65_535, 65_535), (65_536, 1), (131_070, 65_535), (131_071, 1)]
)
def test_packet_identifiers_follow_from_the_number(n: int, packet_id: int) -> None:
    assert packet_id_of(n) == packet_id


def test_a_delivery_shows_its_place() -> None:
    text = "Delivery(1-2, Message('t', 1 bytes, qos=1, retain=False), qos=1, retain=False)"
    assert repr(entry(2)) == text


# QoS 0


def test_qos_0_is_sent_at_once() -> None:
    link = Link()
    outbound = link.direct()
    assert outbound.deliver_at_most_once(message(b"hello", qos=0), True)
    assert link.take() == [Publish("t", b"hello", 0, True, False, 0)]
    assert outbound.quota == outbound.window


def test_qos_0_with_subscription_identifiers_and_expiry() -> None:
    link = Link()
    outbound = link.direct()
    outbound.deliver_at_most_once(message(b"a"), False, (4, 5))
    outbound.deliver_at_most_once(message(b"b", deadline_ms=link.clock.now_ms + 5_000), False)
    first, second = link.take()
    assert isinstance(first, Publish)
    assert isinstance(second, Publish)
    assert first.properties is not None
    assert first.properties.subscription_identifier == (4, 5)
    assert second.properties is not None
    assert second.properties.message_expiry_interval == 5


def test_qos_0_is_dropped_for_a_client_that_does_not_read() -> None:
    link = Link(limit_bytes=20)
    outbound = link.direct()
    link.outbox.blocked = True
    sent = [outbound.deliver_at_most_once(message(b"0123456789"), False) for _ in range(4)]
    assert sent == [True, True, False, False]
    assert link.drops.counts == {"slow_consumer": 2}
    (letter, _) = link.drops.take_letters()
    assert (letter.bucket, letter.client_id, letter.topic) == (7, "client", "t")


def test_qos_0_larger_than_the_client_takes() -> None:  # [MQTT-3.1.2-24]
    link = Link(MQTT_3_1_1)
    outbound = link.direct(maximum_packet_size=10)
    assert outbound.deliver_at_most_once(message(b"12345"), False)  # 2 + 3 + 5
    assert not outbound.deliver_at_most_once(message(b"123456"), False)
    assert payloads(link.take()) == [b"12345"]
    assert link.drops.counts == {"packet_too_large": 1}


# Handshakes


@pytest.mark.parametrize(("version", "expected"), [(MQTT_5, Pubrel(9, 0x92)), (MQTT_3_1_1, Pubrel(9))])
def test_a_pubrec_that_belongs_to_nothing(version: int, expected: Pubrel) -> None:
    link = Link(version)
    assert not link.direct().pubrec(9, 0)
    assert link.take() == [expected]


def test_a_pubrec_for_a_qos_1_message_does_not_end_it() -> None:
    link = Link()
    outbound = link.direct()
    outbound.deliver(message(b"a"), 1, False)
    link.take()
    assert not outbound.pubrec(1, 0)
    assert link.take() == [Pubrel(1, 0x92)]
    assert outbound.puback(1)
