"""Packets of a connected client: what goes to the router, what to its session, what back to the caller."""

import pytest

from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Capabilities,
    Packet,
    Pingreq,
    Properties,
    ProtocolError,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    ReasonCode,
    forwarded_properties,
)
from broker.session import QueueState, Receipt, Session
from tests.routing.room import Room, new_queue


def _publish(qos: int, packet_id: int = 0, payload: bytes = b"x", *, dup: bool = False) -> Publish:
    return Publish("t", payload, qos, False, dup, packet_id)


def _receive(room: Room, session: Session, *packets: Packet) -> int:
    return room.ingress.receive(session, packets, 0)


def test_qos_0_goes_straight_to_the_subscribers() -> None:
    room = Room()
    publisher = room.connect("publisher")
    room.subscribe(room.connect("direct"), "t", 1)
    assert _receive(room, publisher, _publish(0), _publish(0, payload=b"y")) == 2
    assert room.got("direct") == [
        Publish("t", b"x", 0, False, False, 0),
        Publish("t", b"y", 0, False, False, 0),
    ]
    assert not room.router.has_work()
    assert room.ingress.received == [2, 0, 0]


def test_qos_0_that_is_retained_goes_through_a_batch() -> None:
    room = Room()
    publisher = room.connect("publisher")
    _receive(room, publisher, Publish("t", b"x", 0, True, False, 0))
    assert room.router.has_work()


def test_the_properties_of_a_message() -> None:
    room = Room()
    publisher = room.connect("publisher")
    properties = Properties(message_expiry_interval=5, content_type="a", subscription_identifier=())
    _receive(room, publisher, Publish("t", b"x", 1, True, False, 3, properties))
    _receive(room, publisher, Publish("t", b"x", 1, False, False, 4, Properties(content_type="b")))
    first, second = (publication.message for publication in room.router.incoming)
    assert first.deadline_ms == room.clock.now_ms + 5_000
    assert first.properties == forwarded_properties(Properties(content_type="a"))
    assert (first.topic, first.payload, first.qos, first.retain) == ("t", b"x", 1, True)
    assert first.publisher == "publisher"
    assert second.deadline_ms == 0


def test_acknowledgements_go_to_the_session() -> None:
    room = Room()
    session = room.connect("client")
    assert session.direct is not None
    for qos in (1, 2):
        room.subscribe(session, "t", 2)
        publisher = room.connect("publisher")
        _receive(room, publisher, _publish(qos, 1))
        room.run_batch()
    assert len(room.got("client")) == 2
    assert _receive(room, session, Puback(1), Pubrec(2)) == 2
    assert room.got("client") == [Pubrel(2)]
    _receive(room, session, Pubcomp(2))
    assert session.direct.quota == session.direct.window
    _receive(room, session, Pubrel(9))
    assert room.got("client") == [Pubcomp(9, 0x92)]


def test_what_is_not_its_business_goes_back() -> None:
    room = Room()
    publisher = room.connect("publisher")
    packets = [_publish(0), Pingreq(), _publish(0)]
    assert room.ingress.receive(publisher, packets, 0) == 1
    assert room.ingress.receive(publisher, packets, 2) == 3
    assert room.ingress.receive(publisher, packets, 3) == 3
    assert room.ingress.received[0] == 2


@pytest.mark.parametrize("qos", [1, 2])
def test_more_than_the_receive_maximum(qos: int) -> None:  # [MQTT-3.3.4-7]
    room = Room()
    publisher = room.connect("publisher", receive_maximum=2)
    with pytest.raises(ProtocolError) as caught:
        _receive(room, publisher, *[_publish(qos, packet_id) for packet_id in (1, 2, 3)])
    assert caught.value.reason_code == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
    assert len(room.router.incoming) == 2


def test_an_older_client_is_held_in_place_of_that() -> None:
    room = Room()
    publisher = room.connect("publisher", version=MQTT_3_1_1, receive_maximum=2)
    assert _receive(room, publisher, *[_publish(1, packet_id) for packet_id in (1, 2, 3)]) == 3
    assert publisher.intake.must_hold()


# What has been switched off


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_more_than_the_maximum_qos(version: int) -> None:
    room = Room(capabilities=Capabilities(maximum_qos=1))
    publisher = room.connect("publisher", version=version)
    with pytest.raises(ProtocolError) as caught:
        _receive(room, publisher, _publish(0), _publish(1, 1), _publish(2, 2))
    assert caught.value.reason_code == ReasonCode.QOS_NOT_SUPPORTED
    assert len(room.router.incoming) == 1


def test_retain_where_there_is_none() -> None:
    room = Room(capabilities=Capabilities(retain_available=False))
    publisher = room.connect("publisher")
    _receive(room, publisher, _publish(0), _publish(1, 1))
    with pytest.raises(ProtocolError) as caught:
        _receive(room, publisher, Publish("t", b"x", 0, True, False, 0))
    assert caught.value.reason_code == ReasonCode.RETAIN_NOT_SUPPORTED


CHECKING = Capabilities(checks_payload_format=True)
UTF_8 = Properties(payload_format_indicator=1)


def _said_to_be_utf_8(qos: int, packet_id: int, payload: bytes, *, retain: bool = False) -> Publish:
    return Publish("t", payload, qos, retain, False, packet_id, UTF_8)


def test_a_payload_of_another_format_at_qos_0() -> None:
    room = Room(capabilities=CHECKING)
    publisher = room.connect("publisher")
    room.subscribe(room.connect("direct"), "t", 1)
    with pytest.raises(ProtocolError) as caught:
        _receive(room, publisher, _said_to_be_utf_8(0, 0, b"good"), _said_to_be_utf_8(0, 0, b"\xff"))
    assert caught.value.reason_code == ReasonCode.PAYLOAD_FORMAT_INVALID
    assert room.got("direct") == [Publish("t", b"good", 0, False, False, 0, UTF_8)]


def test_a_payload_of_another_format_at_qos_1_is_answered_in_its_turn() -> None:
    """[MQTT-4.6.0-2]: not before the one that came before it, and neither sent nor retained."""
    room = Room(capabilities=CHECKING)
    publisher = room.connect("publisher")
    room.subscribe(room.connect("direct"), "t", 1)
    _receive(room, publisher, _said_to_be_utf_8(1, 1, b"good"), _said_to_be_utf_8(1, 2, b"\xff", retain=True))
    assert room.got("publisher") == []
    assert room.router.next_calls() == []
    room.index.version = "1.1"
    room.router.match_again()
    room.router.settle()
    assert room.got("publisher") == [Puback(1), Puback(2, 0x99)]
    assert room.ingress.refused_payload_format == 1
    assert room.got("direct") == [Publish("t", b"good", 1, False, False, 1, UTF_8)]
    assert publisher.intake.count == 0


@pytest.mark.parametrize("queue", [None, new_queue()], ids=["direct", "stored"])
def test_a_topic_that_is_refused_is_answered_in_its_turn(queue: QueueState | None) -> None:
    """[MQTT-4.6.0-2], [MQTT-4.6.0-3]"""
    room = Room()
    publisher = room.connect("publisher", queue=queue)
    for qos, answer in ((1, Puback), (2, Pubrec)):
        _receive(room, publisher, Publish("t", b"x", qos, False, False, 1))
        refused = Publish("$SYS/t", b"x", qos, False, False, 2)
        assert publisher.intake.open(1)
        assert qos == 1 or publisher.inbound.begin(2) == Receipt.NEW
        room.ingress.refuse(publisher, refused, 0x87)
        room.writes.take_replies([[[0]] for _ in room.writes.next_calls()])
        assert room.got("publisher") == []
        room.run_batch()
        assert room.got("publisher") == [answer(1, 0x10), answer(2, 0x87)]
    assert publisher.intake.count == 1


def test_who_subscribes_meanwhile_gets_no_refused_message() -> None:
    room = Room(capabilities=CHECKING)
    publisher = room.connect("publisher")
    _receive(room, publisher, _said_to_be_utf_8(1, 1, b"\xff"))
    assert room.router.next_calls() == []
    room.subscribe(room.connect("direct"), "t", 1)
    room.index.version = "1.1"
    assert room.router.is_outdated("1.1")
    room.router.match_again()
    room.router.settle()
    assert room.got("direct") == []
    assert room.got("publisher") == [Puback(1, 0x99)]


def test_a_payload_of_another_format_at_qos_2() -> None:
    room = Room(capabilities=CHECKING)
    publisher = room.connect("publisher")
    _receive(room, publisher, _said_to_be_utf_8(2, 5, b"\xff"))
    room.run_batch()
    assert room.got("publisher") == [Pubrec(5, 0x99)]
    _receive(room, publisher, _said_to_be_utf_8(2, 5, b"good"))  # the identifier is free again
    room.run_batch()
    assert room.got("publisher") == [Pubrec(5, 0x10)]
    assert publisher.intake.count == 1


def test_what_was_taken_before_is_not_checked_again() -> None:
    room = Room(capabilities=CHECKING)
    queue = QueueState(1, 0, 0, 8, (), [(5, b"stored", False)], False)
    publisher = room.connect("publisher", queue=queue)
    _receive(room, publisher, _said_to_be_utf_8(2, 5, b"\xff"))
    room.run_batch()
    assert room.got("publisher") == [Pubrec(5, 0x10)]


def test_without_the_setting_nothing_is_checked() -> None:
    room = Room()
    publisher = room.connect("publisher")
    _receive(room, publisher, _said_to_be_utf_8(1, 1, b"\xff"))
    room.run_batch()
    assert room.got("publisher") == [Puback(1, 0x10)]


# QoS 2


def test_qos_2_of_a_direct_session_needs_no_store() -> None:
    room = Room()
    publisher = room.connect("publisher")
    _receive(room, publisher, _publish(2, 5))
    (publication,) = room.router.incoming
    assert publication.message.token
    assert publication.message.token_ttl_ms == 60_000
    _receive(room, publisher, _publish(2, 5, dup=True))  # sent again: the answer is under way
    assert len(room.router.incoming) == 1
    room.run_batch()
    assert room.got("publisher") == [Pubrec(5, 0x10)]
    _receive(room, publisher, _publish(2, 5, dup=True))
    assert room.got("publisher") == [Pubrec(5)]
    assert not room.router.has_work()
    _receive(room, publisher, Pubrel(5))
    assert room.got("publisher") == [Pubcomp(5)]
    assert publisher.intake.count == 0


def test_qos_2_of_a_queued_session_is_stored_first() -> None:
    room = Room()
    publisher = room.connect("publisher", queue=new_queue())
    _receive(room, publisher, _publish(2, 5), _publish(2, 6))
    assert not room.router.has_work()
    assert publisher.inbound.storing == [5, 6]
    tokens = [message.token for message in publisher.inbound.storing_messages]
    assert len(set(tokens)) == 2
    assert room.changed.sessions == [publisher]


def test_what_an_earlier_connection_stored_keeps_its_token() -> None:
    room = Room()
    queue = QueueState(1, 0, 0, 8, (), [(5, b"stored", False)], False)
    publisher = room.connect("publisher", queue=queue)
    _receive(room, publisher, _publish(2, 5, dup=True))
    (publication,) = room.router.incoming
    assert publication.message.token == b"stored"
    assert publisher.inbound.storing == []


def test_another_message_under_an_identifier_in_doubt_is_stored_anew() -> None:
    room = Room()
    exchanges = [(5, b"stored", False), (6, b"routed", True)]
    publisher = room.connect("publisher", queue=QueueState(1, 0, 0, 8, (), exchanges, False, [5, 6]))
    _receive(room, publisher, _publish(2, 5), _publish(2, 6))
    assert (publisher.inbound.storing, room.router.has_work()) == ([5, 6], False)
    assert b"stored" not in [message.token for message in publisher.inbound.storing_messages]
    assert room.ingress.taken_anew == 2


SMALL = Capabilities(retained_payload_bytes_maximum=3)


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_a_payload_too_large_to_be_retained_reaches_nobody(version: int) -> None:
    """Whoever can be told, is; at QoS 2 the identifier is free again."""
    room = Room(capabilities=SMALL)
    publisher = room.connect("publisher", version=version)
    room.subscribe(room.connect("direct"), "t", 2)
    for qos in range(3):
        _receive(room, publisher, Publish("t", b"four", qos, True, False, qos))
    assert [call.requests for call in room.run_batch()] == []
    code = 0x97 if version == MQTT_5 else 0
    assert room.got("publisher") == [Puback(1, code), Pubrec(2, code)]
    assert room.got("direct") == []
    assert room.ingress.refused_retained == 3
    assert publisher.intake.count == 0


def test_a_payload_that_may_be_retained_or_need_not() -> None:
    room = Room(capabilities=SMALL)
    publisher = room.connect("publisher")
    room.subscribe(room.connect("direct"), "t", 1)
    _receive(
        room, publisher, Publish("t", b"one", 1, True, False, 1), Publish("t", b"four", 1, False, False, 2)
    )
    room.run_batch([[], 1])
    assert room.got("publisher") == [Puback(1), Puback(2)]
    assert room.ingress.refused_retained == 0


def test_where_it_is_not_known_that_a_client_may_publish_the_caller_is_asked() -> None:
    room = Room()
    publisher = room.connect("publisher")
    publisher.allowed = {"t"}
    other = Publish("other", b"", 1, False, False, 2)
    assert _receive(room, publisher, _publish(1, 1), other, _publish(1, 3)) == 1
    publisher.allowed.add("other")
    assert _receive(room, publisher, other) == 1
