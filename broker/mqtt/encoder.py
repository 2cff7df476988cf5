"""Packets to bytes, for both directions: the server, and the clients of the load test and of the tests.

`encode` takes any packet. What a protocol version doesn't know is left out: properties and reason codes
before MQTT 5. ValueError or OverflowError for a packet that can't be expressed is the caller's mistake. For
the traffic that counts there are `publish_parts`, made once for all receivers of a message, and `encode_ack`.
"""

from collections.abc import Callable
from typing import Final

from broker.mqtt.packet import (
    MQTT_3_1,
    MQTT_5,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from broker.mqtt.property import Properties, encode_properties
from broker.mqtt.reason_code import NO_V3_CONNACK, v3_connack_code
from broker.mqtt.wire import PACKET_ID_BYTES, binary, string, varint

_ACK_FIRST_BYTE: Final[list[int]] = [0, 0, 0, 0, 0x40, 0x50, 0x62, 0x70]
_PLAIN_ACK: Final[list[bytes]] = [bytes((first, 2)) for first in _ACK_FIRST_BYTE]
_ACK_WITH_REASON: Final[list[bytes]] = [bytes((first, 3)) for first in _ACK_FIRST_BYTE]
_BYTE: Final[list[bytes]] = [bytes((number,)) for number in range(256)]

# Topic Names in wire form with their length, for publishing to the same ones again; bounded like the
# decoder's.
_TOPICS: Final[dict[str, bytes]] = {}
_TOPICS_LIMIT: Final = 65_536
_CACHED_TOPIC_LENGTH: Final = 128


def _topic_bytes(topic: str) -> bytes:
    encoded = string(topic)
    if len(topic) <= _CACHED_TOPIC_LENGTH:
        if len(_TOPICS) >= _TOPICS_LIMIT:
            _TOPICS.clear()
        _TOPICS[topic] = encoded
    return encoded


def publish_parts(
    version: int, topic: str, payload: bytes, qos: int, retain: bool, dup: bool, properties: bytes
) -> tuple[bytes, bytes]:
    """A PUBLISH without its Packet Identifier: what goes before it, and what after.

    At QoS 0 the packet is head + tail, else head + PACKET_ID_BYTES[packet_id] + tail. `properties` is in wire
    form without the Property Length, and is left out before MQTT 5. ValueError if the packet would be too
    large.
    """
    topic_bytes = _TOPICS.get(topic)
    if topic_bytes is None:
        topic_bytes = _topic_bytes(topic)
    if version == MQTT_5:
        if properties:
            tail = varint(len(properties)) + properties + payload
        else:
            tail = b"\0" + payload
    else:
        tail = payload
    size = len(topic_bytes) + len(tail)
    first = 0x30
    if qos:
        size += 2
        first |= qos << 1
    if retain:
        first |= 1
    if dup:
        first |= 8
    return _BYTE[first] + varint(size) + topic_bytes, tail


def encode_ack(packet_type: int, packet_id: int, reason_code: int, version: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP without properties, as short as it gets."""
    if reason_code == 0 or version != MQTT_5:
        return _PLAIN_ACK[packet_type] + PACKET_ID_BYTES[packet_id]
    return _ACK_WITH_REASON[packet_type] + PACKET_ID_BYTES[packet_id] + _BYTE[reason_code]


def encode_refusal(
    packet_type: int, packet_id: int, reason_code: int, reason_string: str, maximum_packet_size: int
) -> bytes:
    """PUBACK or PUBREC of MQTT 5 with a Reason String; without it if the packet would be larger than what
    the client accepts (0: anything) [MQTT-3.4.2-2], [MQTT-3.5.2-2]."""
    properties = _properties(Properties(reason_string=reason_string), MQTT_5)
    body = PACKET_ID_BYTES[packet_id] + _BYTE[reason_code] + properties
    encoded = _packet(_ACK_FIRST_BYTE[packet_type], body)
    if maximum_packet_size and len(encoded) > maximum_packet_size:
        return encode_ack(packet_type, packet_id, reason_code, MQTT_5)
    return encoded


def _packet(first: int, body: bytes) -> bytes:
    return _BYTE[first] + varint(len(body)) + body


def _properties(properties: Properties | None, version: int) -> bytes:
    """Property Length and properties, or nothing before MQTT 5."""
    if version != MQTT_5:
        return b""
    encoded = encode_properties(properties)
    return varint(len(encoded)) + encoded


def _optional_end(reason_code: int, properties: Properties | None, version: int) -> bytes:
    """Reason Code and properties, as far as they say anything [3.4.2.1, 3.14.2.1]."""
    if version != MQTT_5:
        return b""
    if properties is not None:
        return _BYTE[reason_code] + _properties(properties, version)
    return _BYTE[reason_code] if reason_code else b""


def _will_flags(will: Will | None) -> int:
    if will is None:
        return 0
    return 0x04 | will.qos << 3 | (0x20 if will.retain else 0)


def _encode_connect(packet: Packet, version: int) -> bytes:
    """In the version that the packet names: `version` can't say anything else."""
    assert isinstance(packet, Connect)
    version = packet.version
    flags = (0x02 if packet.clean_start else 0) | _will_flags(packet.will)
    if packet.username is not None:
        flags |= 0x80
    if packet.password is not None:
        flags |= 0x40
    name = b"\x00\x06MQIsdp" if version == MQTT_3_1 else b"\x00\x04MQTT"
    body = name + _BYTE[version] + _BYTE[flags] + PACKET_ID_BYTES[packet.keep_alive]
    body += _properties(packet.properties, version) + string(packet.client_id)
    if packet.will is not None:
        body += _properties(packet.will.properties, version)
        body += string(packet.will.topic) + binary(packet.will.payload)
    if packet.username is not None:
        body += string(packet.username)
    if packet.password is not None:
        body += binary(packet.password)
    return _packet(0x10, body)


def _encode_connack(packet: Packet, version: int) -> bytes:
    assert isinstance(packet, Connack)
    reason_code = packet.reason_code
    if version != MQTT_5:
        reason_code = v3_connack_code(reason_code)
        if reason_code == NO_V3_CONNACK:
            return b""
    # [MQTT-3.2.2-6]; MQTT 3.1 has no Session Present flag.
    is_present = packet.session_present and reason_code == 0 and version != MQTT_3_1
    flags = b"\x01" if is_present else b"\x00"
    return _packet(0x20, flags + _BYTE[reason_code] + _properties(packet.properties, version))


def _encode_publish(packet: Packet, version: int) -> bytes:
    assert isinstance(packet, Publish)
    properties = encode_properties(packet.properties) if version == MQTT_5 else b""
    head, tail = publish_parts(
        version, packet.topic, packet.payload, packet.qos, packet.retain, packet.dup, properties
    )
    if packet.qos:
        return head + PACKET_ID_BYTES[packet.packet_id] + tail
    return head + tail


def _encode_acknowledgement(packet: Packet, version: int) -> bytes:
    assert isinstance(packet, Acknowledgement)
    end = _optional_end(packet.reason_code, packet.properties, version)
    return _packet(_ACK_FIRST_BYTE[packet.packet_type], PACKET_ID_BYTES[packet.packet_id] + end)


def _encode_subscribe(packet: Packet, version: int) -> bytes:
    assert isinstance(packet, Subscribe)
    parts = [PACKET_ID_BYTES[packet.packet_id], _properties(packet.properties, version)]
    for request in packet.subscriptions:
        options = request.qos
        if version == MQTT_5:
            options |= request.retain_handling << 4
            options |= (0x04 if request.no_local else 0) | (0x08 if request.retain_as_published else 0)
        parts.append(string(request.filter) + _BYTE[options])
    return _packet(0x82, b"".join(parts))


def _encode_suback(packet: Packet, version: int) -> bytes:
    assert isinstance(packet, Suback)
    reason_codes = packet.reason_codes
    if version != MQTT_5:  # one word for every failure
        reason_codes = [min(code, 0x80) for code in reason_codes]
    properties = _properties(packet.properties, version)
    return _packet(0x90, PACKET_ID_BYTES[packet.packet_id] + properties + bytes(reason_codes))


def _encode_unsubscribe(packet: Packet, version: int) -> bytes:
    assert isinstance(packet, Unsubscribe)
    parts = [PACKET_ID_BYTES[packet.packet_id], _properties(packet.properties, version)]
    parts.extend([string(filter) for filter in packet.filters])
    return _packet(0xA2, b"".join(parts))


def _encode_unsuback(packet: Packet, version: int) -> bytes:
    assert isinstance(packet, Unsuback)
    body = PACKET_ID_BYTES[packet.packet_id]
    if version == MQTT_5:
        body += _properties(packet.properties, version) + bytes(packet.reason_codes)
    return _packet(0xB0, body)


def _encode_pingreq(packet: Packet, version: int) -> bytes:
    return b"\xc0\x00"


def _encode_pingresp(packet: Packet, version: int) -> bytes:
    return b"\xd0\x00"


def _encode_disconnect(packet: Packet, version: int) -> bytes:
    assert isinstance(packet, Disconnect)
    return _packet(0xE0, _optional_end(packet.reason_code, packet.properties, version))


def _encode_auth(packet: Packet, version: int) -> bytes:
    assert isinstance(packet, Auth)
    if version != MQTT_5:
        raise ValueError("there is no AUTH before MQTT 5")
    return _packet(0xF0, _optional_end(packet.reason_code, packet.properties, version))


_ENCODERS: Final[dict[int, Callable[[Packet, int], bytes]]] = {
    Connect.packet_type: _encode_connect,
    Connack.packet_type: _encode_connack,
    Publish.packet_type: _encode_publish,
    Puback.packet_type: _encode_acknowledgement,
    Pubrec.packet_type: _encode_acknowledgement,
    Pubrel.packet_type: _encode_acknowledgement,
    Pubcomp.packet_type: _encode_acknowledgement,
    Subscribe.packet_type: _encode_subscribe,
    Suback.packet_type: _encode_suback,
    Unsubscribe.packet_type: _encode_unsubscribe,
    Unsuback.packet_type: _encode_unsuback,
    Pingreq.packet_type: _encode_pingreq,
    Pingresp.packet_type: _encode_pingresp,
    Disconnect.packet_type: _encode_disconnect,
    Auth.packet_type: _encode_auth,
}


def encode(packet: Packet, version: int) -> bytes:
    """The packet's bytes; none for a CONNACK that 3.x has no return code for: then close without one."""
    return _ENCODERS[packet.packet_type](packet, version)
