"""The sending half of a persistent session: hand-overs, pages, and what has to be stored."""

import pytest

from broker.mqtt import MQTT_3_1_1, Pubrel
from broker.session import Delivery, Message, QueuedOutbound
from tests.session.wire import Link, entry, payloads, published


def _is_behind(outbound: QueuedOutbound) -> bool:
    return outbound.behind


# What is handed over in memory


def test_the_next_entry_is_sent_at_once() -> None:
    link = Link()
    outbound = link.queued(window=8)
    outbound.take(entry(1))
    outbound.take(entry(2, qos=2))
    assert published(link.take()) == [(1, b"1", False), (2, b"2", False)]
    assert outbound.last_sent == 2
    assert not _is_behind(outbound)
    assert link.changed.sessions == []


def test_those_who_listen_hear_which_retained_messages_came_live() -> None:
    link = Link()
    outbound = link.queued(window=8)
    first = outbound.listen()
    outbound.take(entry(1, topic="plain"))
    outbound.take(entry(2, topic="kept", retain=True))
    second = outbound.listen()
    outbound.take(entry(3, topic="later", retain=True))
    outbound.stop_listening(first)
    outbound.take(entry(4, topic="last", retain=True))
    assert (first, second) == ({"kept", "later"}, {"later", "last"})


def test_an_entry_it_has_sent_already_is_ignored() -> None:
    link = Link()
    outbound = link.queued()
    outbound.take(entry(1))
    outbound.take(entry(1))
    assert payloads(link.take()) == [b"1"]
    assert not _is_behind(outbound)


@pytest.mark.parametrize(
    "reason",
    ["gap", "another gen", "beyond hi", "no quota", "blocked", "in flight", "released", "completed"],
)
def test_what_can_not_be_sent_is_read_from_the_queue_later(reason: str) -> None:
    link = Link()
    has_same_identifier = reason in ("in flight", "released", "completed")
    outbound = link.queued(window=2, hi=65_536 if has_same_identifier else None)
    delivery = entry(1)
    if reason == "gap":
        delivery = entry(2)
    elif reason == "another gen":  # of a session that has ended, or of one that we don't know of yet
        delivery.gen = outbound.gen + 1
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


# What the bell says


def test_who_has_everything_need_not_look() -> None:
    link = Link()
    outbound = link.queued(window=8)
    outbound.take(entry(1))
    outbound.look(1)
    assert not _is_behind(outbound)
    assert link.take_changed() == 0


def test_what_was_not_handed_over_is_read_from_the_queue() -> None:
    link = Link()
    outbound = link.queued(window=8)
    for _ in range(2):
        outbound.look(2)
    assert _is_behind(outbound)
    assert link.take_changed() == 1
    assert outbound.wanted_page() == 8
    outbound.take_page(10, 1, [entry(1)], 8)  # was answered before the second entry was there
    assert _is_behind(outbound)
    outbound.take_page(10, 2, [entry(2)], 8)
    assert payloads(link.take()) == [b"1", b"2"]
    assert not _is_behind(outbound)


# Pages


def test_a_resumed_session_reads_its_queue() -> None:
    link = Link()
    outbound = link.queued(window=4, n=3, sent=2, has_queue=True)
    assert link.take_changed() == 1
    outbound.take(entry(4))
    assert link.take() == []
    assert outbound.wanted_page() == 4
    assert outbound.wanted_page() == 0  # one at a time
    outbound.take_page(8, 4, [entry(1), entry(3), entry(4)], 4)
    assert published(link.take()) == [(1, b"1", True), (3, b"3", False), (4, b"4", False)]  # [MQTT-3.3.1-1]
    assert not _is_behind(outbound)
    assert outbound.hi == 8
    outbound.take(entry(5))
    assert published(link.take()) == [(5, b"5", False)]


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
    assert payloads(link.take()) == [b"1", b"2", b"3"]


def test_a_page_is_read_for_every_place_that_is_free() -> None:
    """A client may acknowledge only when it has all that it said it would take."""
    link = Link()
    outbound = link.queued(window=8, n=20, has_queue=True)
    assert outbound.wanted_page() == 8
    outbound.take_page(8, 20, [entry(n) for n in range(1, 9)], 8)
    link.take()
    outbound.puback(1)
    assert outbound.wanted_page() == 1
    outbound.puback(2)
    assert outbound.wanted_page() == 0  # one page at a time
    outbound.take_page(9, 20, [entry(9)], 1)
    assert outbound.wanted_page() == 1


def test_an_empty_page_at_the_tail() -> None:
    link = Link()
    outbound = link.queued(window=2, n=7, sent=7, has_queue=True)
    outbound.wanted_page()
    outbound.take_page(9, 7, [], 2)
    assert not _is_behind(outbound)
    outbound.take(entry(8))
    assert published(link.take()) == [(8, b"8", False)]
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
    assert link.changed.sessions == []


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
    assert payloads(link.take()) == [b"1"]


def test_entries_that_a_page_repeats_are_passed_over() -> None:
    link = Link()
    outbound = link.queued()
    outbound.take(entry(1))
    outbound.take(entry(3))
    assert _is_behind(outbound)
    outbound.wanted_page()
    outbound.take_page(11, 3, [entry(1), entry(2), entry(3)], 7)
    assert payloads(link.take()) == [b"1", b"2", b"3"]


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
    assert payloads(link.take()) == [b"1", b"2"]


def test_only_what_was_never_sent_expires() -> None:  # [MQTT-3.3.2-5]
    link = Link()
    outbound = link.queued(n=4, sent=1, has_queue=True)
    past = link.clock.now_ms - 1
    outbound.wanted_page()
    outbound.take_page(12, 4, [entry(1, deadline_ms=past), entry(2, deadline_ms=past, gen=9)], 8)
    assert published(link.take()) == [(1, b"1", True)]
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
    assert payloads(link.take()) == [b"1"]
    assert _is_behind(outbound)
    assert link.take_changed() == 1
    assert outbound.take_acknowledged() == [1, 2, 1, 4]  # stored by the same exchange as the next page
    assert outbound.wanted_page() == 7
    assert outbound.next_n == 2
    outbound.take_page(13, 5, [entry(3), entry(5)], 7)
    assert payloads(link.take()) == [b"3", b"5"]
    assert not _is_behind(outbound)
    assert link.drops.counts == {"expired": 2}


def test_an_entry_waits_for_its_packet_identifier() -> None:  # [MQTT-2.2.1-4]
    link = Link()
    outbound = link.queued(window=4, n=65_537, sent=65_535, hi=65_539, released=[1], has_queue=True)
    outbound.wanted_page()
    link.take_changed()
    outbound.take_page(65_541, 65_537, [entry(65_535), entry(65_536), entry(65_537)], 4)
    assert published(link.take()) == [(65_535, b"65535", True)]
    assert outbound.wanted_page() == 0
    assert outbound.pubcomp(1)
    assert link.take_changed() == 1
    assert outbound.wanted_page() == 0  # not before the end of that exchange is stored
    outbound.stored_pubcomps(outbound.take_completed())
    assert link.take_changed() == 1
    assert outbound.wanted_page() == 3
    outbound.take_page(65_541, 65_537, [entry(65_536), entry(65_537)], 3)
    assert published(link.take()) == [(1, b"65536", False), (2, b"65537", False)]


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
    assert published(link.take()) == [(2, b"2", False)]


# Acknowledgements


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


# Another primary, which may lack the newest writes


def test_what_is_in_flight_keeps_its_name_when_the_store_goes_on_under_another() -> None:
    link = Link()
    outbound = link.queued(window=8)
    for n, qos in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 1)):
        outbound.take(entry(n, qos=qos))
    outbound.pubrec(2, 0)
    outbound.stored_pubrecs(outbound.take_releasing())
    outbound.pubrec(3, 0)
    assert outbound.in_flight() == [1, 1, 1, 3, 1, 4, 1, 5]
    assert outbound.numbers_released() == [2]
    assert outbound.numbers_releasing() == [3]
    link.changed.take()

    outbound.reclaimed(9, 1000)
    assert outbound.wanted_page() > 0
    assert link.changed.is_urgent
    assert outbound.in_flight()[:2] == [1, 1]
    link.take()
    following = [entry(1001), entry(1002)]
    for each in following:
        each.gen = 9
    outbound.take_page(1010, 1002, following[:1], 1)
    outbound.take_page(1010, 1002, following[1:], 3)
    assert payloads(link.take()) == [b"1001", b"1002"]
    assert outbound.in_flight() == [1, 1, 9, 3, 1, 4, 1, 5, 9, 1001, 9, 1002]
    outbound.puback(1)
    outbound.puback(1001)
    assert outbound.take_acknowledged() == [1, 1, 9, 1001]
    outbound.pubcomp(2)
    assert outbound.numbers_released() == []


def test_a_page_of_a_newer_generation_is_one_to_go_on_with() -> None:
    """The store has gone on under another while this node was told nothing."""
    link = Link()
    outbound = link.queued(window=8)
    outbound.take(entry(1))
    newer = entry(1001)
    newer.gen = 9
    outbound.take(newer)
    outbound.take_page(1010, 1001, [newer], 8)
    following = entry(1002)
    following.gen = 9
    outbound.take(following)
    assert payloads(link.take()) == [b"1", b"1001", b"1002"]
    assert not _is_behind(outbound)
    assert outbound.in_flight() == [1, 1, 9, 1001, 9, 1002]


def test_entries_of_a_session_that_was_wiped_are_known_by_their_gen() -> None:
    assert Link().queued().first_gen == 1
    assert Link().queued(has_queue=True).first_gen == 0
