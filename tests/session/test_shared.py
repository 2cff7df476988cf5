"""Messages of shared subscriptions on their way to a member: places in the window, and what the group is
told."""

import pytest

from broker.mqtt import Publish, Pubrel
from broker.session import (
    IN_QUEUE,
    Delivery,
    DirectOutbound,
    Outbound,
    SharedDelivery,
    packet_id_of,
)
from tests.session.wire import Link, entry, message, payloads


def given(payload: bytes, qos: int = 1, *, deadline_ms: int = 0) -> SharedDelivery:
    delivery = Delivery(message(payload, qos=qos, deadline_ms=deadline_ms), qos, False)
    return SharedDelivery("g/t", f"{payload.decode()}-0", delivery)


def settled(outbound: Outbound) -> list[str]:
    assert outbound.shared is not None
    return [id for _, id in outbound.shared.take_settled()]


def sender(link: Link, kind: str, window: int = 2) -> Outbound:
    return link.direct(window=window) if kind == "direct" else link.queued(window=window)


@pytest.mark.parametrize("kind", ["direct", "queued"])
def test_qos_0_is_done_at_once(kind: str) -> None:
    link = Link()
    outbound = sender(link, kind)
    outbound.deliver_shared(given(b"1", 0))
    assert payloads(link.take()) == [b"1"]
    assert settled(outbound) == ["1-0"]
    assert link.changed.sessions == [outbound.stored]


@pytest.mark.parametrize("kind", ["direct", "queued"])
def test_qos_1_is_done_with_its_acknowledgement(kind: str) -> None:
    link = Link()
    outbound = sender(link, kind, window=2)
    for payload in (b"1", b"2", b"3"):
        outbound.deliver_shared(given(payload))
    first, second = link.take()
    assert isinstance(first, Publish)
    assert isinstance(second, Publish)
    assert settled(outbound) == []
    assert outbound.puback(second.packet_id)
    assert payloads(link.take()) == [b"3"]
    assert outbound.puback(first.packet_id)
    assert settled(outbound) == ["2-0", "1-0"]
    assert not outbound.puback(first.packet_id)
    assert outbound.quota == 1


def test_a_direct_member_ends_qos_2_with_pubcomp() -> None:
    link = Link()
    outbound = link.direct(window=1)
    outbound.deliver_shared(given(b"1", 2))
    outbound.deliver_shared(given(b"2", 2))
    (publish,) = link.take()
    assert isinstance(publish, Publish)
    outbound.pubrec(publish.packet_id, 0)
    assert link.take() == [Pubrel(publish.packet_id)]
    assert settled(outbound) == []
    outbound.pubcomp(publish.packet_id)
    assert settled(outbound) == ["1-0"]
    assert payloads(link.take()) == [b"2"]


def test_a_refused_message_is_done() -> None:
    """[MQTT-4.8.2-6]"""
    link = Link()
    outbound = link.direct()
    outbound.deliver_shared(given(b"1", 2))
    (publish,) = link.take()
    assert isinstance(publish, Publish)
    outbound.pubrec(publish.packet_id, 0x80)
    assert settled(outbound) == ["1-0"]


def test_its_own_messages_and_those_of_groups_share_the_window() -> None:
    link = Link()
    outbound = link.direct(window=1)
    outbound.deliver(message(b"own"), 1, False)
    outbound.deliver_shared(given(b"shared"))
    (publish,) = link.take()
    assert isinstance(publish, Publish)
    outbound.puback(publish.packet_id)
    assert payloads(link.take()) == [b"shared"]
    assert settled(outbound) == []


def test_a_queued_member_uses_identifiers_that_its_queue_does_not() -> None:
    link = Link()
    outbound = link.queued(window=10, has_queue=False)
    outbound.take(entry(1))
    outbound.deliver_shared(given(b"1"))
    outbound.inflight[packet_id_of(-2)] = 1  # as after 65,000 messages
    outbound.deliver_shared(given(b"2"))
    ids = [packet.packet_id for packet in link.take() if isinstance(packet, Publish)]
    assert ids == [1, packet_id_of(-1), packet_id_of(-3)]
    outbound.puback(packet_id_of(-1))
    assert outbound.take_acknowledged() == []
    assert settled(outbound) == ["1-0"]


def test_a_queued_member_that_is_behind_reads_on_when_there_is_room() -> None:
    link = Link()
    outbound = link.queued(window=1, has_queue=True)
    outbound.deliver_shared(given(b"1"))
    link.take_changed()
    assert outbound.wanted_page() == 0
    assert outbound.in_flight() == []  # of the queue
    (publish,) = link.take()
    assert isinstance(publish, Publish)
    outbound.puback(publish.packet_id)
    assert link.changed.sessions == [outbound.stored]
    assert outbound.wanted_page() == 1


def test_a_message_in_the_queue_frees_its_place_with_pubcomp() -> None:
    link = Link()
    outbound = link.queued(has_queue=False)
    outbound.queued_shared("g/t", 1, "1-0")
    outbound.queued_shared("g/t", 2, "2-0")
    for n in (1, 2):
        outbound.take(entry(n, qos=2))
    outbound.pubrec(1, 0)
    outbound.stored_pubrecs(outbound.take_releasing())
    outbound.pubcomp(1)
    outbound.pubrec(2, 0x97)
    assert settled(outbound) == [IN_QUEUE, IN_QUEUE]
    assert outbound.take_acknowledged() == [outbound.gen, 2]


def test_what_a_member_is_not_done_with() -> None:
    link = Link()
    outbound = link.queued(window=3, has_queue=False)
    outbound.queued_shared("g/t", 1, "1-0")
    outbound.queued_shared("g/other", 2, "1-0")
    outbound.take(entry(1, qos=2))
    for payload in (b"1", b"2", b"3", b"4"):
        outbound.deliver_shared(given(payload))
    outbound.puback(packet_id_of(-1))
    assert outbound.shared is not None
    assert outbound.shared.held("g/t") == {"2-0", "3-0", "4-0"}
    assert outbound.shared.held("g/other") == set()
    assert outbound.shared.queued("g/t") == {"1-0"}
    outbound.pubrec(1, 0x97)
    assert outbound.shared.queued("g/t") == set()
    assert outbound.shared.queued("g/other") == {"1-0"}


@pytest.mark.parametrize("kind", ["direct", "queued"])
def test_who_does_not_read_gets_it_later(kind: str) -> None:
    link = Link()
    outbound = sender(link, kind)
    link.outbox.blocked = True
    outbound.deliver_shared(given(b"1"))
    link.outbox.unblock()
    outbound.resume_sending()
    assert payloads(link.take()) == [b"1"]


def test_what_has_expired_while_it_waited_is_done() -> None:
    link = Link()
    outbound = link.direct(window=1)
    outbound.deliver_shared(given(b"1"))
    outbound.deliver_shared(given(b"2", deadline_ms=link.clock.now_ms + 10))
    (publish,) = link.take()
    assert isinstance(publish, Publish)
    link.clock.now_ms += 20
    outbound.puback(publish.packet_id)
    assert link.take() == []
    assert settled(outbound) == ["1-0", "2-0"]
    assert link.drops.counts == {"expired": 1}


def test_what_is_too_large_is_done() -> None:
    link = Link()
    outbound = link.direct(maximum_packet_size=10)
    assert isinstance(outbound, DirectOutbound)
    outbound.deliver_shared(given(b"0123456789"))
    assert settled(outbound) == ["0123456789-0"]
    assert link.drops.counts == {"packet_too_large": 1}
    assert outbound.quota == outbound.window
