"""Bytes that break the protocol, over real sockets: each costs its own connection and no other [4.13]."""

import re
import time

import pytest

from broker.mqtt import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    ReasonCode,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
    encode,
    v3_connack_code,
)
from tests.mqtt.vectors import REFUSED, REFUSED_CONNECTS, Refusal, Vector
from tests.node.conftest import Clients
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import WireClient, connected

AFTER_CONNECT = [vector for vector in REFUSED if vector.from_client and vector.version]


def _code(vector: Vector) -> ReasonCode:
    assert isinstance(vector.expected, Refusal)
    return vector.expected.reason_code


@pytest.mark.parametrize("vector", AFTER_CONNECT, ids=[f"{v.version} {v.name}" for v in AFTER_CONNECT])
def test_bad_packet_closes_its_connection(client: Clients, vector: Vector) -> None:
    control = client("control")
    bad = client("bad", vector.version)
    bad.send_bytes(vector.data)
    packets = bad.wait_closed()
    if vector.version == MQTT_5:
        assert [
            (type(packet), packet.reason_code) for packet in packets if isinstance(packet, Disconnect)
        ] == [(Disconnect, _code(vector))]
    assert len(packets) == (1 if vector.version == MQTT_5 else 0)
    assert control.ping() == []


@pytest.mark.parametrize("vector", REFUSED_CONNECTS, ids=[vector.name for vector in REFUSED_CONNECTS])
def test_bad_connect_closes_its_connection(client: Clients, vector: Vector) -> None:
    control = client("control")
    version = (
        int(found[1]) if (found := re.match(r".*'(?:MQTT|MQIsdp)' 0([345])", vector.notation)) else MQTT_5
    )
    bad = client.raw(version)
    bad.send_bytes(vector.data)
    packets = bad.wait_closed()
    code = int(_code(vector))
    if packets:  # before the version is known there is nothing to say, and 3.x has no word for most
        answer = code if version == MQTT_5 else v3_connack_code(code)
        assert [(type(packet), packet.reason_code) for packet in packets if isinstance(packet, Connack)] == [
            (Connack, answer)
        ]
    assert control.ping() == []


@pytest.mark.parametrize(
    ("name", "version", "code"),
    [("MQTT", 6, 0x84), ("MQIsdp", 9, 0x84), ("MQTT", 3, 1)],
)
def test_unsupported_version_is_named(node: NodeProcess, name: str, version: int, code: int) -> None:
    """[MQTT-3.1.2-2]: the server may say so, in the form of MQTT 5 if the version is unknown."""
    with WireClient(node.port, MQTT_5 if code == 0x84 else MQTT_3_1_1) as bad:
        variable = len(name).to_bytes(2, "big") + name.encode() + bytes([version, 2, 0, 60, 0, 1, 0x63])
        bad.send_bytes(bytes([0x10, len(variable)]) + variable)
        packets = bad.wait_closed()
        assert all(isinstance(packet, Connack) and packet.reason_code == code for packet in packets)


def test_first_packet_must_be_connect(client: Clients) -> None:
    """[MQTT-3.1.0-1]"""
    for packet in (
        Pingreq(),
        Publish("t", b"", 0, False, False, 0),
        Subscribe(1, [SubscriptionRequest("t", 0)]),
    ):
        bad = client.raw()
        bad.send(packet)
        assert bad.wait_closed() == []


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1, MQTT_5])
def test_second_connect_is_a_protocol_error(client: Clients, version: int) -> None:
    """[MQTT-3.1.0-2]"""
    bad = client("bad", version)
    bad.send(Connect("again", version, True, 0))
    packets = bad.wait_closed()
    if version == MQTT_5:
        assert isinstance(packets[0], Disconnect)
        assert packets[0].reason_code == ReasonCode.PROTOCOL_ERROR
    else:
        assert packets == []


def test_packets_of_a_server_are_refused(client: Clients) -> None:
    for packet in (Connack(False, 0), Pingresp()):
        bad = client("bad")
        bad.send(packet)
        assert bad.wait_refused() in (ReasonCode.MALFORMED_PACKET, ReasonCode.PROTOCOL_ERROR)


def test_auth_without_a_method_is_a_protocol_error(client: Clients) -> None:
    """[MQTT-4.12.0-6]"""
    bad = client("bad")
    bad.send(Auth(0x19))
    assert bad.wait_refused() == ReasonCode.PROTOCOL_ERROR


def test_unknown_authentication_method_is_refused(client: Clients) -> None:
    """[MQTT-4.12.0-1]"""
    bad = client.raw()
    connack = bad.connect("c", properties=Properties(authentication_method="SCRAM-SHA-1"))
    assert connack.reason_code == ReasonCode.BAD_AUTHENTICATION_METHOD
    assert bad.wait_closed() == []


def test_what_follows_a_refused_connect_is_not_processed(client: Clients, name: str) -> None:
    """[MQTT-3.1.4-6]"""
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    bad = client.raw()
    refused = Connect("c", MQTT_5, True, 0, properties=Properties(authentication_method="x"))
    bad.send(refused, Publish(name, b"not authorized", 1, False, False, 1))
    assert bad.wait_refused() == ReasonCode.BAD_AUTHENTICATION_METHOD
    watcher.assert_silence()


def test_packets_before_connack_are_processed_after_it(client: Clients, name: str) -> None:
    eager = client.raw()
    eager.send(
        Connect(client.id_of("eager"), MQTT_5, True, 0),
        Subscribe(1, [SubscriptionRequest(name, 1)]),
        Publish(name, b"at once", 1, False, False, 2),
        Pingreq(),
    )
    kinds = [type(eager.next()).__name__ for _ in range(5)]
    assert kinds[0] == "Connack"
    assert set(kinds[1:]) == {"Suback", "Puback", "Publish", "Pingresp"}


def test_one_byte_at_a_time(client: Clients, name: str) -> None:
    slow = client("slow")
    slow.subscribe(name, qos=1)
    for byte in encode(Publish(name, b"in pieces", 1, False, False, 9), MQTT_5):
        slow.send_bytes(bytes([byte]))
    received = {type(packet): packet for packet in (slow.next(), slow.next())}
    assert received[Puback] == Puback(9)
    assert received[Publish] == Publish(name, b"in pieces", 1, False, False, 1)


def test_packets_before_the_bad_one_count(client: Clients, name: str) -> None:
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    bad = client("bad")
    bad.send_bytes(encode(Publish(name, b"good", 0, False, False, 0), MQTT_5) + b"\xf1\x00")
    assert bad.wait_refused() == ReasonCode.MALFORMED_PACKET
    assert watcher.message().payload == b"good"


# Limits


def test_too_large_packet_is_refused_by_its_header(client: Clients) -> None:
    """0x95 as soon as the fixed header shows the size, before the megabytes have come."""
    bad = client("bad")
    bad.send_bytes(b"\x30\xff\xff\xff\x7f")
    assert bad.wait_refused() == ReasonCode.PACKET_TOO_LARGE


def test_largest_packet_passes(client: Clients, name: str) -> None:
    with_limit = client.raw()
    connack = with_limit.connect(client.id_of("large"))
    assert connack.properties is not None
    maximum = connack.properties.maximum_packet_size
    assert maximum is not None
    with_limit.subscribe(name)
    payload = bytes(
        maximum - len(encode(Publish(name, b"", 0, False, False, 0), MQTT_5)) - 2
    )  # its length takes 3 bytes
    with_limit.send(Publish(name, payload, 0, False, False, 0))
    assert with_limit.message().payload == payload
    with_limit.send(Publish(name, payload + b"1", 0, False, False, 0))
    assert with_limit.wait_refused() == ReasonCode.PACKET_TOO_LARGE


def test_client_maximum_packet_size_is_respected(client: Clients, name: str) -> None:
    """[MQTT-3.1.2-24], [MQTT-3.1.2-25]: it is as if the message had been sent."""
    for suffix, expiry in (("direct", 0), ("stored", 3600)):
        small = client(suffix, properties=Properties(maximum_packet_size=100, session_expiry_interval=expiry))
        small.subscribe(name, qos=1)
        publisher = client("publisher")
        publisher.publish(name, bytes(200), 1)
        publisher.publish(name, b"fits", 1)
        publisher.publish(name, bytes(200), 0)
        assert small.message().payload == b"fits"
        small.assert_silence()


def test_receive_maximum_of_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """[MQTT-3.3.4-8]: one more than was announced is answered 0x93. QoS 2 counts until PUBCOMP."""
    environment = {"MOORLINE_MQTT__RECEIVE_MAXIMUM": "3"}
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        for suffix, properties in (("direct", None), ("stored", Properties(session_expiry_interval=60))):
            with WireClient(node.port) as client:
                connack = client.connect(suffix, properties=properties)
                assert connack.properties is not None
                assert connack.properties.receive_maximum == 3
                for _ in range(5):  # acknowledged ones don't count
                    client.publish("t", b"", 1)
                for packet_id in (101, 102, 103):
                    client.send(Publish("t", b"", 2, False, False, packet_id))
                    assert client.expect(Pubrec).packet_id == packet_id
                client.send(Pubrel(101))
                client.next()  # PUBCOMP
                client.send(Publish("t", b"", 2, False, False, 104))
                assert client.expect(Pubrec).packet_id == 104
                client.send(Publish("t", b"", 2, False, False, 105))
                assert client.wait_refused() == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
        with connected(node.port, "old", MQTT_3_1_1) as old:  # doesn't know the limit: it is slowed down
            old.send(*[Publish("t", b"", 1, False, False, packet_id) for packet_id in range(1, 51)])
            assert [old.expect(Puback).packet_id for _ in range(50)] == list(range(1, 51))


def test_topic_alias(client: Clients, name: str) -> None:
    watcher = client("watcher")
    watcher.subscribe(f"{name}/#")
    publisher = client("publisher")
    aliased = Properties(topic_alias=1)
    publisher.send(
        Publish(f"{name}/a", b"1", 0, False, False, 0, aliased),
        Publish("", b"2", 0, False, False, 0, aliased),
        Publish(f"{name}/b", b"3", 0, False, False, 0, aliased),
        Publish("", b"4", 0, False, False, 0, aliased),
    )
    received = [watcher.message() for _ in range(4)]
    assert [publish.topic.rsplit("/", 1)[1] for publish in received] == ["a", "a", "b", "b"]
    assert all(publish.properties is None for publish in received), "an alias is the connection's own"


@pytest.mark.parametrize(
    ("alias", "code"),
    [(5, ReasonCode.PROTOCOL_ERROR), (60_000, ReasonCode.TOPIC_ALIAS_INVALID)],
    ids=["never set", "above the maximum"],
)
def test_bad_topic_alias(client: Clients, alias: int, code: ReasonCode) -> None:
    """[MQTT-3.3.2-9]"""
    bad = client("bad")
    bad.send(Publish("", b"", 0, False, False, 0, Properties(topic_alias=alias)))
    assert bad.wait_refused() == code


@pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
def test_topic_alias_of_the_server(client: Clients, name: str, expiry: int) -> None:
    """[MQTT-3.1.2-26]: set with the second message of a topic, and never above the client's maximum."""
    properties = Properties(topic_alias_maximum=1, session_expiry_interval=expiry)
    with client("watcher", properties=properties) as watcher:
        watcher.subscribe(f"{name}/#", qos=1)
        publisher = client("publisher")
        for leaf in ("a", "a", "a", "b", "b", "a"):
            publisher.publish(f"{name}/{leaf}", b"", 1)
        received = [watcher.message() for _ in range(6)]
    topics = [publish.topic.removeprefix(name) for publish in received]
    aliases = [publish.properties and publish.properties.topic_alias for publish in received]
    assert topics == ["/a", "/a", "", "/b", "/b", "/a"]
    assert aliases == [None, 1, 1, None, 1, None]
    with client("watcher", properties=properties, clean_start=False) as watcher:
        watcher.subscribe(f"{name}/#", qos=1)
        publisher.publish(f"{name}/b", b"", 1)
        assert watcher.message().topic == f"{name}/b", "an alias ends with its connection [MQTT-3.3.2-7]"


# Time


def test_keep_alive_timeout(client: Clients) -> None:
    """[MQTT-3.1.2-22]: 0x8D after one and a half times the Keep Alive, not before; a ping puts it off."""
    start = time.monotonic()
    silent = client("silent", keep_alive=1)
    time.sleep(0.9)
    silent.ping()
    pinged = time.monotonic()
    assert silent.wait_refused() == ReasonCode.KEEP_ALIVE_TIMEOUT
    assert 1.5 <= time.monotonic() - pinged < 4.0
    assert time.monotonic() - start > 2.0


def test_no_keep_alive_no_timeout(client: Clients) -> None:
    quiet = client("quiet", keep_alive=0)
    other = client("other", MQTT_3_1_1, keep_alive=1)
    assert other.wait_closed() == []
    assert quiet.ping() == []


def test_connect_timeout(tmp_path_factory: pytest.TempPathFactory) -> None:
    environment = {"MOORLINE_MQTT__CONNECT_TIMEOUT_SECONDS": "1"}
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        start = time.monotonic()
        with WireClient(node.port) as silent, WireClient(node.port) as half:
            half.send_bytes(encode(Connect("c", MQTT_5, True, 0), MQTT_5)[:5])
            assert silent.wait_closed() == []
            assert 1.0 <= time.monotonic() - start < 4.0
            assert half.wait_closed() == []


# Takeover


@pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
def test_takeover(client: Clients, node: NodeProcess, expiry: int) -> None:
    """[MQTT-3.1.4-3]"""
    properties = Properties(session_expiry_interval=expiry)
    first = client("same", properties=properties)
    first.subscribe("t")
    second = client.raw()
    connack = second.connect(client.id_of("same"), clean_start=False, properties=properties)
    assert connack.session_present == (expiry > 0)
    assert first.wait_refused() == ReasonCode.SESSION_TAKEN_OVER
    assert second.ping() == []
    old = client("same", MQTT_3_1_1)
    assert second.wait_refused() == ReasonCode.SESSION_TAKEN_OVER
    client("same")
    assert old.wait_closed() == [], "3.1.1 has no DISCONNECT from the server"
    gone = [
        event
        for event in node.events("disconnected")
        if event["client_id"] == client.id_of("same") and "session_taken_over" in str(event["reason"])
    ]
    assert len(gone) == 3


@pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
def test_fifty_takeovers_at_once(client: Clients, node: NodeProcess, name: str, expiry: int) -> None:
    """One connection is left, and it works; all the others have been told."""
    properties = Properties(session_expiry_interval=expiry)
    connect = Connect(client.id_of("same"), MQTT_5, False, 0, properties=properties)
    contenders = [client.raw() for _ in range(50)]
    for contender in contenders:
        contender.send(connect)

    answers = [contender.expect(Connack).reason_code for contender in contenders]
    winners = []
    for contender, answer in zip(contenders, answers, strict=True):
        contender.send(Pingreq())
        try:
            packet = contender.next()
        except ConnectionError:
            assert answer != 0, "closed without a word"
            continue
        if isinstance(packet, Pingresp):
            winners.append(contender)
        else:
            assert isinstance(packet, Disconnect)
            assert packet.reason_code == ReasonCode.SESSION_TAKEN_OVER
    (winner,) = winners
    winner.subscribe(name, qos=1)
    client("publisher").publish(name, b"to the last one", 1)
    assert winner.message().payload == b"to the last one"
    assert node.get("/healthz").status == 200


def test_stale_packets_of_an_old_connection_do_no_harm(client: Clients, name: str) -> None:
    """Acknowledgements of messages that were never sent, and handshakes that never began."""
    strange = client("strange")
    strange.send(Puback(7), Pubrec(8), Pubrel(9))
    assert strange.expect(Pubrel) == Pubrel(8, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
    pubcomp = strange.next()
    assert getattr(pubcomp, "reason_code", None) == ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
    strange.subscribe(name, qos=2)
    client("publisher").publish(name, b"still served", 2)
    assert strange.message().payload == b"still served"


def test_unsubscribe_of_nothing(client: Clients) -> None:
    plain = client("plain")
    plain.subscribe("a", "b")
    plain.send(Unsubscribe(77, ["a", "c", "b"]))
    packet = plain.next()
    assert getattr(packet, "reason_codes", None) == [0, ReasonCode.NO_SUBSCRIPTION_EXISTED, 0]
