"""The rules of one network connection: its states, what waits, what a client is told at the end."""

import pytest

from broker.mqtt import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    TRANSITIONS,
    Auth,
    Connack,
    Connect,
    Connection,
    ConnectionLimits,
    Decoder,
    Disconnect,
    MalformedPacket,
    Packet,
    PacketType,
    Pingreq,
    Properties,
    ProtocolError,
    Puback,
    Publish,
    ReasonCode,
    State,
    Suback,
    Subscribe,
    SubscriptionRequest,
    encode,
)
from tests.mqtt.strategies import VERSIONS
from tests.mqtt.vectors import wire

LIMITS = ConnectionLimits(
    maximum_packet_size=1000, receive_maximum=2, topic_alias_maximum=3, connect_timeout_seconds=7.5
)
SUBSCRIBE = Subscribe(1, [SubscriptionRequest("a", 0)])
METHOD = Properties(authentication_method="m")


def _publish(topic: str, alias: int | None = None, packet_id: int = 0, payload: bytes = b"x") -> Publish:
    properties = Properties(topic_alias=alias) if alias is not None else None
    return Publish(topic, payload, 1 if packet_id else 0, False, False, packet_id, properties)


def _receive(connection: Connection, *packets: Packet, version: int = MQTT_5) -> list[Packet]:
    out: list[Packet] = []
    connection.receive(b"".join([encode(packet, version) for packet in packets]), out)
    return out


def _state(connection: Connection) -> State:
    """Read anew: the type checker would believe that it never changes."""
    return connection.state


def _connected(version: int = MQTT_5, properties: Properties | None = None) -> Connection:
    connection = Connection(LIMITS)
    connect = Connect("c", version, True, 10, properties=properties)
    assert _receive(connection, connect) == [connect]
    assert _state(connection) is State.AUTHENTICATING
    released: list[Packet] = []
    connection.accepted(released)
    assert released == []
    assert _state(connection) is State.CONNECTED
    return connection


def _told(data: bytes | None, version: int = MQTT_5) -> list[Packet]:
    """What the client reads out of the bytes."""
    out: list[Packet] = []
    Decoder(False, 10_000, version).feed(data or b"", out)
    return out


def test_before_connect() -> None:
    connection = Connection(LIMITS)
    assert _state(connection) is State.OPENED
    assert connection.version == 0
    assert connection.connect_timeout_seconds == 7.5
    assert connection.keep_alive_timeout == 0
    assert repr(connection) == "Connection(opened, version=0, 0 packets waiting)"
    connection.receive(b"\x10", [])
    assert _state(connection) is State.OPENED


def test_transitions_name_only_states_and_packets() -> None:
    assert set(TRANSITIONS) == set(State)
    for packets in TRANSITIONS.values():
        assert set(packets) <= set(PacketType)
        assert set(packets.values()) <= set(State)


def test_first_packet_is_connect() -> None:
    """[MQTT-3.1.0-1]; nothing is known about who is there, so nothing is said."""
    connection = Connection(LIMITS)
    with pytest.raises(ProtocolError):
        _receive(connection, Pingreq())
    assert _state(connection) is State.CLOSED
    assert connection.farewell(ReasonCode.PROTOCOL_ERROR) == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_second_connect(version: int) -> None:
    """[MQTT-3.1.0-2]"""
    connection = _connected(version)
    with pytest.raises(ProtocolError):
        _receive(connection, Connect("c", version, True, 10))
    assert _state(connection) is State.CLOSED
    wanted = [Disconnect(ReasonCode.PROTOCOL_ERROR)] if version == MQTT_5 else []
    assert _told(connection.farewell(ReasonCode.PROTOCOL_ERROR)) == wanted


def test_what_the_client_says_of_itself() -> None:
    connection = _connected(
        properties=Properties(
            receive_maximum=5, maximum_packet_size=50, topic_alias_maximum=6, request_problem_information=0
        )
    )
    assert connection.version == MQTT_5
    assert connection.keep_alive_seconds == 10
    assert connection.keep_alive_timeout == 15  # [MQTT-3.1.2-22]
    assert connection.client_receive_maximum == 5
    assert connection.client_topic_alias_maximum == 6
    assert connection.client_maximum_packet_size == 50
    assert not connection.request_problem_information
    assert connection.fits(50)
    assert not connection.fits(51)


@pytest.mark.parametrize("properties", [None, Properties(session_expiry_interval=1)])
def test_what_holds_if_the_client_does_not_say(properties: Properties | None) -> None:
    connection = _connected(properties=properties)
    assert connection.client_receive_maximum == 65_535
    assert connection.client_topic_alias_maximum == 0
    assert connection.request_problem_information
    assert connection.fits(1 << 30)


def test_server_keep_alive() -> None:
    """[MQTT-3.2.2-21]"""
    connection = Connection(LIMITS)
    _receive(connection, Connect("c", 5, True, 0))
    connection.accepted([], 20)
    assert connection.keep_alive_timeout == 30


@pytest.mark.parametrize("version", VERSIONS)
def test_what_comes_before_connack_waits(version: int) -> None:
    """[MQTT-3.1.4-6]"""
    connection = Connection(LIMITS)
    connect = Connect("c", version, True, 10)
    early = [_publish("a"), SUBSCRIBE, _publish("b", packet_id=1)]
    assert _receive(connection, connect, *early[:1], version=version) == [connect]
    assert connection.waiting_bytes == 0
    assert _receive(connection, *early[1:], version=version) == []
    assert connection.waiting_bytes > 0
    assert "3 packets waiting" in repr(connection)
    out: list[Packet] = []
    connection.accepted(out)
    assert out == early
    assert connection.waiting_bytes == 0
    assert _receive(connection, Pingreq(), version=version) == [Pingreq()]


def test_a_disconnect_that_waits_ends_the_connection_when_released() -> None:
    connection = Connection(LIMITS)
    _receive(connection, Connect("c", 5, True, 10), _publish("a"), Disconnect(), Pingreq())
    assert _state(connection) is State.AUTHENTICATING
    out: list[Packet] = []
    connection.accepted(out)
    assert out == [_publish("a"), Disconnect()]
    assert _state(connection) is State.CLOSED


def test_too_much_before_connack() -> None:
    connection = Connection(LIMITS)
    _receive(connection, Connect("c", 5, True, 10))
    _receive(connection, _publish("a", payload=bytes(900)))
    out: list[Packet] = []
    with pytest.raises(ProtocolError) as caught:
        connection.receive(encode(_publish("a", payload=bytes(100)), 5), out)
    assert caught.value.reason_code is ReasonCode.QUOTA_EXCEEDED
    assert out == []  # nothing of a client that may yet be refused
    assert _state(connection) is State.CLOSED
    assert _told(connection.farewell(caught.value.reason_code)) == [Connack(False, ReasonCode.QUOTA_EXCEEDED)]
    connection.accepted(out)  # decided too late
    assert out == []
    assert _state(connection) is State.CLOSED


def test_an_error_among_what_waits() -> None:
    connection = Connection(LIMITS)
    out: list[Packet] = []
    connect = Connect("c", 5, True, 10)
    with pytest.raises(MalformedPacket):
        connection.receive(encode(connect, 5) + encode(Pingreq(), 5) + wire("C1 00"), out)
    assert out == [connect]
    assert _state(connection) is State.CLOSED


def test_packets_before_an_error_are_processed() -> None:
    connection = _connected()
    out: list[Packet] = []
    with pytest.raises(MalformedPacket):
        connection.receive(encode(_publish("t", 1), 5) + encode(_publish("", 1), 5) + wire("C1 00"), out)
    assert [packet.topic for packet in out if isinstance(packet, Publish)] == ["t", "t"]
    assert _state(connection) is State.CLOSED
    connection.receive(encode(Pingreq(), 5), out)  # discarded
    assert len(out) == 2


def test_disconnect_ends_it() -> None:
    """[MQTT-3.14.4-1]: what comes after it is discarded; nothing more is said."""
    connection = _connected()
    assert _receive(connection, Puback(1), Disconnect(4), Pingreq()) == [Puback(1), Disconnect(4)]
    assert _state(connection) is State.CLOSED
    assert connection.encode_disconnect(ReasonCode.SERVER_SHUTTING_DOWN) is None
    assert connection.farewell(ReasonCode.SERVER_SHUTTING_DOWN) == b""


def test_whatever_follows_disconnect_is_no_error() -> None:
    connection = _connected()
    out: list[Packet] = []
    connection.receive(encode(Disconnect(), 5) + wire("C1 00"), out)
    assert out == [Disconnect()]
    assert _state(connection) is State.CLOSED


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1])
def test_disconnect_before_mqtt_5(version: int) -> None:
    connection = _connected(version)
    assert _receive(connection, Disconnect(), version=version) == [Disconnect()]
    assert _state(connection) is State.CLOSED


@pytest.mark.parametrize(
    ("at_connect", "at_disconnect", "is_allowed"),
    [(None, None, True), (None, 0, True), (None, 1, False), (0, 1, False), (1, 0, True), (1, 5, True)],
)
def test_session_expiry_interval_at_disconnect(
    at_connect: int | None, at_disconnect: int | None, is_allowed: bool
) -> None:
    """It can't become more than 0 at the end [3.14.2.2.2]."""
    connection = _connected(properties=Properties(session_expiry_interval=at_connect, receive_maximum=9))
    disconnect = Disconnect(0, Properties(session_expiry_interval=at_disconnect, reason_string="bye"))
    if is_allowed:
        assert _receive(connection, disconnect) == [disconnect]
    else:
        with pytest.raises(ProtocolError):
            _receive(connection, disconnect)
        assert _told(connection.farewell(ReasonCode.PROTOCOL_ERROR)) == [Disconnect(0x82)]


def test_topic_aliases() -> None:
    """[3.3.2.3.4]: each is filled in, may be changed, and belongs to this connection only."""
    connection = _connected()
    sent = [_publish("a", 1), _publish("b", 3), _publish("", 1, 7), _publish("c", 1), _publish("plain")]
    out = _receive(connection, *sent, _publish("", 1), _publish("", 3))
    assert [packet.topic for packet in out if isinstance(packet, Publish)] == [
        "a",
        "b",
        "a",
        "c",
        "plain",
        "c",
        "b",
    ]
    third = out[2]
    assert isinstance(third, Publish)
    assert (third.packet_id, third.qos, third.payload) == (7, 1, b"x")
    with pytest.raises(ProtocolError):
        _receive(_connected(), _publish("", 1))


def test_topic_aliases_of_early_packets() -> None:
    connection = Connection(LIMITS)
    _receive(connection, Connect("c", 5, True, 10), _publish("a", 1), _publish("", 1))
    out: list[Packet] = []
    connection.accepted(out)
    assert [packet.topic for packet in out if isinstance(packet, Publish)] == ["a", "a"]


def test_topic_alias_that_stands_for_nothing() -> None:
    connection = _connected()
    out: list[Packet] = []
    with pytest.raises(ProtocolError) as caught:
        connection.receive(encode(Puback(1), 5) + encode(_publish("", 2), 5) + encode(Puback(2), 5), out)
    assert caught.value.reason_code is ReasonCode.PROTOCOL_ERROR
    assert out == [Puback(1)]
    assert _state(connection) is State.CLOSED


def test_topic_alias_above_the_maximum() -> None:
    """[MQTT-3.3.2-9]"""
    connection = _connected()
    with pytest.raises(ProtocolError) as caught:
        _receive(connection, _publish("a", 4))
    assert caught.value.reason_code is ReasonCode.TOPIC_ALIAS_INVALID


def test_a_rule_broken_before_a_malformed_packet_is_what_counts() -> None:
    connection = _connected()
    with pytest.raises(ProtocolError) as caught:
        connection.receive(encode(_publish("a", 4), 5) + wire("C1 00"), [])
    assert caught.value.reason_code is ReasonCode.TOPIC_ALIAS_INVALID


def test_enhanced_authentication() -> None:
    """AUTH passes before CONNACK and, to authenticate again, after it [4.12]."""
    connection = Connection(LIMITS)
    _receive(connection, Connect("c", 5, True, 10, properties=METHOD))
    assert connection.authentication_method == "m"
    step = Auth(0x18, METHOD)
    assert _receive(connection, step, step) == [step, step]
    assert _state(connection) is State.AUTHENTICATING
    out: list[Packet] = []
    connection.accepted(out)
    assert out == []
    again = Auth(0x19, METHOD)
    assert _receive(connection, again) == [again]
    assert _state(connection) is State.CONNECTED


@pytest.mark.parametrize(
    ("in_connect", "auth"),
    [
        (None, Auth(0x18, METHOD)),
        (METHOD, Auth(0x18, Properties(authentication_method="other"))),
        (METHOD, Auth(0x19, METHOD)),
    ],
)
def test_auth_that_is_not_allowed_before_connack(in_connect: Properties | None, auth: Auth) -> None:
    """[MQTT-4.12.0-5], [MQTT-4.12.0-7], [MQTT-4.12.1-1]"""
    connection = Connection(LIMITS)
    _receive(connection, Connect("c", 5, True, 10, properties=in_connect))
    with pytest.raises(ProtocolError):
        _receive(connection, auth)
    assert _told(connection.farewell(ReasonCode.PROTOCOL_ERROR)) == [Connack(False, 0x82)]


def test_nothing_but_auth_before_connack_from_who_names_a_method() -> None:
    """[MQTT-3.1.2-30]"""
    connection = Connection(LIMITS)
    _receive(connection, Connect("c", 5, True, 10, properties=METHOD))
    out: list[Packet] = []
    with pytest.raises(ProtocolError):
        connection.receive(encode(Auth(0x18, METHOD), 5) + encode(Pingreq(), 5), out)
    assert out == [Auth(0x18, METHOD)]
    assert _state(connection) is State.CLOSED


def test_disconnect_in_the_middle_of_an_authentication() -> None:
    connection = Connection(LIMITS)
    _receive(connection, Connect("c", 5, True, 10, properties=METHOD))
    assert _receive(connection, Disconnect(), Pingreq()) == [Disconnect()]
    assert _state(connection) is State.CLOSED


@pytest.mark.parametrize(
    ("notation", "reason_code", "answer"),
    [
        ("10 * 'MQTT' 06 02 003C 00 'c'", 0x84, "20 03 00 84 00"),
        ("10 * 'MQTT' 03 02 003C 'c'", 0x84, "20 02 00 01"),
        ("10 * 'HTTP' 04 02 003C 'c'", 0x84, ""),
        ("10 * 'MQTT' 04 00 003C ''", 0x85, "20 02 00 02"),
        ("10 * 'MQTT' 05 03 003C 00 'c'", 0x81, "20 03 00 81 00"),
        ("10 * 'MQTT' 04 03 003C 'c'", 0x81, ""),
        ("10 FFFF7F", 0x95, ""),
    ],
)
def test_what_is_said_to_a_bad_connect(notation: str, reason_code: int, answer: str) -> None:
    connection = Connection(LIMITS)
    with pytest.raises((MalformedPacket, ProtocolError)) as caught:
        connection.receive(wire(notation), [])
    assert caught.value.reason_code == reason_code
    assert connection.farewell(caught.value.reason_code) == wire(answer)


def test_farewell_to_who_is_refused() -> None:
    connection = Connection(LIMITS)
    _receive(connection, Connect("c", 5, True, 10))
    assert connection.encode_disconnect(ReasonCode.SERVER_BUSY) is None  # [MQTT-3.14.0-1]
    assert _told(connection.farewell(ReasonCode.SERVER_BUSY, "full")) == [
        Connack(False, 0x89, Properties(reason_string="full"))
    ]
    # There is no such reason in a CONNACK.
    assert _told(connection.farewell(ReasonCode.SESSION_TAKEN_OVER)) == [Connack(False, 0x80)]
    connection.closed()
    assert _state(connection) is State.CLOSED


def test_disconnect_from_the_server() -> None:
    connection = _connected(properties=Properties(maximum_packet_size=12))
    assert _told(connection.encode_disconnect(ReasonCode.SESSION_TAKEN_OVER, "why")) == [
        Disconnect(0x8E, Properties(reason_string="why"))
    ]
    # [MQTT-3.14.2-3]: without the Reason String if the client wouldn't accept a packet of that size.
    assert _told(connection.encode_disconnect(ReasonCode.SESSION_TAKEN_OVER, "why it is")) == [
        Disconnect(0x8E)
    ]
    assert _told(connection.farewell(ReasonCode.BANNED)) == [Disconnect(0x80)]
    assert _connected(MQTT_3_1_1).encode_disconnect(ReasonCode.SESSION_TAKEN_OVER) is None


@pytest.mark.parametrize(
    "notation",
    [
        f"82 * 0001 00 '{'x' * 65_000}#' 00",
        f"82 * 0001 00 '$share/+{'x' * 65_000}' 00",
        f"82 * 0001 00 'a#{'0001' * 1000}' 00",
    ],
)
def test_a_long_text_of_the_client_does_not_come_back_to_it(notation: str) -> None:
    connection = Connection(ConnectionLimits())
    _receive(connection, Connect("c", 5, True, 10))
    connection.accepted([])
    with pytest.raises(MalformedPacket) as caught:
        connection.receive(wire(notation), [])
    assert len(connection.farewell(caught.value.reason_code, str(caught.value))) < 200


def test_where_to_connect_instead() -> None:
    """Of what does not fit the Reason String goes first, then the Server Reference [MQTT-3.14.2-3]."""
    moved = ReasonCode.SERVER_MOVED
    for maximum, properties in [
        (100, Properties(reason_string="why", server_reference="other")),
        (17, Properties(server_reference="other")),
        (12, Properties(server_reference="other")),
        (11, None),
    ]:
        connection = _connected(properties=Properties(maximum_packet_size=maximum))
        assert _told(connection.farewell(moved, "why", "other")) == [Disconnect(moved, properties)]
    only = _connected(properties=Properties(maximum_packet_size=12))
    assert _told(only.farewell(moved, None, "other")) == [
        Disconnect(moved, Properties(server_reference="other"))
    ]
    assert _connected(MQTT_3_1_1).farewell(moved, "why", "other") == b""
    refused = Connection(LIMITS)
    _receive(refused, Connect("c", 5, True, 10))
    assert _told(refused.farewell(moved, None, "other")) == [
        Connack(False, moved, Properties(server_reference="other"))
    ]


def test_a_suback_as_the_client_takes_it() -> None:
    """The Reason String only if it wants to hear it [MQTT-3.1.2-29], and if it fits [MQTT-3.9.2-1]."""
    plain = Suback(1, [0x97, 0])
    full = Suback(1, [0x97, 0], Properties(reason_string="why"))
    assert _told(_connected().encode_suback(full)) == [full]
    assert _told(_connected().encode_suback(plain)) == [plain]
    silent = _connected(properties=Properties(request_problem_information=0))
    assert _told(silent.encode_suback(full)) == [plain]
    for maximum, expected in [(13, [full]), (12, [plain]), (7, [plain])]:
        connection = _connected(properties=Properties(maximum_packet_size=maximum))
        assert _told(connection.encode_suback(full)) == expected
    assert _connected(properties=Properties(maximum_packet_size=6)).encode_suback(full) is None
    assert _connected(MQTT_3_1_1).encode_suback(full) == encode(plain, MQTT_3_1_1)


def test_nothing_is_larger_than_the_client_accepts() -> None:
    """[MQTT-3.1.2-24]: where nothing can be left out any more, nothing is sent."""
    tiny = _connected(properties=Properties(maximum_packet_size=2))
    assert tiny.farewell(ReasonCode.SERVER_MOVED, "why", "other") == b""
    assert tiny.encode_if_fits(Puback(1)) is None
    assert tiny.encode_if_fits(Pingreq()) == encode(Pingreq(), 5)
