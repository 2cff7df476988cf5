"""The sending half of a session that ends with its connection."""

import pytest

from broker.mqtt import MQTT_3_1_1, Publish, Pubrel
from tests.session.wire import Link, message, payloads, published

CONTINUE_REASON = 0x10


def test_qos_1_to_its_end() -> None:
    link = Link()
    outbound = link.direct(window=2)
    outbound.deliver(message(b"a"), 1, False)
    assert link.take() == [Publish("t", b"a", 1, False, False, 1)]
    assert outbound.quota == 1
    assert repr(outbound) == "DirectOutbound(quota=1/2, in flight=[1], released=[])"
    assert outbound.puback(1)
    assert outbound.quota == 2
    assert not outbound.puback(1)
    assert outbound.quota == 2


def test_qos_2_to_its_end() -> None:
    link = Link()
    outbound = link.direct(window=2)
    outbound.deliver(message(b"a"), 2, False)
    assert link.take() == [Publish("t", b"a", 2, False, False, 1)]
    assert not outbound.puback(1)  # not how QoS 2 goes on
    assert not outbound.pubcomp(1)
    assert outbound.pubrec(1, 0)
    assert link.take() == [Pubrel(1)]
    assert outbound.quota == 1  # the place is held until PUBCOMP
    assert outbound.pubrec(1, 0)
    assert link.take() == [Pubrel(1)]
    assert outbound.pubrec(1, 0x80)  # too late to refuse
    assert link.take() == []
    assert outbound.pubcomp(1)
    assert outbound.quota == 2
    assert not outbound.pubcomp(1)


def test_a_pubrec_that_refuses_ends_the_exchange() -> None:
    link = Link()
    outbound = link.direct(window=2)
    outbound.deliver(message(b"a"), 2, False)
    link.take()
    assert outbound.pubrec(1, 0x97)
    assert link.take() == []
    assert outbound.quota == 2
    assert not outbound.pubrec(1, 0x97)
    assert link.take() == []


def test_a_pubrec_below_0x80_is_no_refusal() -> None:
    link = Link()
    outbound = link.direct()
    outbound.deliver(message(b"a"), 2, False)
    link.take()
    assert outbound.pubrec(1, CONTINUE_REASON)
    assert link.take() == [Pubrel(1)]


def test_what_has_no_room_waits_in_order() -> None:
    link = Link()
    outbound = link.direct(window=2)
    for payload in (b"a", b"b", b"c", b"d", b"e"):
        outbound.deliver(message(payload), 1, False)
    assert payloads(link.take()) == [b"a", b"b"]
    outbound.puback(1)
    assert published(link.take()) == [(3, b"c", False)]
    outbound.puback(2)
    outbound.puback(3)
    assert payloads(link.take()) == [b"d", b"e"]
    assert not outbound.backlog


def test_a_place_freed_by_pubcomp_is_used() -> None:
    link = Link()
    outbound = link.direct(window=1)
    outbound.deliver(message(b"a"), 2, False)
    outbound.deliver(message(b"b"), 2, False)
    outbound.pubrec(1, 0)
    link.take()
    outbound.pubcomp(1)
    assert published(link.take()) == [(2, b"b", False)]


def test_what_waits_keeps_its_retain_flag_and_identifiers() -> None:
    link = Link()
    outbound = link.direct(window=1)
    outbound.deliver(message(b"a"), 1, False)
    outbound.deliver(message(b"b"), 1, True, (6,))
    link.take()
    outbound.puback(1)
    (packet,) = link.take()
    assert isinstance(packet, Publish)
    assert packet.retain
    assert packet.properties is not None
    assert packet.properties.subscription_identifier == (6,)


@pytest.mark.parametrize(
    ("drop_oldest", "kept", "dropped"), [(True, [b"c", b"d"], "t/1"), (False, [b"b", b"c"], "t/3")]
)
def test_a_full_backlog_drops_by_policy(drop_oldest: bool, kept: list[bytes], dropped: str) -> None:
    link = Link()
    outbound = link.direct(window=1, backlog=2, drop_oldest=drop_oldest)
    for number, payload in enumerate((b"a", b"b", b"c", b"d")):
        outbound.deliver(message(payload, topic=f"t/{number}"), 1, False)
    assert [delivery.message.payload for delivery in outbound.backlog or ()] == kept
    assert link.drops.counts == {"queue_full": 1}
    assert [letter.topic for letter in link.drops.take_letters()] == [dropped]


@pytest.mark.parametrize(
    ("drop_oldest", "kept", "dropped"), [(True, [b"4444"], "t/1 t/2 t/3"), (False, [b"1", b"22"], "t/3 t/4")]
)
def test_a_backlog_may_have_so_many_bytes(drop_oldest: bool, kept: list[bytes], dropped: str) -> None:
    link = Link()
    outbound = link.direct(window=1, drop_oldest=drop_oldest, backlog_bytes=4)
    for number, payload in enumerate((b"", b"1", b"22", b"333", b"4444")):
        outbound.deliver(message(payload, topic=f"t/{number}"), 1, False)
    assert [delivery.message.payload for delivery in outbound.backlog or ()] == kept
    assert " ".join(letter.topic for letter in link.drops.take_letters()) == dropped
    outbound.deliver(message(b"55555"), 1, False)  # never fits
    if drop_oldest:
        assert not outbound.backlog
    else:
        assert [delivery.message.payload for delivery in outbound.backlog or ()] == kept
    outbound.puback(1)
    assert outbound.backlog_bytes == sum(len(each.message.payload) for each in outbound.backlog or ())


def test_what_expires_while_it_waits_is_dropped() -> None:  # [MQTT-3.3.2-5]
    link = Link()
    outbound = link.direct(window=1)
    now_ms = link.clock.now_ms
    outbound.deliver(message(b"a"), 1, False)
    outbound.deliver(message(b"b", deadline_ms=now_ms + 1000), 1, False)
    outbound.deliver(message(b"c", deadline_ms=now_ms + 3000), 1, False)
    link.take()
    link.clock.now_ms += 1000
    outbound.puback(1)
    (packet,) = link.take()
    assert isinstance(packet, Publish)
    assert packet.payload == b"c"
    assert packet.properties is not None
    assert packet.properties.message_expiry_interval == 2
    assert link.drops.counts == {"expired": 1}


def test_nothing_new_is_sent_while_the_client_does_not_read() -> None:
    link = Link()
    outbound = link.direct(window=5)
    link.outbox.blocked = True
    outbound.deliver(message(b"a"), 1, False)
    outbound.deliver(message(b"b"), 1, False)
    assert outbound.quota == 5
    link.outbox.unblock()
    outbound.resume_sending()
    assert payloads(link.take()) == [b"a", b"b"]


def test_what_comes_later_does_not_overtake_what_waits() -> None:
    link = Link()
    outbound = link.direct(window=5)
    link.outbox.blocked = True
    outbound.deliver(message(b"a"), 1, False)
    link.outbox.unblock()
    outbound.deliver(message(b"b"), 1, False)
    outbound.resume_sending()
    assert payloads(link.take()) == [b"a", b"b"]


def test_a_direct_packet_larger_than_the_client_takes() -> None:  # [MQTT-3.1.2-24]
    link = Link(MQTT_3_1_1)
    outbound = link.direct(window=1, maximum_packet_size=10)
    outbound.deliver(message(b"too large"), 1, False)
    assert link.take() == []
    assert link.drops.counts == {"packet_too_large": 1}
    outbound.deliver(message(b"abc"), 1, False)  # it took no place
    assert payloads(link.take()) == [b"abc"]


def test_an_identifier_in_use_is_passed_over() -> None:  # [MQTT-2.2.1-4]
    link = Link()
    outbound = link.direct(window=4)
    outbound.deliver(message(b"held"), 1, False)
    outbound.deliver(message(b"released"), 2, False)
    outbound.pubrec(2, 0)
    link.take()
    outbound.n = 65_534
    outbound.deliver(message(b"a"), 1, False)
    outbound.deliver(message(b"b"), 1, False)
    assert [packet_id for packet_id, _, _ in published(link.take())] == [65_535, 3]
