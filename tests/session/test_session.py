"""A session with both halves: it acknowledges what the client publishes, and bounds what that has open."""

import gc

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from broker.session import Clock, Drops, Intake, Outbox, QueueState, Receipt, SendingLimits, Session
from broker.session.stored import Changes
from tests.session.wire import Link, Silent, entry, message

NEW = QueueState(1, 0, 0, 8, (), (), True)


def test_a_session_without_a_queue_is_direct() -> None:
    link = Link()
    session = link.session()
    assert session.queued is None
    assert session.outbound is session.direct
    assert session.inbound.stored is None
    assert session.direct is not None
    session.direct.deliver(message(b"hello"), 1, False)
    assert link.take() == [Publish("t", b"hello", 1, False, False, 1)]
    assert repr(session).startswith("Session('client', epoch=3, DirectOutbound(")


def test_a_session_with_a_queue_is_queued() -> None:
    link = Link()
    session = link.session(NEW)
    assert session.direct is None
    assert session.outbound is session.queued
    assert session.queued is not None
    session.queued.take(entry(1))
    assert link.take() == [Publish("t", b"1", 1, False, False, 1)]
    assert (session.bucket, session.epoch, session.client_id) == (7, 3, "client")


def test_a_resumed_session_goes_on_with_both_halves() -> None:
    link = Link()
    receiving = [(5, b"token", True), (6, b"other", False)]
    session = link.session(QueueState(1, 9, 4, 9, [3], receiving, False))
    assert link.changed.sessions == [session]  # it reads its queue
    assert session.queued is not None
    session.queued.resend_pubrels()
    assert link.take() == [Pubrel(3)]
    assert session.inbound.begin(5) is Receipt.ROUTED
    assert session.inbound.begin(6) is Receipt.UNROUTED


def test_qos_1_is_acknowledged() -> None:
    link = Link()
    session = link.session(NEW)
    assert session.intake.open(100)
    session.published(9, 1, 0, 100)
    session.published(8, 1, 0x10, 0)
    assert link.take() == [Puback(9), Puback(8, 0x10)]
    assert (session.intake.count, session.intake.bytes) == (0, 0)


def test_nothing_is_owed_at_qos_0() -> None:
    link = Link()
    link.session(NEW).published(0, 0, 0, 0)
    assert link.take() == []


def test_qos_2_is_received_and_released() -> None:
    link = Link()
    session = link.session(NEW)
    session.intake.open(100)
    session.inbound.begin(9)
    session.published(9, 2, 0, 100)
    assert link.take() == [Pubrec(9)]
    assert (session.intake.count, session.intake.bytes) == (1, 0)
    session.published_again(9)
    assert link.take() == [Pubrec(9)]
    session.pubrel(9)
    session.pubrel(9)
    assert link.take() == []  # not before the store has answered
    session.released(9)
    assert link.take() == [Pubcomp(9)]
    assert session.intake.count == 0


def test_qos_2_of_a_direct_session_is_complete_at_once() -> None:
    link = Link()
    session = link.session()
    session.intake.open(100)
    session.inbound.begin(9)
    session.published(9, 2, 0x10, 100)
    session.pubrel(9)
    assert link.take() == [Pubrec(9, 0x10), Pubcomp(9)]
    assert session.intake.count == 0


def test_qos_2_refused_ends_the_exchange() -> None:
    link = Link()
    session = link.session(NEW)
    session.intake.open(100)
    session.inbound.begin(9)
    session.published(9, 2, 0x97, 100)
    assert link.take() == [Pubrec(9, 0x97)]
    assert (session.intake.count, session.intake.bytes) == (0, 0)
    assert session.inbound.begin(9) is Receipt.NEW


@pytest.mark.parametrize(("qos", "kind"), [(1, Puback), (2, Pubrec)])
def test_a_refusal_says_why_to_who_wants_to_hear_it(qos: int, kind: type[Puback | Pubrec]) -> None:
    """[MQTT-3.1.2-29]; and only in a packet of a size that the client accepts [MQTT-3.4.2-2]."""

    def answer(reason_code: int, *, says: bool = True, maximum_packet_size: int = 0) -> Packet:
        link = Link()
        session = link.session(reason_strings=says, maximum_packet_size=maximum_packet_size)
        session.intake.open(0)
        session.published(9, qos, reason_code, 0)
        (packet,) = link.take()
        return packet

    explained = answer(0x99)
    assert isinstance(explained, kind)
    assert explained.properties is not None
    assert "UTF-8" in (explained.properties.reason_string or "")
    assert answer(0x99, says=False) == kind(9, 0x99)
    assert answer(0x99, maximum_packet_size=20) == kind(9, 0x99)
    assert answer(0x87) == kind(9, 0x87), "nothing to add"


def test_a_pubrel_before_pubrec_gets_pubrec_only() -> None:
    """The client has to send it again then [MQTT-4.3.3-4]."""
    link = Link()
    session = link.session(NEW)
    session.intake.open(100)
    session.inbound.begin(9)
    session.pubrel(9)
    assert link.take() == []
    session.published(9, 2, 0, 100)
    assert link.take() == [Pubrec(9)]
    assert session.intake.bytes == 0


def test_no_pubrec_for_an_exchange_that_has_ended() -> None:
    link = Link()
    session = link.session(NEW)
    session.intake.open(100)
    session.published(9, 2, 0, 100)
    assert link.take() == []


@pytest.mark.parametrize(("version", "expected"), [(MQTT_3_1_1, Pubcomp(4)), (MQTT_5, Pubcomp(4, 0x92))])
def test_a_pubrel_that_belongs_to_nothing(version: int, expected: Pubcomp) -> None:
    link = Link(version)
    link.session(NEW).pubrel(4)
    assert link.take() == [expected]


def _intake(version: int, receive_maximum: int = 2, limit_bytes: int = 100) -> tuple[Intake, list[Intake]]:
    resumable: list[Intake] = []
    return Intake(Silent(), version, receive_maximum, limit_bytes, resumable), resumable


def test_the_receive_maximum_of_mqtt_5() -> None:  # [MQTT-3.3.4-7]
    intake, _ = _intake(MQTT_5)
    assert intake.open(1)
    assert intake.open(1)
    assert not intake.must_hold()
    assert not intake.open(1)
    intake.close()
    intake.close()
    assert intake.open(1)
    assert repr(intake) == "Intake(2/2, 4 bytes, held=False)"


def test_an_older_client_is_not_told_but_held() -> None:
    intake, resumable = _intake(MQTT_3_1_1)
    assert all(intake.open(1) for _ in range(3))
    assert intake.must_hold()
    intake.is_held = True
    intake.routed(1)
    assert intake.must_hold()
    assert resumable == []
    intake.routed(1)
    assert not intake.must_hold()
    assert resumable == [intake]
    assert not intake.is_held
    intake.routed(1)
    assert resumable == [intake]


def test_an_older_client_is_held_no_longer_than_its_pubrecs_are_owed() -> None:
    # Its PUBRELs come behind the PUBLISH packets: if these were waited for unread, nothing would go on.
    link = Link(MQTT_3_1_1)
    session = link.session(NEW, receive_maximum=2)
    for packet_id in (1, 2):
        session.intake.open(1)
        session.inbound.begin(packet_id)
    assert session.intake.must_hold()
    session.intake.is_held = True
    for packet_id in (1, 2):
        session.published(packet_id, 2, 0, 1)
    assert not session.intake.must_hold()
    assert link.resumable == [session.intake]


def test_payloads_that_wait_are_bounded() -> None:
    for version in (MQTT_3_1_1, MQTT_5):
        intake, resumable = _intake(version, 10, 100)
        intake.open(100)
        assert not intake.must_hold()
        intake.open(1)
        assert intake.must_hold()
        intake.is_held = True
        intake.routed(1)
        assert resumable == [intake]


def test_other_things_that_wait_for_the_store_count_too() -> None:
    intake, resumable = _intake(MQTT_5, 10, 100)
    intake.open(60)
    intake.hold(60)
    assert intake.must_hold()
    intake.is_held = True
    intake.release(60)
    assert not intake.must_hold()
    assert resumable == [intake]
    assert (intake.bytes, intake.unanswered) == (60, 1)


def test_settling_what_an_earlier_connection_began_frees_nothing() -> None:
    intake, _ = _intake(MQTT_5)
    intake.close()
    assert intake.count == 0
    assert intake.open(1)
    assert intake.open(1)
    assert not intake.open(1)


def test_what_else_waits_for_the_store_is_bounded_too() -> None:
    intake, resumable = _intake(MQTT_5, 10, 100)
    intake.hold(101)
    assert intake.must_hold()
    intake.is_held = True
    intake.release(101)
    assert resumable == [intake]
    assert not intake.is_held


def test_what_the_store_doubts_is_judged_by_dup() -> None:
    inbound = (
        Link().session(QueueState(1, 0, 0, 8, (), [(5, b"t", True), (6, b"u", True)], False, [6])).inbound
    )
    receipts = [inbound.judge(each, inbound.begin(each), False) for each in (5, 6)]
    assert receipts == [Receipt.ROUTED, Receipt.NEW]


class Connection:
    """Has all that a client has, and is where that leads to."""

    def __init__(self, ready: list[Outbox], resumable: list[Intake]) -> None:
        self.outbox = Outbox(ready, self, 1 << 20)
        self.intake = Intake(self, MQTT_5, 10, 1 << 20, resumable)
        limits = SendingLimits(8, 1 << 20, 10, False, 0, False)
        clock, changed = Clock(), Changes()
        self.session = Session(
            "client", 7, 3, MQTT_5, Drops(), self.outbox, self.intake, clock, limits, None, 0, changed
        )

    def write_all(self, data: bytes) -> None:
        raise AssertionError(f"the connection has ended: {data!r}")

    def resume_reading(self) -> None:
        raise AssertionError("the connection has ended")


def test_of_a_direct_session_nothing_is_left_to_the_garbage_collector() -> None:
    """And what comes late harms nobody."""
    ready: list[Outbox] = []
    resumable: list[Intake] = []
    connection = Connection(ready, resumable)
    session = connection.session
    session.outbox.close()
    session.intake.abandon()
    session.dissolve()
    session.outbox.send(b"late")
    session.intake.is_held = True
    session.intake.release(0)
    resumable.pop().source.resume_reading()
    gc.collect()
    gc.disable()
    try:
        del connection, session
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_queued_session_may_have_more_to_say() -> None:
    """To the store: what it has settled."""
    link = Link()
    session = link.session(NEW)
    session.dissolve()
    assert session.outbound.stored is session
