"""The properties of MQTT 5 [2.2.2]: one table says all about each of them.

A property which isn't allowed in a packet, or unknown, makes the packet malformed [2.2.2.2]; one which comes
twice, or whose value has no meaning, is a Protocol Error.
"""

from typing import Final

from broker.mqtt.errors import MalformedPacket, ProtocolError
from broker.mqtt.reason_code import ReasonCode
from broker.mqtt.wire import (
    binary,
    read_binary,
    read_string,
    read_uint16,
    read_uint32,
    read_varint,
    string,
    varint,
)

# Where a property stands. PUBLISH and DISCONNECT differ by who sends them.
IN_CONNECT: Final = 1 << 0
IN_WILL: Final = 1 << 1
IN_CONNACK: Final = 1 << 2
IN_CLIENT_PUBLISH: Final = 1 << 3
IN_SERVER_PUBLISH: Final = 1 << 4
IN_ACKNOWLEDGEMENT: Final = 1 << 5
"""PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK have the same two."""
IN_SUBSCRIBE: Final = 1 << 6
IN_UNSUBSCRIBE: Final = 1 << 7
IN_CLIENT_DISCONNECT: Final = 1 << 8
IN_SERVER_DISCONNECT: Final = 1 << 9
IN_AUTH: Final = 1 << 10

_PUBLISH: Final = IN_CLIENT_PUBLISH | IN_SERVER_PUBLISH
_DISCONNECT: Final = IN_CLIENT_DISCONNECT | IN_SERVER_DISCONNECT
_ANYWHERE: Final = (1 << 11) - 1

_BYTE: Final = 0
_TWO_BYTES: Final = 1
_FOUR_BYTES: Final = 2
_VARINT: Final = 3
_BINARY: Final = 4
_STRING: Final = 5
_STRING_PAIR: Final = 6

USER_PROPERTIES_MAXIMUM: Final = 1000
"""Of one packet. An empty one is 5 bytes on the wire and 30 times as much here."""

_MAXIMUM: Final = (0xFF, 0xFFFF, 0xFFFF_FFFF, 268_435_455)


class Properties:
    """The properties of one packet, by name; None (or an empty tuple) when absent. Compared by value.

    `user_property` keeps order and duplicates [MQTT-3.3.2-18]. Intervals are in seconds.
    """

    __slots__ = (
        "assigned_client_identifier",
        "authentication_data",
        "authentication_method",
        "content_type",
        "correlation_data",
        "maximum_packet_size",
        "maximum_qos",
        "message_expiry_interval",
        "payload_format_indicator",
        "reason_string",
        "receive_maximum",
        "request_problem_information",
        "request_response_information",
        "response_information",
        "response_topic",
        "retain_available",
        "server_keep_alive",
        "server_reference",
        "session_expiry_interval",
        "shared_subscription_available",
        "subscription_identifier",
        "subscription_identifier_available",
        "topic_alias",
        "topic_alias_maximum",
        "user_property",
        "wildcard_subscription_available",
        "will_delay_interval",
    )

    def __init__(
        self,
        *,
        payload_format_indicator: int | None = None,
        message_expiry_interval: int | None = None,
        content_type: str | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        subscription_identifier: tuple[int, ...] = (),
        session_expiry_interval: int | None = None,
        assigned_client_identifier: str | None = None,
        server_keep_alive: int | None = None,
        authentication_method: str | None = None,
        authentication_data: bytes | None = None,
        request_problem_information: int | None = None,
        will_delay_interval: int | None = None,
        request_response_information: int | None = None,
        response_information: str | None = None,
        server_reference: str | None = None,
        reason_string: str | None = None,
        receive_maximum: int | None = None,
        topic_alias_maximum: int | None = None,
        topic_alias: int | None = None,
        maximum_qos: int | None = None,
        retain_available: int | None = None,
        user_property: tuple[tuple[str, str], ...] = (),
        maximum_packet_size: int | None = None,
        wildcard_subscription_available: int | None = None,
        subscription_identifier_available: int | None = None,
        shared_subscription_available: int | None = None,
    ) -> None:
        self.payload_format_indicator = payload_format_indicator
        self.message_expiry_interval = message_expiry_interval
        self.content_type = content_type
        self.response_topic = response_topic
        self.correlation_data = correlation_data
        self.subscription_identifier = subscription_identifier
        self.session_expiry_interval = session_expiry_interval
        self.assigned_client_identifier = assigned_client_identifier
        self.server_keep_alive = server_keep_alive
        self.authentication_method = authentication_method
        self.authentication_data = authentication_data
        self.request_problem_information = request_problem_information
        self.will_delay_interval = will_delay_interval
        self.request_response_information = request_response_information
        self.response_information = response_information
        self.server_reference = server_reference
        self.reason_string = reason_string
        self.receive_maximum = receive_maximum
        self.topic_alias_maximum = topic_alias_maximum
        self.topic_alias = topic_alias
        self.maximum_qos = maximum_qos
        self.retain_available = retain_available
        self.user_property = user_property
        self.maximum_packet_size = maximum_packet_size
        self.wildcard_subscription_available = wildcard_subscription_available
        self.subscription_identifier_available = subscription_identifier_available
        self.shared_subscription_available = shared_subscription_available

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Properties):
            return NotImplemented
        return all(getattr(self, rule.name) == getattr(other, rule.name) for rule in PROPERTY_RULES)

    def __repr__(self) -> str:
        """What is set, without authentication data."""
        shown = []
        for rule in PROPERTY_RULES:
            value = getattr(self, rule.name)
            if rule.name == "authentication_data" and value is not None:
                shown.append("authentication_data=***")
            elif value is not None and value != ():
                shown.append(f"{rule.name}={value!r}")
        return f"Properties({', '.join(shown)})"


class PropertyRule:
    """One property: its identifier, its data type, the packets it may be in, the values it may have.

    `repeats` is the packets in which it may occur more than once. A value outside of `minimum`..`maximum` is
    a Protocol Error with `reason_code`.
    """

    __slots__ = ("identifier", "kind", "maximum", "minimum", "name", "places", "reason_code", "repeats")

    def __init__(
        self,
        identifier: int,
        name: str,
        kind: int,
        places: int,
        *,
        repeats: int = 0,
        minimum: int = 0,
        maximum: int = -1,
        reason_code: ReasonCode = ReasonCode.PROTOCOL_ERROR,
    ) -> None:
        self.identifier = identifier
        self.name = name
        self.kind = kind
        self.places = places
        self.repeats = repeats
        self.minimum = minimum
        self.maximum = maximum if maximum >= 0 or kind > _VARINT else _MAXIMUM[kind]
        self.reason_code = reason_code


PROPERTY_RULES: Final[list[PropertyRule]] = [
    PropertyRule(0x01, "payload_format_indicator", _BYTE, _PUBLISH | IN_WILL, maximum=1),
    PropertyRule(0x02, "message_expiry_interval", _FOUR_BYTES, _PUBLISH | IN_WILL),
    PropertyRule(0x03, "content_type", _STRING, _PUBLISH | IN_WILL),
    PropertyRule(0x08, "response_topic", _STRING, _PUBLISH | IN_WILL),
    PropertyRule(0x09, "correlation_data", _BINARY, _PUBLISH | IN_WILL),
    PropertyRule(
        0x0B,
        "subscription_identifier",
        _VARINT,
        _PUBLISH | IN_SUBSCRIBE,
        repeats=IN_SERVER_PUBLISH,
        minimum=1,
    ),
    PropertyRule(0x11, "session_expiry_interval", _FOUR_BYTES, IN_CONNECT | IN_CONNACK | _DISCONNECT),
    PropertyRule(0x12, "assigned_client_identifier", _STRING, IN_CONNACK),
    PropertyRule(0x13, "server_keep_alive", _TWO_BYTES, IN_CONNACK),
    PropertyRule(0x15, "authentication_method", _STRING, IN_CONNECT | IN_CONNACK | IN_AUTH),
    PropertyRule(0x16, "authentication_data", _BINARY, IN_CONNECT | IN_CONNACK | IN_AUTH),
    PropertyRule(0x17, "request_problem_information", _BYTE, IN_CONNECT, maximum=1),
    PropertyRule(0x18, "will_delay_interval", _FOUR_BYTES, IN_WILL),
    PropertyRule(0x19, "request_response_information", _BYTE, IN_CONNECT, maximum=1),
    PropertyRule(0x1A, "response_information", _STRING, IN_CONNACK),
    PropertyRule(0x1C, "server_reference", _STRING, IN_CONNACK | _DISCONNECT),
    PropertyRule(0x1F, "reason_string", _STRING, IN_CONNACK | IN_ACKNOWLEDGEMENT | _DISCONNECT | IN_AUTH),
    PropertyRule(0x21, "receive_maximum", _TWO_BYTES, IN_CONNECT | IN_CONNACK, minimum=1),
    PropertyRule(0x22, "topic_alias_maximum", _TWO_BYTES, IN_CONNECT | IN_CONNACK),
    PropertyRule(
        0x23, "topic_alias", _TWO_BYTES, _PUBLISH, minimum=1, reason_code=ReasonCode.TOPIC_ALIAS_INVALID
    ),  # [MQTT-3.3.2-8]
    PropertyRule(0x24, "maximum_qos", _BYTE, IN_CONNACK, maximum=1),
    PropertyRule(0x25, "retain_available", _BYTE, IN_CONNACK, maximum=1),
    PropertyRule(0x26, "user_property", _STRING_PAIR, _ANYWHERE, repeats=_ANYWHERE),
    PropertyRule(0x27, "maximum_packet_size", _FOUR_BYTES, IN_CONNECT | IN_CONNACK, minimum=1),
    PropertyRule(0x28, "wildcard_subscription_available", _BYTE, IN_CONNACK, maximum=1),
    PropertyRule(0x29, "subscription_identifier_available", _BYTE, IN_CONNACK, maximum=1),
    PropertyRule(0x2A, "shared_subscription_available", _BYTE, IN_CONNACK, maximum=1),
]

_RULES: Final[dict[int, PropertyRule]] = {rule.identifier: rule for rule in PROPERTY_RULES}

# Of their packet type, but not for this sender: a Protocol Error rather than a malformed packet.
_ONLY_FROM_SERVER: Final = {
    "subscription_identifier": IN_CLIENT_PUBLISH,  # [MQTT-3.3.4-6]
    "server_reference": IN_CLIENT_DISCONNECT,  # [3.14.2.2.5]
}
_ONLY_FROM_CLIENT: Final = {"session_expiry_interval": IN_SERVER_DISCONNECT}  # [MQTT-3.14.2-2]


def _read_number(rule: PropertyRule, data: bytes, position: int, end: int) -> tuple[int, int]:
    if rule.kind == _BYTE:
        if position >= end:
            raise MalformedPacket("the packet ends inside a property")
        value = data[position]
        after = position + 1
    elif rule.kind == _TWO_BYTES:
        value = read_uint16(data, position, end)
        after = position + 2
    elif rule.kind == _FOUR_BYTES:
        value = read_uint32(data, position, end)
        after = position + 4
    else:
        value, after = read_varint(data, position, end)
    if not rule.minimum <= value <= rule.maximum:
        raise ProtocolError(f"{rule.name} can't be {value}", rule.reason_code)
    return value, after


def _rule(data: bytes, position: int, place: int) -> PropertyRule:
    """The rule for the property at this position, if it may be in such a packet."""
    # An identifier is a Variable Byte Integer, but all of them are below 128.
    rule = _RULES.get(data[position])
    if rule is None or not rule.places & place:
        raise MalformedPacket(f"property 0x{data[position]:02X} isn't allowed in this packet")  # [2.2.2.2]
    if _ONLY_FROM_SERVER.get(rule.name, 0) & place:
        raise ProtocolError(f"{rule.name} from a client")
    if _ONLY_FROM_CLIENT.get(rule.name, 0) & place:
        raise ProtocolError(f"{rule.name} from the server")
    return rule


def _decode_one(
    rule: PropertyRule,
    properties: Properties,
    data: bytes,
    position: int,
    end: int,
    pairs: list[tuple[str, str]],
) -> int:
    """Sets one property, or appends to `pairs`, and returns the position after it."""
    if rule.kind == _STRING_PAIR:
        name, position = read_string(data, position, end)
        value, position = read_string(data, position, end)
        pairs.append((name, value))
    elif rule.kind == _STRING:
        string_value, position = read_string(data, position, end)
        setattr(properties, rule.name, string_value)
    elif rule.kind == _BINARY:
        binary_value, position = read_binary(data, position, end)
        setattr(properties, rule.name, binary_value)
    else:
        number, position = _read_number(rule, data, position, end)
        setattr(properties, rule.name, number)
    return position


def _check(properties: Properties, place: int) -> None:
    """What concerns more than one property, or one property's text."""
    topic = properties.response_topic
    if topic is not None and (not topic or "+" in topic or "#" in topic):  # [MQTT-3.3.2-14], [MQTT-4.7.3-1]
        raise ProtocolError("Response Topic isn't a Topic Name")
    if properties.authentication_method is None:
        if properties.authentication_data is not None:  # [3.1.2.11.10]
            raise ProtocolError("Authentication Data without Authentication Method")
        if place == IN_AUTH:  # [3.15.2.2.2]
            raise ProtocolError("AUTH without Authentication Method")


def decode_properties(data: bytes, start: int, end: int, place: int) -> Properties:
    """The properties in data[start:end], which is without the Property Length. `place` is one of the IN_
    constants.

    Raises MalformedPacket or ProtocolError.
    """
    properties = Properties()
    # Collected in lists: tuples grown one by one would make a packet full of them quadratic.
    identifiers: list[int] = []
    pairs: list[tuple[str, str]] = []
    seen = 0
    position = start
    while position < end:
        rule = _rule(data, position, place)
        bit = 1 << rule.identifier
        if seen & bit and not rule.repeats & place:
            raise ProtocolError(f"{rule.name} occurs more than once")
        seen |= bit
        if rule.kind == _VARINT:
            identifier, position = _read_number(rule, data, position + 1, end)
            identifiers.append(identifier)
        else:
            position = _decode_one(rule, properties, data, position + 1, end, pairs)
            if len(pairs) > USER_PROPERTIES_MAXIMUM:
                raise ProtocolError(
                    f"more than {USER_PROPERTIES_MAXIMUM} User Properties", ReasonCode.QUOTA_EXCEEDED
                )
    properties.subscription_identifier = tuple(identifiers)
    properties.user_property = tuple(pairs)
    _check(properties, place)
    return properties


def read_properties(data: bytes, position: int, end: int, place: int) -> tuple[Properties | None, int]:
    """Property Length and properties, and the position after them; None if there are none."""
    length, start = read_varint(data, position, end)
    if start + length > end:
        raise MalformedPacket("the properties are longer than the packet")
    if length == 0:
        return None, start
    return decode_properties(data, start, start + length, place), start + length


def _encode_value(rule: PropertyRule, value: object, encoded: list[bytes]) -> None:
    """Appends identifier and value, once for each value of a property that repeats."""
    identifier = bytes((rule.identifier,))
    if isinstance(value, str):
        encoded.append(identifier + string(value))
    elif isinstance(value, bytes):
        encoded.append(identifier + binary(value))
    elif isinstance(value, int):
        encoded.append(identifier + value.to_bytes(1 << rule.kind, "big"))
    else:
        assert isinstance(value, tuple)
        for item in value:
            if rule.kind == _VARINT:
                encoded.append(identifier + varint(item))
            else:
                encoded.append(identifier + string(item[0]) + string(item[1]))


def encode_properties(properties: Properties | None) -> bytes:
    """The wire form without the Property Length. ValueError or OverflowError for a value that can't be
    encoded.

    Whether a property is allowed in the packet is not checked here.
    """
    if properties is None:
        return b""
    encoded: list[bytes] = []
    for rule in PROPERTY_RULES:
        value = getattr(properties, rule.name)
        if value is not None:
            _encode_value(rule, value, encoded)
    return b"".join(encoded)


def forwarded_properties(properties: Properties | None) -> bytes:
    """What a server forwards unaltered of a PUBLISH, in wire form without the Property Length.

    Payload Format Indicator [MQTT-3.3.2-4], Content Type [MQTT-3.3.2-20], Response Topic [MQTT-3.3.2-15],
    Correlation Data [MQTT-3.3.2-16] and User Properties in order [MQTT-3.3.2-17], [MQTT-3.3.2-18]; not
    Message Expiry Interval, Topic Alias and Subscription Identifiers, which each receiver gets anew.
    """
    if properties is None:
        return b""
    encoded: list[bytes] = []
    if properties.payload_format_indicator is not None:
        encoded.append(b"\x01\x01" if properties.payload_format_indicator else b"\x01\x00")
    if properties.content_type is not None:
        encoded.append(b"\x03" + string(properties.content_type))
    if properties.response_topic is not None:
        encoded.append(b"\x08" + string(properties.response_topic))
    if properties.correlation_data is not None:
        encoded.append(b"\x09" + binary(properties.correlation_data))
    for name, value in properties.user_property:
        encoded.append(b"\x26" + string(name) + string(value))
    return b"".join(encoded)


def split_response_topic(properties: bytes) -> tuple[bytes, bytes, bytes]:
    """What `forwarded_properties` has made, parted: what comes before the Response Topic, the Response Topic
    itself (empty: there is none), and what follows."""
    start = 2 if properties[:1] == b"\x01" else 0
    if properties[start : start + 1] == b"\x03":
        start += 3 + int.from_bytes(properties[start + 1 : start + 3], "big")
    if properties[start : start + 1] != b"\x08":
        return properties, b"", b""
    topic = start + 3
    end = topic + int.from_bytes(properties[start + 1 : topic], "big")
    return properties[:start], properties[topic:end], properties[end:]


def response_topic_property(topic: bytes) -> bytes:
    """In wire form."""
    return b"\x08" + binary(topic)
