"""CONNECT: who is let in, and what becomes of the session [3.1]."""

import time

import pytest

from broker.mqtt import (
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Publish,
    ReasonCode,
    Will,
    encode,
)
from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow
from tests.conformance.malformed.case import connect, packet, properties, text
from tests.node.wire import WireClient

KEEP_ALIVE_SECONDS = 1
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
NO_METHOD = Properties(authentication_method="none of ours")


def _subscribed(flow: Flow, topic: str) -> None:
    """A session with a subscription, whose connection has ended."""
    client = flow.near("s", keeps=True)
    client.subscribe(topic, qos=1)
    client.disconnect()


@v5("3.1.2-5", "3.1.3-2", "3.1.2-23", "3.2.2-3", "4.5.0-1")
@v3("3.1.2-4", "3.1.2-5", "3.1.3-2", "3.2.2-2", "4.1.0-1", "4.5.0-1")
def test_session_goes_on(flow: Flow) -> None:
    _subscribed(flow, flow.name("t"))
    flow.near("publisher").publish(flow.name("t"), b"while away", 1)
    back = flow.raw(far=True)
    connack = back.connect(flow.name("s"), clean_start=False, properties=_hour(flow))
    assert (connack.session_present, connack.reason_code) == (True, 0)
    assert back.message().payload == b"while away"


@v5("3.1.2-6", "3.2.2-3")
@v3("3.1.2-4", "3.2.2-3")
def test_session_is_created(flow: Flow) -> None:
    first = flow.raw()
    connack = first.connect(flow.name("s"), clean_start=False, properties=_hour(flow))
    assert (connack.session_present, connack.reason_code) == (False, 0)
    first.disconnect()
    again = flow.raw(far=True)
    assert again.connect(flow.name("s"), clean_start=False, properties=_hour(flow)).session_present


@v5("3.1.2-4", "3.1.4-4", "3.2.2-2")
@v3("3.1.2-6", "3.1.4-3", "3.2.2-1")
def test_clean_start_discards_the_session(flow: Flow) -> None:
    _subscribed(flow, flow.name("t"))
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"queued", 1)
    clean = flow.raw(far=True)
    connack = clean.connect(flow.name("s"), clean_start=True, properties=_hour(flow))
    assert (connack.session_present, connack.reason_code) == (False, 0)
    clean.subscribe(flow.name("mark"), qos=1)
    publisher.publish(flow.name("t"), b"not subscribed", 1)
    assert flow.until_mark(publisher, clean) == []


@v3("3.1.2-6")
def test_clean_session_ends_with_its_connection(flow: Flow) -> None:
    client = flow.near("s", clean_start=True)
    client.subscribe(flow.name("t"), qos=1)
    client.disconnect()
    again = flow.raw(far=True)
    assert not again.connect(flow.name("s"), clean_start=False).session_present
    again.subscribe(flow.name("mark"), qos=1)
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"nobody's", 1)
    assert flow.until_mark(publisher, again) == []


@v3("3.1.2-7")
def test_retained_messages_outlive_the_session(flow: Flow) -> None:
    publisher = flow.near("publisher", clean_start=True)
    publisher.publish(flow.name("t"), b"kept", 1, retain=True)
    publisher.disconnect()
    reader = flow.far()
    reader.subscribe(flow.name("t"), qos=1)
    assert reader.message().payload == b"kept"


@v5("4.1.0-1")
@v3("4.1.0-2", "4.1.0-1")
def test_session_lasts_as_long_as_its_connection(flow: Flow) -> None:
    """An expiry of 0 or Clean Session 1, and the connection stands: the subscription counts."""
    client = flow.near("s")
    client.subscribe(flow.name("t"), qos=1)
    time.sleep(1.2)
    flow.far("publisher").publish(flow.name("t"), b"still", 1)
    assert client.message().payload == b"still"


@v5("4.1.0-2")
def test_session_ends_with_its_expiry(flow: Flow) -> None:
    second = Properties(session_expiry_interval=1)
    client = flow.near("s", properties=second)
    client.subscribe(flow.name("t"), qos=1)
    client.disconnect()
    there = flow.raw(far=True)
    assert there.connect(flow.name("s"), clean_start=False, properties=second).session_present
    there.disconnect()
    time.sleep(1.1)
    again = flow.raw()
    assert not again.connect(flow.name("s"), clean_start=False, properties=second).session_present


@v5("3.1.4-3", "4.13.2-1", "3.14.4-2", "3.14.2-2")
@v3("3.1.4-2")
def test_second_connection_ends_the_first(flow: Flow) -> None:
    old = flow.near("same", keeps=True)
    new = flow.far("same", keeps=True)
    farewell = old.wait_closed()
    if flow.is_mqtt_5:
        (last,) = farewell
        assert isinstance(last, Disconnect)
        assert last.reason_code == ReasonCode.SESSION_TAKEN_OVER
        assert last.properties is None or last.properties.session_expiry_interval is None
    else:
        assert farewell == []
    assert new.ping() == []


@v5("3.1.4-5", "3.2.0-1", "3.2.0-2", "3.2.2-8")
@v3("3.1.4-4", "3.2.0-1")
def test_connack_comes_first_and_once(flow: Flow) -> None:
    """Even if there is something to deliver at once, and the client does not wait for it."""
    _subscribed(flow, flow.name("t"))
    publisher = flow.near("publisher")
    for number in range(3):
        publisher.publish(flow.name("t"), str(number).encode(), 1)
    back = flow.raw(far=True)
    back.send(Connect(flow.name("s"), flow.version, False, 0, properties=_hour(flow)))
    back.send_bytes(packet(0xC0))
    assert back.expect(Connack).reason_code == 0
    rest = [back.next() for _ in range(4)]
    assert not [each for each in rest if isinstance(each, Connack)]


@v5("3.2.2-1")
def test_reserved_acknowledge_flags(flow: Flow) -> None:
    """On raw bytes: a client's decoder would refuse them."""
    _subscribed(flow, flow.name("t"))
    for clean, flags in ((0x02, 0), (0x00, 0)):
        answer = _raw_connack(flow, connect(5, text(flow.name("s")), flags=clean))
        assert (answer[0], answer[2] & 0xFE, answer[3]) == (0x20, flags, 0)


@v5("3.1.3-5")
@v3("3.1.3-5")
@pytest.mark.parametrize("length", [1, 23])
def test_plain_identifiers_are_accepted(flow: Flow, length: int) -> None:
    for first in range(0, len(LETTERS), length) if length > 1 else (0, 35, 61):
        client_id = (LETTERS[first:] + LETTERS)[:length]
        with flow.raw() as client:
            assert client.connect(client_id).reason_code == 0
        with flow.raw(far=True) as client:
            assert client.connect(client_id).reason_code == 0


@v5("3.1.3-6", "3.1.3-7", "3.2.2-16")
def test_identifier_is_assigned(flow: Flow) -> None:
    """A new one each time, which the client can come back with."""
    first, second = flow.raw(), flow.raw(far=True)
    names = [_assigned(client.connect("", properties=_hour(flow))) for client in (first, second)]
    assert all(names)
    assert names[0] != names[1]
    first.disconnect()
    again = flow.raw(far=True)
    assert again.connect(names[0], clean_start=False, properties=_hour(flow)).session_present


@v3("3.1.3-6")
def test_client_without_identifier_is_like_others(flow: Flow) -> None:
    clients = [flow.raw(), flow.raw(), flow.raw(far=True)]
    for client in clients:
        assert client.connect("").reason_code == 0
        client.subscribe(flow.name("t"), qos=1)
    flow.near("publisher").publish(flow.name("t"), b"to each", 1)
    assert [client.message().payload for client in clients] == [b"to each"] * 3


@v5("3.1.3-1")
@v3("3.1.3-1")
def test_order_of_the_fields(flow: Flow) -> None:
    """What stands where the will has to stand becomes the will."""
    watcher = flow.far("watcher")
    watcher.subscribe(flow.name("will"), qos=1)
    props = properties() if flow.is_mqtt_5 else b""
    payload = (text(flow.name("c")), props, text(flow.name("will")), text("bye"), text("user"), text("pass"))
    client = flow.raw()
    client.send_bytes(connect(flow.version, *payload, flags=0xC6))
    assert client.expect(Connack).reason_code == 0
    client.close()
    assert watcher.message().payload == b"bye"


@v5("3.1.4-6", "3.1.4-2", "3.2.2-6", "3.2.2-7", "4.12.0-1", "3.14.0-1", "4.13.2-1")
def test_nothing_counts_after_a_refusal(flow: Flow) -> None:
    watcher = flow.far("watcher")
    watcher.subscribe(flow.name("#"), qos=1)
    refused = flow.raw()
    refused.send(
        Connect(flow.name("s"), MQTT_5, True, 0, properties=NO_METHOD),
        Publish(flow.name("t"), b"not let in", 1, False, False, 1),
    )
    (last,) = refused.wait_closed()
    assert isinstance(last, Connack)
    assert (last.session_present, last.reason_code) == (False, ReasonCode.BAD_AUTHENTICATION_METHOD)
    assert flow.until_mark(flow.near("publisher"), watcher) == []


@v3("3.1.4-5", "3.2.2-4", "3.2.2-5")
def test_nothing_counts_after_a_refusal_before_mqtt_5(flow: Flow) -> None:
    watcher = flow.far("watcher")
    watcher.subscribe(flow.name("#"), qos=1)
    refused = flow.raw()
    refused.send(
        Connect("", flow.version, False, 0), Publish(flow.name("t"), b"not let in", 1, False, False, 1)
    )
    (last,) = refused.wait_closed()
    assert last == Connack(False, 2)
    assert flow.until_mark(flow.near("publisher"), watcher) == []


@v3("3.2.2-6", "4.8.0-2", "3.1.2-1")
def test_closed_where_no_return_code_fits(flow: Flow) -> None:
    """A name of another protocol, and a packet larger than may be."""
    for data in (packet(0x10, text("AMQP"), b"\x04\x02\x00\x3c", text("c")), b"\x10\xff\xff\xff\x7f"):
        client = flow.raw()
        client.send_bytes(data)
        assert client.wait_closed() == []


@v5("3.1.2-22", "3.2.2-22")
@v3("3.1.2-24")
def test_silent_client_is_disconnected(flow: Flow) -> None:
    """As if the network had failed: with its will."""
    watcher = flow.far("watcher")
    watcher.subscribe(flow.name("will"), qos=1)
    began = time.monotonic()
    client = flow.near("s", keep_alive=KEEP_ALIVE_SECONDS, will=Will(flow.name("will"), b"bye", 1, False))
    assert len(client.wait_closed()) == flow.is_mqtt_5
    assert 1.5 * KEEP_ALIVE_SECONDS <= time.monotonic() - began < 5.0
    assert watcher.message().payload == b"bye"


@v5("3.1.2-21")
def test_server_keep_alive_counts(strict_flow: Flow) -> None:
    """The node's longest Keep Alive is a second, and the client asks for a minute."""
    client = strict_flow.raw()
    began = time.monotonic()
    connack = client.connect(strict_flow.name("s"), keep_alive=60)
    assert connack.properties is not None
    assert connack.properties.server_keep_alive == 1
    assert client.wait_refused() == ReasonCode.KEEP_ALIVE_TIMEOUT
    assert 1.5 <= time.monotonic() - began < 5.0


@v5("3.2.2-19", "3.2.2-20", "3.1.2-24")
def test_refusal_fits_the_client(flow: Flow) -> None:
    """The Reason String goes first; an error is told with it where there is room."""
    lengths = {}
    for maximum in (8, 1000):
        client = flow.raw()
        asked = Properties(authentication_method="none of ours", maximum_packet_size=maximum)
        connack = client.connect(flow.name("s"), properties=asked)
        assert connack.reason_code == ReasonCode.BAD_AUTHENTICATION_METHOD
        lengths[maximum] = _size(connack)
    assert lengths[8] <= 8 < lengths[1000]


@v5("3.1.2-24", "3.2.2-16")
def test_connack_is_never_too_large(flow: Flow) -> None:
    """The client has to be told its identifier, and cannot be: it is refused."""
    client = flow.raw()
    connack = client.connect("", properties=Properties(maximum_packet_size=20))
    assert (connack.reason_code, _size(connack) <= 20) == (ReasonCode.PACKET_TOO_LARGE, True)
    assert client.wait_closed() == []


@v5("3.1.2-28")
@pytest.mark.parametrize("asked", [None, 0, 1])
def test_no_response_information_unless_asked_for(strict_flow: Flow, asked: int | None) -> None:
    properties = Properties(request_response_information=asked)
    connack = strict_flow.raw().connect(strict_flow.name("s"), properties=properties)
    assert connack.properties is not None
    expected = f"replies/{strict_flow.name('s')}" if asked else None
    assert connack.properties.response_information == expected


@v3("7.0.0-2")
def test_plain_bytes_suffice(flow: Flow) -> None:
    """Nothing but what the specification has: CONNECT, SUBSCRIBE, PUBLISH, DISCONNECT, by hand."""
    with flow.raw() as client:
        client.send_bytes(connect(4, text(flow.name("c"))))
        assert client.expect(Connack) == Connack(False, 0)
        client.send_bytes(packet(0x82, b"\x00\x01", text(flow.name("t")), b"\x01"))
        client.next()
        flow.far("publisher").publish(flow.name("t"), b"x", 1)
        assert client.expect(Publish).payload == b"x"
        client.send_bytes(packet(0xE0))
        assert client.wait_closed() == []


def _hour(flow: Flow) -> Properties | None:
    return Properties(session_expiry_interval=3600) if flow.is_mqtt_5 else None


def _assigned(connack: Connack) -> str:
    assert connack.properties is not None
    return connack.properties.assigned_client_identifier or ""


def _size(sent: Packet) -> int:
    return len(encode(sent, MQTT_5))


def _raw_connack(flow: Flow, data: bytes) -> bytes:
    client: WireClient = flow.raw()
    client.send_bytes(data)
    return client.receive_bytes(4)
