"""Reads a CONNECT [3.1]: the one packet that says what all later bytes mean, and the one with the most
rules."""

from typing import Final

from broker.mqtt.errors import MalformedPacket, ProtocolError
from broker.mqtt.packet import MQTT_3_1, MQTT_3_1_1, MQTT_5, Connect, Will
from broker.mqtt.property import IN_CONNECT, IN_WILL, Properties, read_properties
from broker.mqtt.reason_code import ReasonCode
from broker.mqtt.topic import is_valid_topic_name
from broker.mqtt.wire import read_binary, read_string, read_uint16

_RESERVED: Final = 0x01
_CLEAN_START: Final = 0x02
_WILL: Final = 0x04
_WILL_RETAIN: Final = 0x20
_WILL_QOS_AND_RETAIN: Final = 0x38
_PASSWORD: Final = 0x40
_USER_NAME: Final = 0x80


def read_protocol(data: bytes, position: int, end: int) -> tuple[bytes, int, int]:
    """Protocol Name, Protocol Version, and the position after them."""
    name, position = read_binary(data, position, end)
    if position >= end:
        raise MalformedPacket("CONNECT ends before the Protocol Version")
    return name, data[position], position + 1


def is_supported(name: bytes, version: int) -> bool:
    """Whether this is MQTT 3.1, 3.1.1 or 5.0 [MQTT-3.1.2-1]."""
    if name == b"MQTT":
        return version in (MQTT_3_1_1, MQTT_5)
    return name == b"MQIsdp" and version == MQTT_3_1


def read_connect(data: bytes, position: int, end: int, version: int) -> Connect:
    """What follows the Protocol Version."""
    if position >= end:
        raise MalformedPacket("CONNECT ends before the Connect Flags")
    flags = data[position]
    _check_flags(flags, version)
    keep_alive = read_uint16(data, position + 1, end)
    position += 3
    properties: Properties | None = None
    if version == MQTT_5:
        properties, position = read_properties(data, position, end, IN_CONNECT)
    # The order of the payload is fixed [MQTT-3.1.3-1].
    client_id, position = read_string(data, position, end)
    clean_start = flags & _CLEAN_START != 0
    _check_client_id(client_id, clean_start, version)
    will: Will | None = None
    if flags & _WILL:
        will, position = _read_will(flags, data, position, end, version)
    username: str | None = None
    # The Remaining Length takes precedence over the User Name and Password flags [3.1: 3.1, User name and
    # password].
    if flags & _USER_NAME and not (version == MQTT_3_1 and position == end):
        username, position = read_string(data, position, end)
    password: bytes | None = None
    if flags & _PASSWORD and not (version == MQTT_3_1 and position == end):
        password, position = read_binary(data, position, end)
    if position != end:
        raise MalformedPacket("CONNECT has bytes after its last field")
    return Connect(client_id, version, clean_start, keep_alive, username, password, will, properties)


def _check_flags(flags: int, version: int) -> None:
    if flags & _WILL and flags & 0x18 == 0x18:  # [MQTT-3.1.2-12]
        raise MalformedPacket("Will QoS 3")
    if version == MQTT_3_1:  # says of the others only that they are unused
        return
    if flags & _RESERVED:  # [MQTT-3.1.2-3]
        raise MalformedPacket("the reserved Connect Flag is set")
    if not flags & _WILL and flags & _WILL_QOS_AND_RETAIN:  # [MQTT-3.1.2-11], [MQTT-3.1.2-13]
        raise MalformedPacket("Will QoS or Will Retain without a Will")
    if version == MQTT_3_1_1 and flags & _PASSWORD and not flags & _USER_NAME:  # 3.1.1: [MQTT-3.1.2-22]
        raise MalformedPacket("a Password without a User Name")


def _check_client_id(client_id: str, clean_start: bool, version: int) -> None:
    if client_id or version == MQTT_5:  # the server assigns one [MQTT-3.1.3-6]
        return
    if version == MQTT_3_1 or not clean_start:  # 3.1.1: [MQTT-3.1.3-8]
        raise ProtocolError("no Client Identifier", ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)


def _read_will(flags: int, data: bytes, position: int, end: int, version: int) -> tuple[Will, int]:
    properties: Properties | None = None
    if version == MQTT_5:
        properties, position = read_properties(data, position, end, IN_WILL)
    topic, position = read_string(data, position, end)
    if not is_valid_topic_name(topic):  # [MQTT-4.7.0-1], [MQTT-4.7.3-1]
        raise MalformedPacket("the Will Topic isn't a Topic Name")
    payload, position = read_binary(data, position, end)
    return Will(topic, payload, flags >> 3 & 3, flags & _WILL_RETAIN != 0, properties), position
