"""Windows, Packet Identifiers and handshakes towards the client: direct sessions, then queued ones."""

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Packet, Publish, Pubrel
from broker.session import Delivery, Message, QueuedOutbound, packet_id_of
from tests.session.wire import Link, entry, message

CONTINUE_REASON = 0x10


def _published(packets: list[Packet]) -> list[tuple[int, bytes, bool]]:
    """Packet Identifier, payload and DUP of PUBLISH packets; fails if there is anything else."""
    found = []
    for packet in packets:
        assert isinstance(packet, Publish)
        found.append((packet.packet_id, packet.payload, packet.dup))
    return found


def _payloads(packets: list[Packet]) -> list[bytes]:
    return [payload for _, payload, _ in _published(packets)]


def _is_behind(outbound: QueuedOutbound) -> bool:
    return outbound.behind


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
    assert _payloads(link.take()) == [b"12345"]
    assert link.drops.counts == {"packet_too_large": 1}


# Direct sessions


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


def test_what_has_no_room_waits_in_order() -> None:
    link = Link()
    outbound = link.direct(window=2)
    for payload in (b"a", b"b", b"c", b"d", b"e"):
        outbound.deliver(message(payload), 1, False)
    assert _payloads(link.take()) == [b"a", b"b"]
    outbound.puback(1)
    assert _published(link.take()) == [(3, b"c", False)]
    outbound.puback(2)
    outbound.puback(3)
    assert _payloads(link.take()) == [b"d", b"e"]
    assert not outbound.backlog


def test_a_place_freed_by_pubcomp_is_used() -> None:
    link = Link()
    outbound = link.direct(window=1)
    outbound.deliver(message(b"a"), 2, False)
    outbound.deliver(message(b"b"), 2, False)
    outbound.pubrec(1, 0)
    link.take()
    outbound.pubcomp(1)
    assert _published(link.take()) == [(2, b"b", False)]


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
    assert [delivery.message.payload for delivery in outbound.backlog] == kept
    assert link.drops.counts == {"queue_full": 1}
    assert [letter.topic for letter in link.drops.take_letters()] == [dropped]


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
    assert _payloads(link.take()) == [b"a", b"b"]


def test_what_comes_later_does_not_overtake_what_waits() -> None:
    link = Link()
    outbound = link.direct(window=5)
    link.outbox.blocked = True
    outbound.deliver(message(b"a"), 1, False)
    link.outbox.unblock()
    outbound.deliver(message(b"b"), 1, False)
    outbound.resume_sending()
    assert _payloads(link.take()) == [b"a", b"b"]


def test_a_direct_packet_larger_than_the_client_takes() -> None:  # [MQTT-3.1.2-24]
    link = Link(MQTT_3_1_1)
    outbound = link.direct(window=1, maximum_packet_size=10)
    outbound.deliver(message(b"too large"), 1, False)
    assert link.take() == []
    assert link.drops.counts == {"packet_too_large": 1}
    outbound.deliver(message(b"abc"), 1, False)  # it took no place
    assert _payloads(link.take()) == [b"abc"]


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
    assert [packet_id for packet_id, _, _ in _published(link.take())] == [65_535, 3]


# Queued sessions: what is handed over in memory


def test_the_next_entry_is_sent_at_once() -> None:
    link = Link()
    outbound = link.queued(window=8)
    outbound.take(entry(1))
    outbound.take(entry(2, qos=2))
    assert _published(link.take()) == [(1, b"1", False), (2, b"2", False)]
    assert outbound.last_sent == 2
    assert not _is_behind(outbound)
    assert link.changed == []


def test_an_entry_it_has_sent_already_is_ignored() -> None:
    link = Link()
    outbound = link.queued()
    outbound.take(entry(1))
    outbound.take(entry(1))
    assert _payloads(link.take()) == [b"1"]
    assert not _is_behind(outbound)


@pytest.mark.parametrize(
    "reason", ["gap", "beyond hi", "no quota", "blocked", "in flight", "released", "completed"]
)
def test_what_can_not_be_sent_is_read_from_the_queue_later(reason: str) -> None:
    link = Link()
    has_same_identifier = reason in ("in flight", "released", "completed")
    outbound = link.queued(window=2, hi=65_536 if has_same_identifier else None)
    delivery = entry(1)
    if reason == "gap":
        delivery = entry(2)
    elif reason == "beyond hi":
        outbound.hi = 0
    elif reason == "no quota":
        outbound.take(entry(1))
        outbound.take(entry(2))
        outbound.hi = 3
        delivery = entry(3)
    elif reason == "blocked":
        link.outbox.blocked = True
    else:
        outbound.take(entry(1, qos=2))
        if reason != "in flight":
            outbound.pubrec(1, 0)
            outbound.stored_pubrecs(outbound.take_releasing())
        if reason == "completed":
            outbound.pubcomp(1)
        outbound.next_n = 65_536
        delivery = entry(65_536)
    link.take()
    link.take_changed()
    outbound.take(delivery)
    assert _is_behind(outbound)
    assert link.take() == []
    assert link.take_changed() == 1
    outbound.take(entry(outbound.next_n))  # nothing overtakes what it will read
    assert link.take() == []


def test_a_raise_is_asked_for_early() -> None:
    link = Link()
    outbound = link.queued(window=8)  # hi is 8
    for n in (1, 2, 3):
        outbound.take(entry(n))
    assert link.take_changed() == 0
    assert not outbound.wants_raise()
    outbound.take(entry(4))
    assert link.take_changed() == 1
    assert outbound.wants_raise()
    assert not outbound.wants_raise()  # one at a time
    outbound.take(entry(5))
    assert link.take_changed() == 0
    outbound.raised(13, True)
    assert outbound.hi == 13
    assert not _is_behind(outbound)
    assert not outbound.wants_raise()


def test_a_raise_that_finds_more_in_the_queue() -> None:
    link = Link()
    outbound = link.queued(window=8, hi=1)
    assert outbound.wants_raise()
    outbound.raised(1, False)
    assert _is_behind(outbound)
    assert link.take_changed() == 1
    assert not outbound.wants_raise()  # the page raises it
    assert outbound.wanted_page() == 8


# Queued sessions: pages


def test_a_resumed_session_reads_its_queue() -> None:
    link = Link()
    outbound = link.queued(window=4, n=3, sent=2, has_queue=True)
    assert link.take_changed() == 1
    outbound.take(entry(4))
    assert link.take() == []
    assert outbound.wanted_page() == 4
    assert outbound.wanted_page() == 0  # one at a time
    outbound.take_page(8, 4, [entry(1), entry(3), entry(4)], 4)
    assert _published(link.take()) == [(1, b"1", True), (3, b"3", False), (4, b"4", False)]  # [MQTT-3.3.1-1]
    assert not _is_behind(outbound)
    assert outbound.hi == 8
    outbound.take(entry(5))
    assert _published(link.take()) == [(5, b"5", False)]


def test_a_full_page_is_followed_by_another() -> None:
    link = Link()
    outbound = link.queued(window=2, n=5, has_queue=True)
    assert outbound.wanted_page() == 2
    outbound.take_page(2, 5, [entry(1), entry(2)], 2)
    assert _is_behind(outbound)
    assert outbound.wanted_page() == 0  # no room
    outbound.puback(1)
    assert outbound.wanted_page() == 1
    outbound.take_page(3, 5, [entry(3)], 1)
    assert _payloads(link.take()) == [b"1", b"2", b"3"]


def test_a_page_is_worth_a_quarter_of_the_window() -> None:
    link = Link()
    outbound = link.queued(window=8, n=20, has_queue=True)
    assert outbound.wanted_page() == 8
    outbound.take_page(8, 20, [entry(n) for n in range(1, 9)], 8)
    link.take()
    outbound.puback(1)
    assert outbound.wanted_page() == 0
    outbound.puback(2)
    assert outbound.wanted_page() == 2


def test_an_empty_page_at_the_tail() -> None:
    link = Link()
    outbound = link.queued(window=2, n=7, sent=7, has_queue=True)
    outbound.wanted_page()
    outbound.take_page(9, 7, [], 2)
    assert not _is_behind(outbound)
    outbound.take(entry(8))
    assert _published(link.take()) == [(8, b"8", False)]
    assert outbound.last_sent == 8


def test_no_page_is_read_for_a_client_that_does_not_read() -> None:
    link = Link()
    outbound = link.queued(n=1, has_queue=True)
    link.take_changed()
    link.outbox.blocked = True
    assert outbound.wanted_page() == 0
    link.outbox.unblock()
    outbound.resume_sending()
    assert link.take_changed() == 1
    assert outbound.wanted_page() == 8


def test_a_client_that_reads_again_costs_nothing_if_all_is_sent() -> None:
    link = Link()
    link.queued().resume_sending()
    assert link.changed == []


def test_no_page_is_read_once_the_connection_has_ended() -> None:
    link = Link()
    outbound = link.queued(n=1, has_queue=True)
    link.outbox.close()
    assert outbound.wanted_page() == 0


def test_a_page_for_a_client_that_has_stopped_reading_meanwhile() -> None:
    link = Link()
    outbound = link.queued(n=1, has_queue=True)
    assert outbound.wanted_page() == 8
    link.outbox.blocked = True
    outbound.take_page(9, 1, [entry(1)], 8)
    assert _is_behind(outbound)
    assert outbound.quota == 8
    link.outbox.unblock()
    assert outbound.wanted_page() == 8
    outbound.take_page(9, 1, [entry(1)], 8)
    assert _payloads(link.take()) == [b"1"]


def test_entries_that_a_page_repeats_are_passed_over() -> None:
    link = Link()
    outbound = link.queued()
    outbound.take(entry(1))
    outbound.take(entry(3))
    assert _is_behind(outbound)
    outbound.wanted_page()
    outbound.take_page(11, 3, [entry(1), entry(2), entry(3)], 7)
    assert _payloads(link.take()) == [b"1", b"2", b"3"]


def test_an_entry_handed_over_before_an_older_page_arrives_is_not_forgotten() -> None:
    link = Link()
    outbound = link.queued(n=1, has_queue=True)
    outbound.wanted_page()
    outbound.take(entry(2))
    outbound.take_page(9, 1, [entry(1)], 8)
    assert _is_behind(outbound)
    assert outbound.wanted_page() == 7
    outbound.take_page(9, 2, [entry(2)], 7)
    assert not _is_behind(outbound)
    assert _payloads(link.take()) == [b"1", b"2"]


def test_only_what_was_never_sent_expires() -> None:  # [MQTT-3.3.2-5]
    link = Link()
    outbound = link.queued(n=4, sent=1, has_queue=True)
    past = link.clock.now_ms - 1
    outbound.wanted_page()
    outbound.take_page(12, 4, [entry(1, deadline_ms=past), entry(2, deadline_ms=past, gen=9)], 8)
    assert _published(link.take()) == [(1, b"1", True)]
    assert link.drops.counts == {"expired": 1}
    assert outbound.take_acknowledged() == [9, 2]


def test_nothing_overtakes_an_expired_entry_that_is_still_in_the_queue() -> None:
    # It was perhaps sent, as the next owner sees it: after a kill it would come behind what came after it.
    link = Link()
    outbound = link.queued(n=5, has_queue=True)
    past = link.clock.now_ms - 1
    outbound.wanted_page()
    expired = [entry(2, deadline_ms=past), entry(4, deadline_ms=past)]
    outbound.take_page(13, 5, [entry(1), expired[0], entry(3), expired[1], entry(5)], 8)
    assert _payloads(link.take()) == [b"1"]
    assert _is_behind(outbound)
    assert link.take_changed() == 1
    assert outbound.take_acknowledged() == [1, 2, 1, 4]  # stored by the same exchange as the next page
    assert outbound.wanted_page() == 7
    assert outbound.next_n == 2
    outbound.take_page(13, 5, [entry(3), entry(5)], 7)
    assert _payloads(link.take()) == [b"3", b"5"]
    assert not _is_behind(outbound)
    assert link.drops.counts == {"expired": 2}


def test_an_entry_waits_for_its_packet_identifier() -> None:  # [MQTT-2.2.1-4]
    link = Link()
    outbound = link.queued(window=4, n=65_537, sent=65_535, hi=65_539, released=[1], has_queue=True)
    outbound.wanted_page()
    link.take_changed()
    outbound.take_page(65_541, 65_537, [entry(65_535), entry(65_536), entry(65_537)], 4)
    assert _published(link.take()) == [(65_535, b"65535", True)]
    assert outbound.wanted_page() == 0
    assert outbound.pubcomp(1)
    assert link.take_changed() == 1
    assert outbound.wanted_page() == 0  # not before the end of that exchange is stored
    outbound.stored_pubcomps(outbound.take_completed())
    assert link.take_changed() == 1
    assert outbound.wanted_page() == 3
    outbound.take_page(65_541, 65_537, [entry(65_536), entry(65_537)], 3)
    assert _published(link.take()) == [(1, b"65536", False), (2, b"65537", False)]


def test_a_queued_packet_larger_than_the_client_takes() -> None:  # [MQTT-3.1.2-24]
    link = Link(MQTT_3_1_1)
    outbound = link.queued(maximum_packet_size=10)
    outbound.take(Delivery(Message("t", b"too large", 1, False), 1, False, (), 1, 1))
    assert link.take() == []
    assert link.drops.counts == {"packet_too_large": 1}
    assert outbound.take_acknowledged() == [1, 1]
    assert outbound.last_sent == 0
    assert outbound.quota == 8
    outbound.take(entry(2))
    assert _published(link.take()) == [(2, b"2", False)]


# Queued sessions: acknowledgements


def test_a_puback_deletes_the_entry() -> None:
    link = Link()
    outbound = link.queued()
    outbound.take(entry(1))
    outbound.take(entry(2))
    outbound.puback(1)
    outbound.puback(2)
    assert link.take_changed() == 1
    assert outbound.take_acknowledged() == [1, 1, 1, 2]
    assert outbound.take_acknowledged() == []
    assert outbound.quota == 8


def test_entries_of_another_generation_keep_theirs() -> None:
    link = Link()
    outbound = link.queued(window=8, n=4, has_queue=True)
    outbound.wanted_page()
    entries = [entry(1, gen=9), entry(2, gen=9, qos=2), entry(3), entry(4, gen=9)]
    outbound.take_page(12, 4, entries, 8)
    for packet_id in (1, 3):
        outbound.puback(packet_id)
    outbound.pubrec(2, 0)
    outbound.puback(4)
    assert outbound.take_acknowledged() == [9, 1, 1, 3, 9, 4]
    assert outbound.take_releasing() == [9, 2]
    assert outbound.gens == {}


def test_pubrel_leaves_when_pubrec_is_stored() -> None:
    link = Link()
    outbound = link.queued(window=1)
    outbound.take(entry(1, qos=2))
    link.take()
    assert outbound.pubrec(1, 0)
    assert outbound.pubrec(1, 0)  # repeated: nothing more to store
    assert outbound.pubrec(1, 0x80)  # ... and too late to refuse
    assert not outbound.pubcomp(1)
    assert link.take() == []
    assert link.take_changed() == 1
    releasing = outbound.take_releasing()
    assert releasing == [1, 1]
    assert outbound.take_releasing() == []
    outbound.stored_pubrecs(releasing)
    assert link.take() == [Pubrel(1)]
    assert outbound.quota == 0
    assert outbound.pubcomp(1)
    assert not outbound.pubcomp(1)
    assert outbound.quota == 1
    assert outbound.take_completed() == [1]
    assert outbound.take_completed() == []
    assert link.take_changed() == 1
    outbound.stored_pubcomps([1])
    assert outbound.released == {}
    assert link.take_changed() == 0


def test_a_queued_message_that_is_refused_is_deleted() -> None:
    link = Link()
    outbound = link.queued()
    outbound.take(entry(1, qos=2))
    assert outbound.pubrec(1, 0x97)
    assert outbound.take_acknowledged() == [1, 1]
    assert outbound.take_releasing() == []


def test_released_exchanges_go_on_after_a_resume() -> None:  # [MQTT-4.4.0-1]
    link = Link()
    outbound = link.queued(window=2, n=9, sent=9, released=[3, 5, 4], has_queue=True)
    outbound.resend_pubrels()
    assert link.take() == [Pubrel(3), Pubrel(5), Pubrel(4)]
    assert outbound.quota == 2  # those of earlier connections hold no place
    assert outbound.pubcomp(3)
    assert outbound.quota == 2
    outbound.wanted_page()
    outbound.take_page(11, 9, [entry(9, qos=2)], 2)
    assert outbound.quota == 1
    assert outbound.pubcomp(5)
    assert outbound.quota == 1  # and free none that is held
    assert outbound.take_completed() == [3, 5]
