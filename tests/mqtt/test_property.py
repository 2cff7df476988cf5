"""The table of properties: where each may stand, how often, with which values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import (
    MalformedPacket,
    MqttError,
    Properties,
    ProtocolError,
    ReasonCode,
    decode_properties,
    encode_properties,
    forwarded_properties,
    response_topic_property,
    split_response_topic,
)
from broker.mqtt.property import (
    IN_ACKNOWLEDGEMENT,
    IN_AUTH,
    IN_CLIENT_DISCONNECT,
    IN_CLIENT_PUBLISH,
    IN_CONNACK,
    IN_CONNECT,
    IN_SERVER_DISCONNECT,
    IN_SERVER_PUBLISH,
    IN_SUBSCRIBE,
    IN_UNSUBSCRIBE,
    IN_WILL,
    PROPERTY_RULES,
    USER_PROPERTIES_MAXIMUM,
    PropertyRule,
    read_properties,
)
from tests.mqtt.strategies import properties

PLACES = [
    IN_CONNECT,
    IN_WILL,
    IN_CONNACK,
    IN_CLIENT_PUBLISH,
    IN_SERVER_PUBLISH,
    IN_ACKNOWLEDGEMENT,
    IN_SUBSCRIBE,
    IN_UNSUBSCRIBE,
    IN_CLIENT_DISCONNECT,
    IN_SERVER_DISCONNECT,
    IN_AUTH,
]

# Table 2-4 of the specification. C: CONNECT, W: Will, A: CONNACK, P: PUBLISH, a: the six acknowledgements,
# S: SUBSCRIBE, U: UNSUBSCRIBE, D: DISCONNECT, X: AUTH. Second column: one value on the wire.
TABLE = {
    0x01: ("PW", "01"),
    0x02: ("PW", "00000001"),
    0x03: ("PW", "000161"),
    0x08: ("PW", "000161"),
    0x09: ("PW", "0001FF"),
    0x0B: ("PS", "01"),
    0x11: ("CAD", "00000001"),
    0x12: ("A", "000161"),
    0x13: ("A", "0001"),
    0x15: ("CAX", "000161"),
    0x16: ("CAX", "0001FF"),
    0x17: ("C", "01"),
    0x18: ("W", "00000001"),
    0x19: ("C", "01"),
    0x1A: ("A", "000161"),
    0x1C: ("AD", "000161"),
    0x1F: ("AaDX", "000161"),
    0x21: ("CA", "0001"),
    0x22: ("CA", "0001"),
    0x23: ("P", "0001"),
    0x24: ("A", "01"),
    0x25: ("A", "01"),
    0x26: ("CWAPaSUDX", "000161000162"),
    0x27: ("CA", "00000001"),
    0x28: ("A", "01"),
    0x29: ("A", "01"),
    0x2A: ("A", "01"),
}
LETTERS = {
    IN_CONNECT: "C",
    IN_WILL: "W",
    IN_CONNACK: "A",
    IN_CLIENT_PUBLISH: "P",
    IN_SERVER_PUBLISH: "P",
    IN_ACKNOWLEDGEMENT: "a",
    IN_SUBSCRIBE: "S",
    IN_UNSUBSCRIBE: "U",
    IN_CLIENT_DISCONNECT: "D",
    IN_SERVER_DISCONNECT: "D",
    IN_AUTH: "X",
}
NOT_FROM_THIS_SIDE = {(0x0B, IN_CLIENT_PUBLISH), (0x1C, IN_CLIENT_DISCONNECT), (0x11, IN_SERVER_DISCONNECT)}
METHOD = bytes.fromhex("15000161")


def _decode(data: bytes, place: int) -> Properties | type[MqttError]:
    try:
        return decode_properties(data, 0, len(data), place)
    except MqttError as error:
        return type(error)


@pytest.mark.parametrize("place", PLACES)
def test_where_each_may_stand(place: int) -> None:
    for identifier in range(256):
        letters, value = TABLE.get(identifier, ("", "00"))
        data = bytes((identifier,)) + bytes.fromhex(value)
        if identifier != 0x15 and (place == IN_AUTH or identifier == 0x16):
            data = (METHOD if place in (IN_AUTH, IN_CONNECT, IN_CONNACK) else b"") + data
        decoded = _decode(data, place)
        if LETTERS[place] not in letters:
            assert decoded is MalformedPacket, identifier
        elif (identifier, place) in NOT_FROM_THIS_SIDE:
            assert decoded is ProtocolError, identifier
        else:
            assert isinstance(decoded, Properties), identifier
            assert sorted(encode_properties(decoded)) == sorted(data), identifier


@pytest.mark.parametrize("rule", PROPERTY_RULES, ids=lambda rule: rule.name)
def test_once_only(rule: PropertyRule) -> None:
    data = bytes((rule.identifier,)) + bytes.fromhex(TABLE[rule.identifier][1])
    for place in PLACES:
        if not rule.places & place or (rule.identifier, place) in NOT_FROM_THIS_SIDE:
            continue
        prefix = METHOD if rule.identifier != 0x15 and place in (IN_AUTH, IN_CONNECT, IN_CONNACK) else b""
        decoded = _decode(prefix + data + data, place)
        if rule.identifier == 0x26 or (rule.identifier == 0x0B and place == IN_SERVER_PUBLISH):
            assert isinstance(decoded, Properties)
        else:
            assert decoded is ProtocolError


@pytest.mark.parametrize("rule", PROPERTY_RULES, ids=lambda rule: rule.name)
def test_cut_short(rule: PropertyRule) -> None:
    data = bytes((rule.identifier,)) + bytes.fromhex(TABLE[rule.identifier][1])
    place = next(p for p in PLACES if rule.places & p and (rule.identifier, p) not in NOT_FROM_THIS_SIDE)
    for length in range(1, len(data)):
        # What follows belongs to something else.
        with pytest.raises(MalformedPacket):
            decode_properties(data[:length] + bytes(8), 0, length, place)


@pytest.mark.parametrize(
    ("data", "place", "reason_code"),
    [
        ("0102", IN_WILL, ReasonCode.PROTOCOL_ERROR),
        ("0B00", IN_SUBSCRIBE, ReasonCode.PROTOCOL_ERROR),
        ("1702", IN_CONNECT, ReasonCode.PROTOCOL_ERROR),
        ("1902", IN_CONNECT, ReasonCode.PROTOCOL_ERROR),
        ("210000", IN_CONNECT, ReasonCode.PROTOCOL_ERROR),
        ("230000", IN_CLIENT_PUBLISH, ReasonCode.TOPIC_ALIAS_INVALID),
        ("2402", IN_CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("2502", IN_CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("2700000000", IN_CONNECT, ReasonCode.PROTOCOL_ERROR),
        ("2802", IN_CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("29FF", IN_CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("2A02", IN_CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("08 0003 612F23", IN_WILL, ReasonCode.PROTOCOL_ERROR),
        ("08 0001 2B", IN_CLIENT_PUBLISH, ReasonCode.PROTOCOL_ERROR),
        ("08 0000", IN_CLIENT_PUBLISH, ReasonCode.PROTOCOL_ERROR),
        ("16 0001 00", IN_CONNECT, ReasonCode.PROTOCOL_ERROR),
        ("16 0001 00", IN_CONNACK, ReasonCode.PROTOCOL_ERROR),
        ("1F 0001 61", IN_AUTH, ReasonCode.PROTOCOL_ERROR),
    ],
)
def test_values_without_meaning(data: str, place: int, reason_code: ReasonCode) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(ProtocolError) as caught:
        decode_properties(raw, 0, len(raw), place)
    assert caught.value.reason_code is reason_code


@pytest.mark.parametrize("place", PLACES)
@given(data=st.data())
def test_decode_of_encode_is_the_same(place: int, data: st.DataObject) -> None:
    made = data.draw(properties(place, 5))
    encoded = encode_properties(made)
    if made is None:
        assert encoded == b""
    else:
        assert decode_properties(b"\xff" + encoded + b"\xff", 1, len(encoded) + 1, place) == made


def test_property_length() -> None:
    assert read_properties(b"\0", 0, 1, IN_CONNECT) == (None, 1)
    assert read_properties(b"\xff\2\x17\0\xff", 1, 5, IN_CONNECT) == (
        Properties(request_problem_information=0),
        4,
    )
    with pytest.raises(MalformedPacket):
        read_properties(b"\2\x17\0", 0, 2, IN_CONNECT)


def test_a_packet_may_have_so_many_user_properties() -> None:
    data = b"\x26\0\0\0\0" * USER_PROPERTIES_MAXIMUM
    decoded = decode_properties(data, 0, len(data), IN_CONNECT)
    assert decoded.user_property == (("", ""),) * USER_PROPERTIES_MAXIMUM
    assert encode_properties(decoded) == data
    with pytest.raises(ProtocolError) as refused:
        decode_properties(data + data[:5], 0, len(data) + 5, IN_CONNECT)
    assert refused.value.reason_code == ReasonCode.QUOTA_EXCEEDED


def test_what_is_forwarded() -> None:
    """[MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-18], [MQTT-3.3.2-20]"""
    forwarded = Properties(
        payload_format_indicator=1,
        content_type="text",
        response_topic="r",
        correlation_data=b"\0",
        user_property=(("b", "1"), ("a", "2"), ("b", "1")),
    )
    raw = forwarded_properties(forwarded)
    assert decode_properties(raw, 0, len(raw), IN_SERVER_PUBLISH) == forwarded
    assert forwarded_properties(Properties(payload_format_indicator=0)) == b"\x01\x00"
    own = Properties(message_expiry_interval=5, topic_alias=1, subscription_identifier=(1,))
    assert forwarded_properties(own) == b""
    assert forwarded_properties(None) == b""


@pytest.mark.parametrize("indicator", [None, 1])
@pytest.mark.parametrize("content_type", [None, "", "x" * 300])
@pytest.mark.parametrize("response_topic", [None, "a/ä"])
def test_the_response_topic_is_found(
    indicator: int | None, content_type: str | None, response_topic: str | None
) -> None:
    properties = Properties(
        payload_format_indicator=indicator,
        content_type=content_type,
        response_topic=response_topic,
        correlation_data=b"\x08\x00\x01a",
    )
    raw = forwarded_properties(properties)
    before, topic, after = split_response_topic(raw)
    assert topic.decode() == (response_topic or "")
    assert before + (response_topic_property(topic) if topic else b"") + after == raw
    assert split_response_topic(b"") == (b"", b"", b"")


@pytest.mark.parametrize(
    "wrong",
    [
        Properties(receive_maximum=65_536),
        Properties(maximum_qos=-1),
        Properties(content_type="\0"),
        Properties(correlation_data=bytes(65_536)),
        Properties(subscription_identifier=(1 << 28,)),
    ],
)
def test_values_that_can_not_be_encoded(wrong: Properties) -> None:
    with pytest.raises((ValueError, OverflowError)):
        encode_properties(wrong)


def test_equality() -> None:
    assert Properties(topic_alias=1) == Properties(topic_alias=1)
    assert Properties(topic_alias=1) != Properties(topic_alias=2)
    assert Properties() != 1


def test_repr_shows_what_is_set_and_no_secrets() -> None:
    shown = Properties(topic_alias=1, user_property=(("a", "b"),), authentication_data=b"secret")
    assert repr(shown) == "Properties(authentication_data=***, topic_alias=1, user_property=(('a', 'b'),))"
    assert repr(Properties()) == "Properties()"
