"""The handshakes of QoS 1 and 2, and what a resume sends again [4.3, 4.4, 4.9]."""

import time

import pytest

from broker.mqtt import (
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    ReasonCode,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow
from tests.node.redis_server import RedisServer
from tests.node.wire import WireClient

REFUSED = 0x80


def _subscriber(flow: Flow, *, keeps: bool = True, receive_maximum: int | None = None) -> WireClient:
    """To everything of the test, at QoS 2."""
    subscriber = flow.far("subscriber", keeps=keeps, properties=Properties(receive_maximum=receive_maximum))
    subscriber.subscribe(flow.name("#"), qos=2)
    return subscriber


def _send(flow: Flow, publisher: WireClient, *payloads: bytes, qos: int) -> None:
    for payload in payloads:
        publisher.publish(flow.name("t"), payload, qos)


# The server receives


@v5("4.3.2-4", "2.2.1-5", "4.5.0-1")
@v3("4.3.2-2", "2.3.1-6", "4.5.0-1")
def test_qos_1_is_answered(flow: Flow) -> None:
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher")
    for packet_id in (1, 300, 65_535):
        publisher.send(Publish(flow.name("t"), b"x", 1, False, False, packet_id))
        assert publisher.expect(Puback) == Puback(packet_id)
        assert subscriber.message().payload == b"x"


@v5("4.3.2-5", "3.3.1-3")
@v3("4.3.2-2", "3.3.1-3")
def test_qos_1_again_is_a_new_message(flow: Flow) -> None:
    """With the same identifier and DUP, after PUBACK; DUP is not handed on."""
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher")
    for dup in (False, True, True):
        publisher.send(Publish(flow.name("t"), b"x", 1, False, dup, 5))
        assert publisher.expect(Puback) == Puback(5)
    messages = [subscriber.message() for _ in range(3)]
    assert [message.dup for message in messages] == [False] * 3
    assert flow.until_mark(publisher, subscriber) == []


@v5("4.3.3-8", "4.3.3-10", "4.3.3-11", "4.3.3-12", "2.2.1-5")
@v3("4.3.3-2", "2.3.1-6")
@pytest.mark.parametrize("keeps", [False, True])
def test_qos_2_is_delivered_once(flow: Flow, keeps: bool) -> None:
    """Sent twice before PUBREL: two PUBRECs, one message. After PUBCOMP it is a new one."""
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher", keeps=keeps)
    for _ in range(2):
        for dup in (False, True):
            publisher.send(Publish(flow.name("t"), b"x", 2, False, dup, 9))
            assert publisher.expect(Pubrec) == Pubrec(9)
        publisher.send(Pubrel(9))
        assert publisher.expect(Pubcomp) == Pubcomp(9)
    assert subscriber.payloads(2) == [b"x", b"x"]
    assert flow.until_mark(publisher, subscriber) == []


@v5("4.3.3-10", "4.3.3-11", "3.1.2-5")
@v3("4.3.3-2", "3.1.2-4")
def test_qos_2_goes_on_over_connections(flow: Flow) -> None:
    """The publisher is cut off before PUBREC came, and sends again over the other half."""
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher", keeps=True)
    publisher.send(Publish(flow.name("t"), b"x", 2, False, False, 9))
    publisher.expect(Pubrec)
    publisher.close()
    back = flow.far("publisher", keeps=True)
    back.send(Publish(flow.name("t"), b"x", 2, False, True, 9))
    assert back.expect(Pubrec) == Pubrec(9)
    back.send(Pubrel(9))
    assert back.expect(Pubcomp) == Pubcomp(9)
    assert subscriber.payloads(1) == [b"x"]
    assert flow.until_mark(back, subscriber) == []


@v5("4.3.3-11", "3.7.2-1")
def test_pubrel_of_nothing_is_answered(flow: Flow) -> None:
    client = flow.near()
    client.send(Pubrel(9))
    assert client.expect(Pubcomp) == Pubcomp(9, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)


@v3("4.3.3-2")
def test_pubrel_of_nothing_is_answered_before_mqtt_5(flow: Flow) -> None:
    client = flow.near()
    client.send(Pubrel(9))
    assert client.expect(Pubcomp) == Pubcomp(9)


@v5("4.3.3-13")
def test_expired_message_completes_its_exchange(flow: Flow) -> None:
    publisher = flow.near("publisher", keeps=True)
    expiry = Properties(message_expiry_interval=1)
    publisher.send(Publish(flow.name("t"), b"x", 2, False, False, 9, expiry))
    publisher.expect(Pubrec)
    time.sleep(1.1)
    publisher.send(Publish(flow.name("t"), b"x", 2, False, True, 9, expiry))
    assert publisher.expect(Pubrec).packet_id == 9
    publisher.send(Pubrel(9))
    assert publisher.expect(Pubcomp) == Pubcomp(9)


@v5("4.3.3-9", "3.5.2-1")
def test_refused_qos_2_frees_its_identifier(flow: Flow, redis_of_session: RedisServer) -> None:
    """While there is no room for it the message is refused; the same identifier is a new one then."""
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher", keeps=True)
    redis_of_session.fill()
    try:
        publisher.send(Publish(flow.name("t"), b"refused", 2, False, False, 9))
        assert publisher.expect(Pubrec).reason_code == ReasonCode.QUOTA_EXCEEDED
    finally:
        redis_of_session.make_room()
    publisher.send(Publish(flow.name("t"), b"taken", 2, False, False, 9))
    assert publisher.expect(Pubrec) == Pubrec(9)
    publisher.send(Pubrel(9))
    assert publisher.expect(Pubcomp) == Pubcomp(9)
    assert subscriber.message().payload == b"taken"
    assert flow.until_mark(publisher, subscriber) == []


@v5("3.4.2-1", "3.5.2-1")
def test_reason_where_nobody_matches(flow: Flow) -> None:
    """A node may take it for matched as long as another one had a subscriber to everything just now."""
    publisher = flow.near("publisher")
    for qos in (1, 2):
        reason_code = publisher.publish(flow.name("t"), b"x", qos)
        assert reason_code in (ReasonCode.SUCCESS, ReasonCode.NO_MATCHING_SUBSCRIBERS)


# The server sends


@v5("4.3.2-1", "4.3.2-2", "4.3.3-1", "4.3.3-2", "2.2.1-4", "4.3.1-1")
@v3("4.3.2-1", "4.3.3-1", "2.3.1-4")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("keeps", [False, True])
def test_unused_identifiers(flow: Flow, qos: int, keeps: bool) -> None:
    """Of many that are open at once no two are the same; none has DUP."""
    subscriber = _subscriber(flow, keeps=keeps)
    publisher = flow.near("publisher")
    _send(flow, publisher, *[b"x"] * 20, qos=qos)
    messages = [subscriber.expect(Publish) for _ in range(20)]
    assert len({message.packet_id for message in messages}) == 20
    assert all(message.packet_id and message.qos == qos and not message.dup for message in messages)


@v5("4.3.3-4", "2.2.1-5", "3.6.2-1")
@v3("4.3.3-1", "2.3.1-6")
def test_pubrec_is_answered(flow: Flow) -> None:
    subscriber = _subscriber(flow)
    _send(flow, flow.near("publisher"), b"x", qos=2)
    message = subscriber.expect(Publish)
    for _ in range(2):
        subscriber.send(Pubrec(message.packet_id))
        assert subscriber.expect(Pubrel) == Pubrel(message.packet_id)
    subscriber.send(Pubcomp(message.packet_id))
    assert subscriber.ping() == []


@v5("4.3.2-3", "4.4.0-1", "3.3.1-1", "3.3.1-3")
@v3("4.3.2-1", "4.4.0-1", "3.3.1-1", "4.6.0-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_unacknowledged_is_sent_again(flow: Flow, qos: int) -> None:
    """With its identifier, with DUP, in the same order, by the other half."""
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher")
    _send(flow, publisher, b"1", b"2", b"3", qos=qos)
    first = [subscriber.expect(Publish) for _ in range(3)]
    subscriber.close()
    back = flow.near("subscriber", keeps=True)
    again = [back.expect(Publish) for _ in range(3)]
    assert [(each.packet_id, each.payload) for each in again] == [
        (each.packet_id, each.payload) for each in first
    ]
    assert all(each.dup for each in again)


@v5("4.3.2-3", "4.4.0-1", "4.3.3-3")
@v3("4.3.2-1", "4.4.0-1", "4.3.3-1")
def test_acknowledged_is_not_sent_again(flow: Flow) -> None:
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher")
    _send(flow, publisher, b"1", qos=1)
    _send(flow, publisher, b"2", qos=2)
    assert subscriber.payloads(2) == [b"1", b"2"]
    subscriber.ping()
    subscriber.close()
    back = flow.near("subscriber", keeps=True)
    assert flow.until_mark(publisher, back) == []


@v5("4.3.3-5", "4.3.3-6", "4.4.0-1")
@v3("4.3.3-1", "4.4.0-1", "4.6.0-4")
def test_pubrel_is_sent_again_and_not_publish(flow: Flow) -> None:
    """In the order in which PUBREC came."""
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher")
    _send(flow, publisher, b"1", b"2", b"3", qos=2)
    messages = [subscriber.expect(Publish) for _ in range(3)]
    for message in messages:
        subscriber.send(Pubrec(message.packet_id))
    released = [subscriber.expect(Pubrel) for _ in messages]
    assert released == [Pubrel(message.packet_id) for message in messages]
    subscriber.close()
    back = flow.near("subscriber", keeps=True)
    assert [back.expect(Pubrel) for _ in messages] == released
    back.send(*[Pubcomp(message.packet_id) for message in messages])
    assert flow.until_mark(publisher, back) == []


@v5("4.4.0-1")
def test_nothing_is_sent_again_without_a_new_connection(flow: Flow) -> None:
    subscriber = _subscriber(flow)
    _send(flow, flow.near("publisher"), b"x", qos=1)
    subscriber.expect(Publish)
    subscriber.assert_silence(1.0)


@v5("4.4.0-2", "4.3.3-4")
@pytest.mark.parametrize("qos", [1, 2])
def test_refused_is_not_sent_again(flow: Flow, qos: int) -> None:
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher")
    _send(flow, publisher, b"x", qos=qos)
    packet_id = subscriber.expect(Publish).packet_id
    subscriber.send(Puback(packet_id, REFUSED) if qos == 1 else Pubrec(packet_id, REFUSED))
    assert subscriber.ping() == []
    subscriber.unsubscribe(flow.name("none"))  # answered once the store has that, and what came before
    subscriber.close()
    back = flow.near("subscriber", keeps=True)
    assert flow.until_mark(publisher, back) == []


@v5("4.3.3-7")
def test_message_that_was_sent_does_not_expire(flow: Flow) -> None:
    """It is sent again after its time, and its exchange ends in order."""
    subscriber = _subscriber(flow)
    publisher = flow.near("publisher")
    expiry = Properties(message_expiry_interval=1)
    publisher.publish(flow.name("t"), b"x", 2, properties=expiry)
    packet_id = subscriber.expect(Publish).packet_id
    time.sleep(1.1)
    subscriber.close()
    back = flow.near("subscriber", keeps=True)
    again = back.message()
    assert (again.packet_id, again.payload, again.dup) == (packet_id, b"x", True)


# Flow control


@v5("3.3.4-9", "3.3.4-10", "4.9.0-1", "4.9.0-2", "4.9.0-3")
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("qos", [1, 2])
def test_receive_maximum_of_the_client(flow: Flow, qos: int, keeps: bool) -> None:
    """Never more than two are open; all else is answered meanwhile, and one more comes for each that ends."""
    subscriber = _subscriber(flow, keeps=keeps, receive_maximum=2)
    publisher = flow.near("publisher")
    _send(flow, publisher, *[str(each).encode() for each in range(5)], qos=qos)
    opened = [subscriber.expect(Publish) for _ in range(2)]
    subscriber.assert_silence()
    subscriber.send(Subscribe(9, [SubscriptionRequest(flow.name("other"), 0)]))
    assert subscriber.expect(Suback).packet_id == 9
    assert subscriber.publish(f"{flow.name()}-elsewhere", b"", 1) < REFUSED
    for number in range(2, 5):
        _complete(subscriber, opened.pop(0))
        opened.append(subscriber.expect(Publish))
        assert opened[-1].payload == str(number).encode()
        subscriber.assert_silence()


def _complete(subscriber: WireClient, message: Publish) -> None:
    if message.qos == 1:
        subscriber.send(Puback(message.packet_id))
        return
    subscriber.send(Pubrec(message.packet_id))
    assert subscriber.expect(Pubrel) == Pubrel(message.packet_id)
    subscriber.assert_silence()  # the place is free with PUBCOMP
    subscriber.send(Pubcomp(message.packet_id))
