"""Reason Codes of MQTT 5 [2.4], which packet may carry which, and what they become in MQTT 3.1 and 3.1.1.

Packets carry reason codes as plain integers (several times cheaper than members of an IntEnum);
`REASON_CODES` turns one into its name.
"""

from enum import IntEnum, unique
from typing import Final


@unique
class ReasonCode(IntEnum):
    """Every reason code. Those from 0x80 on are errors. 0x00 is also Normal disconnection and Granted QoS
    0."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL_MESSAGE = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    REAUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


REASON_CODES: Final[dict[int, ReasonCode]] = {int(code): code for code in ReasonCode}
"""From the integer of a packet to the member: cheaper than calling the enum, and `.get` for the unknown."""

_PUBACK: Final = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_PUBREL: Final = frozenset({0x00, 0x92})
_DISCONNECT_BOTH: Final = frozenset(
    {0x00, 0x80, 0x81, 0x82, 0x83, 0x8C, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}
)

CONNACK_REASON_CODES: Final = frozenset({0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97}) | frozenset(
    {0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F}
)  # [MQTT-3.2.2-8]
PUBACK_REASON_CODES: Final = _PUBACK  # [MQTT-3.4.2-1]
PUBREC_REASON_CODES: Final = _PUBACK  # [MQTT-3.5.2-1]
PUBREL_REASON_CODES: Final = _PUBREL  # [MQTT-3.6.2-1]
PUBCOMP_REASON_CODES: Final = _PUBREL  # [MQTT-3.7.2-1]
SUBACK_REASON_CODES: Final = frozenset(
    {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}
)  # [MQTT-3.9.3-2]
UNSUBACK_REASON_CODES: Final = frozenset({0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91})  # [MQTT-3.11.3-2]
CLIENT_DISCONNECT_REASON_CODES: Final = _DISCONNECT_BOTH | {0x04}  # [MQTT-3.14.2-1]
SERVER_DISCONNECT_REASON_CODES: Final = _DISCONNECT_BOTH | frozenset(
    {0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, *range(0x9A, 0xA3)}
)  # [MQTT-3.14.2-1]
CLIENT_AUTH_REASON_CODES: Final = frozenset({0x18, 0x19})  # [MQTT-3.15.2-1]
SERVER_AUTH_REASON_CODES: Final = frozenset({0x00, 0x18})  # [MQTT-3.15.2-1]

V3_CONNACK_REASON_CODES: Final = frozenset(range(6))
V3_SUBACK_REASON_CODES: Final = frozenset({0x00, 0x01, 0x02, 0x80})

NO_V3_CONNACK: Final = -1
"""MQTT 3.1.1 has no return code for this: close without a CONNACK [MQTT-3.2.2-6 of 3.1.1]."""

_V3_CONNACK: Final = {
    ReasonCode.SUCCESS: 0,
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: 1,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 2,
    ReasonCode.SERVER_UNAVAILABLE: 3,
    ReasonCode.SERVER_BUSY: 3,
    ReasonCode.SERVER_SHUTTING_DOWN: 3,
    ReasonCode.QUOTA_EXCEEDED: 3,
    ReasonCode.USE_ANOTHER_SERVER: 3,
    ReasonCode.SERVER_MOVED: 3,
    ReasonCode.CONNECTION_RATE_EXCEEDED: 3,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: 4,
    ReasonCode.NOT_AUTHORIZED: 5,
    ReasonCode.BANNED: 5,
    ReasonCode.BAD_AUTHENTICATION_METHOD: 5,
}
_V3_CONNACK_BY_CODE: Final[dict[int, int]] = {int(code): answer for code, answer in _V3_CONNACK.items()}


def v3_connack_code(reason_code: int) -> int:
    """The return code of an MQTT 3.1 or 3.1.1 CONNACK for a reason code of MQTT 5.

    A return code of 3.x (1 to 5) stays as it is. `NO_V3_CONNACK` if 3.x has no word for it.
    """
    if 1 <= reason_code <= 5:
        return reason_code
    return _V3_CONNACK_BY_CODE.get(reason_code, NO_V3_CONNACK)
