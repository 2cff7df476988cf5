"""Reads what follows the fixed header of every packet but CONNECT and PUBLISH.

A reader gets the whole buffer, where its packet starts and ends in it, and the protocol version; the fixed
header has been checked. It raises MalformedPacket or ProtocolError.
"""

from collections.abc import Callable
from typing import Final

from broker.mqtt.errors import MalformedPacket, ProtocolError
from broker.mqtt.packet import (
    MQTT_3_1,
    MQTT_5,
    Auth,
    Connack,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from broker.mqtt.property import (
    IN_ACKNOWLEDGEMENT,
    IN_AUTH,
    IN_CLIENT_DISCONNECT,
    IN_CONNACK,
    IN_SERVER_DISCONNECT,
    IN_SUBSCRIBE,
    IN_UNSUBSCRIBE,
    Properties,
    read_properties,
)
from broker.mqtt.reason_code import (
    CLIENT_AUTH_REASON_CODES,
    CLIENT_DISCONNECT_REASON_CODES,
    CONNACK_REASON_CODES,
    PUBACK_REASON_CODES,
    PUBCOMP_REASON_CODES,
    PUBREC_REASON_CODES,
    PUBREL_REASON_CODES,
    SERVER_AUTH_REASON_CODES,
    SERVER_DISCONNECT_REASON_CODES,
    SUBACK_REASON_CODES,
    UNSUBACK_REASON_CODES,
    V3_CONNACK_REASON_CODES,
    V3_SUBACK_REASON_CODES,
)
from broker.mqtt.topic import (
    SHARE_PREFIX,
    SHOWN_LENGTH,
    InvalidTopicFilter,
    has_valid_wildcards,
    parse_filter,
)
from broker.mqtt.wire import read_string, read_uint16

Reader = Callable[[bytes, int, int, int], Packet]

_NO_LOCAL: Final = 0x04
_RETAIN_AS_PUBLISHED: Final = 0x08


def _check_end(position: int, end: int) -> None:
    if position != end:
        raise MalformedPacket("bytes after the packet's last field")


def _check_reason_code(reason_code: int, allowed: frozenset[int]) -> None:
    if reason_code not in allowed:
        raise ProtocolError(f"reason code 0x{reason_code:02X} isn't allowed in this packet")


def _read_packet_id(data: bytes, start: int, end: int) -> int:
    packet_id = read_uint16(data, start, end)
    if packet_id == 0:  # [MQTT-2.2.1-3], [MQTT-2.2.1-4]
        raise ProtocolError("Packet Identifier 0")
    return packet_id


def _read_optional_end(
    data: bytes, start: int, end: int, allowed: frozenset[int], place: int
) -> tuple[int, Properties | None]:
    """Reason Code and properties, either of which may be left out [3.4.2.1, 3.14.2.1, 3.15.2.1]."""
    if start == end:
        return 0, None
    reason_code = data[start]
    _check_reason_code(reason_code, allowed)
    if start + 1 == end:
        return reason_code, None
    properties, position = read_properties(data, start + 1, end, place)
    _check_end(position, end)
    return reason_code, properties


def _read_acknowledgement(
    data: bytes, start: int, end: int, version: int, allowed: frozenset[int]
) -> tuple[int, int, Properties | None]:
    packet_id = _read_packet_id(data, start, end)
    if version != MQTT_5:
        _check_end(start + 2, end)
        return packet_id, 0, None
    reason_code, properties = _read_optional_end(data, start + 2, end, allowed, IN_ACKNOWLEDGEMENT)
    return packet_id, reason_code, properties


def read_puback(data: bytes, start: int, end: int, version: int) -> Packet:
    """PUBACK [3.4]."""
    packet_id, reason_code, properties = _read_acknowledgement(data, start, end, version, PUBACK_REASON_CODES)
    return Puback(packet_id, reason_code, properties)


def read_pubrec(data: bytes, start: int, end: int, version: int) -> Packet:
    """PUBREC [3.5]."""
    packet_id, reason_code, properties = _read_acknowledgement(data, start, end, version, PUBREC_REASON_CODES)
    return Pubrec(packet_id, reason_code, properties)


def read_pubrel(data: bytes, start: int, end: int, version: int) -> Packet:
    """PUBREL [3.6]."""
    packet_id, reason_code, properties = _read_acknowledgement(data, start, end, version, PUBREL_REASON_CODES)
    return Pubrel(packet_id, reason_code, properties)


def read_pubcomp(data: bytes, start: int, end: int, version: int) -> Packet:
    """PUBCOMP [3.7]."""
    packet_id, reason_code, properties = _read_acknowledgement(
        data, start, end, version, PUBCOMP_REASON_CODES
    )
    return Pubcomp(packet_id, reason_code, properties)


def read_connack(data: bytes, start: int, end: int, version: int) -> Packet:
    """CONNACK [3.2]; before MQTT 5 with its own return codes."""
    if start + 2 > end:
        raise MalformedPacket("CONNACK is too short")
    flags = data[start]
    reason_code = data[start + 1]
    properties: Properties | None = None
    if version == MQTT_5:
        _check_reason_code(reason_code, CONNACK_REASON_CODES)
        properties, position = read_properties(data, start + 2, end, IN_CONNACK)
        _check_end(position, end)
    else:
        _check_reason_code(reason_code, V3_CONNACK_REASON_CODES)
        _check_end(start + 2, end)
        if version == MQTT_3_1:  # there the byte is reserved and says nothing
            flags = 0
    if flags > 1:  # [MQTT-3.2.2-1]
        raise MalformedPacket("reserved CONNACK flags are set")
    if flags and reason_code:  # [MQTT-3.2.2-6]
        raise ProtocolError("Session Present in a CONNACK which refuses")
    return Connack(flags == 1, reason_code, properties)


def _check_filter(filter: str, version: int) -> str | None:
    """Refuses what isn't a Topic Filter; the group of a Shared Subscription.

    Before MQTT 5 "$share" has no meaning of its own: whether it gets one is for the server to decide.
    """
    if version == MQTT_5 and filter.startswith(SHARE_PREFIX):
        try:
            return parse_filter(filter)[0]
        except InvalidTopicFilter as error:
            raise MalformedPacket(str(error)) from None
    if not has_valid_wildcards(filter):  # [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1]
        raise MalformedPacket(f"not a Topic Filter: {filter[:SHOWN_LENGTH]!r}")
    return None


def _subscription_request(filter: str, options: int, version: int) -> SubscriptionRequest:
    qos = options & 3
    if version != MQTT_5:
        if options > 2:  # 3.1.1: [MQTT-3.8.3-4]
            raise MalformedPacket(f"requested QoS 0x{options:02X}")
        _check_filter(filter, version)
        return SubscriptionRequest(filter, qos)
    if options & 0xC0:  # [MQTT-3.8.3-5]
        raise MalformedPacket("reserved Subscription Options are set")
    if qos == 3 or options & 0x30 == 0x30:  # [3.8.3.1]
        raise ProtocolError("Subscription Options with QoS 3 or Retain Handling 3")
    group = _check_filter(filter, version)
    if group is not None and options & _NO_LOCAL:  # [MQTT-3.8.3-4]
        raise ProtocolError("No Local on a Shared Subscription")
    return SubscriptionRequest(
        filter, qos, options & _NO_LOCAL != 0, options & _RETAIN_AS_PUBLISHED != 0, options >> 4
    )


def read_subscribe(data: bytes, start: int, end: int, version: int) -> Packet:
    """SUBSCRIBE [3.8]."""
    packet_id = _read_packet_id(data, start, end)
    position = start + 2
    properties: Properties | None = None
    if version == MQTT_5:
        properties, position = read_properties(data, position, end, IN_SUBSCRIBE)
    if position == end:  # [MQTT-3.8.3-2]
        raise ProtocolError("SUBSCRIBE without a Topic Filter")
    subscriptions: list[SubscriptionRequest] = []
    while position < end:
        filter, position = read_string(data, position, end)
        if position == end:
            raise MalformedPacket("a Topic Filter without Subscription Options")
        subscriptions.append(_subscription_request(filter, data[position], version))
        position += 1
    return Subscribe(packet_id, subscriptions, properties)


def read_suback(data: bytes, start: int, end: int, version: int) -> Packet:
    """SUBACK [3.9]."""
    packet_id = _read_packet_id(data, start, end)
    position = start + 2
    properties: Properties | None = None
    allowed = V3_SUBACK_REASON_CODES
    if version == MQTT_5:
        properties, position = read_properties(data, position, end, IN_ACKNOWLEDGEMENT)
        allowed = SUBACK_REASON_CODES
    reason_codes = list(data[position:end])
    for reason_code in reason_codes:
        _check_reason_code(reason_code, allowed)
    return Suback(packet_id, reason_codes, properties)


def read_unsubscribe(data: bytes, start: int, end: int, version: int) -> Packet:
    """UNSUBSCRIBE [3.10]."""
    packet_id = _read_packet_id(data, start, end)
    position = start + 2
    properties: Properties | None = None
    if version == MQTT_5:
        properties, position = read_properties(data, position, end, IN_UNSUBSCRIBE)
    if position == end:  # [MQTT-3.10.3-2]
        raise ProtocolError("UNSUBSCRIBE without a Topic Filter")
    filters: list[str] = []
    while position < end:
        filter, position = read_string(data, position, end)
        _check_filter(filter, version)
        filters.append(filter)
    return Unsubscribe(packet_id, filters, properties)


def read_unsuback(data: bytes, start: int, end: int, version: int) -> Packet:
    """UNSUBACK [3.11]; before MQTT 5 without reason codes."""
    packet_id = _read_packet_id(data, start, end)
    if version != MQTT_5:
        _check_end(start + 2, end)
        return Unsuback(packet_id, [])
    properties, position = read_properties(data, start + 2, end, IN_ACKNOWLEDGEMENT)
    reason_codes = list(data[position:end])
    for reason_code in reason_codes:
        _check_reason_code(reason_code, UNSUBACK_REASON_CODES)
    return Unsuback(packet_id, reason_codes, properties)


def read_pingreq(data: bytes, start: int, end: int, version: int) -> Packet:
    """PINGREQ [3.12]."""
    _check_end(start, end)
    return Pingreq()


def read_pingresp(data: bytes, start: int, end: int, version: int) -> Packet:
    """PINGRESP [3.13]."""
    _check_end(start, end)
    return Pingresp()


def read_disconnect_of_client(data: bytes, start: int, end: int, version: int) -> Packet:
    """DISCONNECT as a client sends it [3.14]."""
    if version != MQTT_5:
        _check_end(start, end)
        return Disconnect()
    reason_code, properties = _read_optional_end(
        data, start, end, CLIENT_DISCONNECT_REASON_CODES, IN_CLIENT_DISCONNECT
    )
    return Disconnect(reason_code, properties)


def read_disconnect_of_server(data: bytes, start: int, end: int, version: int) -> Packet:
    """DISCONNECT as a server sends it [3.14]: not before MQTT 5."""
    if version != MQTT_5:
        raise ProtocolError("DISCONNECT from a server before MQTT 5")
    reason_code, properties = _read_optional_end(
        data, start, end, SERVER_DISCONNECT_REASON_CODES, IN_SERVER_DISCONNECT
    )
    return Disconnect(reason_code, properties)


def _read_auth(data: bytes, start: int, end: int, version: int, allowed: frozenset[int]) -> Packet:
    if version != MQTT_5:
        raise MalformedPacket("packet type 15 is reserved before MQTT 5")
    reason_code, properties = _read_optional_end(data, start, end, allowed, IN_AUTH)
    _check_reason_code(reason_code, allowed)  # one that was left out, too
    if properties is None and reason_code:
        raise ProtocolError("AUTH without Authentication Method")  # [3.15.2.2.2]
    return Auth(reason_code, properties)


def read_auth_of_client(data: bytes, start: int, end: int, version: int) -> Packet:
    """AUTH as a client sends it [3.15]."""
    return _read_auth(data, start, end, version, CLIENT_AUTH_REASON_CODES)


def read_auth_of_server(data: bytes, start: int, end: int, version: int) -> Packet:
    """AUTH as a server sends it [3.15]."""
    return _read_auth(data, start, end, version, SERVER_AUTH_REASON_CODES)
