"""Packets on the wire and what they mean: one table for the tests of decoder, encoder and the whole broker.

Notation: hexadecimal bytes; `*` is the Remaining Length; 'text' is a UTF-8 Encoded String with its length.
Spaces are free. The file is long because it is a table.
"""

import re
from typing import NamedTuple

from broker.mqtt import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    MalformedPacket,
    MqttError,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    ProtocolError,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    ReasonCode,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from broker.mqtt.wire import varint

_TOKEN = re.compile(r"'([^']*)'|(\*)|([0-9A-Fa-f]{2})|\s+")


def wire(notation: str) -> bytes:
    """The bytes that the notation stands for."""
    parts: list[bytes] = []
    position = 0
    while position < len(notation):
        token = _TOKEN.match(notation, position)
        assert token is not None, notation[position:]
        position = token.end()
        if token[1] is not None:
            text = token[1].encode()
            parts.append(len(text).to_bytes(2, "big") + text)
        elif token[2] is not None:
            parts.append(b"*")
        elif token[3] is not None:
            parts.append(bytes.fromhex(token[3]))
    if len(parts) > 1 and parts[1] == b"*":
        parts[1] = varint(sum(map(len, parts[2:])))
    return b"".join(parts)


class Refusal(NamedTuple):
    """The error that the decoder has to raise."""

    error: type[MqttError]
    reason_code: ReasonCode


MALFORMED = Refusal(MalformedPacket, ReasonCode.MALFORMED_PACKET)
PROTOCOL_ERROR = Refusal(ProtocolError, ReasonCode.PROTOCOL_ERROR)


class Vector(NamedTuple):
    """One packet. `canonical`: the encoder makes exactly these bytes of it. `version` 0: before a CONNECT."""

    name: str
    notation: str
    version: int
    expected: Packet | Refusal
    from_client: bool = True
    canonical: bool = True

    @property
    def data(self) -> bytes:
        return wire(self.notation)


def _refused(name: str, notation: str, version: int, *, from_client: bool = True) -> Vector:
    return Vector(name, notation, version, MALFORMED, from_client)


def _forbidden(name: str, notation: str, version: int, *, from_client: bool = True) -> Vector:
    return Vector(name, notation, version, PROTOCOL_ERROR, from_client)


def _server(name: str, notation: str, version: int, expected: Packet) -> Vector:
    return Vector(name, notation, version, expected, False)


_USER = Properties(user_property=(("k", "v"), ("k", "v")))

ACCEPTED_CONNECTS = [
    Vector("5 minimal", "10 * 'MQTT' 05 02 003C 00 ''", 0, Connect("", 5, True, 60)),
    Vector("5 not clean", "10 * 'MQTT' 05 00 0000 00 'c'", 0, Connect("c", 5, False, 0)),
    Vector(
        "5 everything",
        "10 * 'MQTT' 05 EE FFFF 10 11 0000000A 21 0014 27 00000100 22 000A 'id'"
        "05 18 00000005 'w/t' 0001 FF 'user' 0002 00FF",
        0,
        Connect(
            "id",
            5,
            True,
            65535,
            "user",
            b"\x00\xff",
            Will("w/t", b"\xff", 1, True, Properties(will_delay_interval=5)),
            Properties(
                session_expiry_interval=10,
                receive_maximum=20,
                maximum_packet_size=256,
                topic_alias_maximum=10,
            ),
        ),
        canonical=False,
    ),
    Vector(
        "5 every property",
        "10 * 'MQTT' 05 02 0000 2E 11 FFFFFFFF 15 'SCRAM' 16 0001 AA 17 00 19 01 21 FFFF 22 0000"
        "26 'k' 'v' 26 'k' 'v' 27 00000001 'c'",
        0,
        Connect(
            "c",
            5,
            True,
            0,
            properties=Properties(
                session_expiry_interval=0xFFFFFFFF,
                authentication_method="SCRAM",
                authentication_data=b"\xaa",
                request_problem_information=0,
                request_response_information=1,
                receive_maximum=65535,
                topic_alias_maximum=0,
                user_property=(("k", "v"), ("k", "v")),
                maximum_packet_size=1,
            ),
        ),
    ),
    Vector(
        "5 every will property",
        "10 * 'MQTT' 05 16 0000 00 'c' 25 01 01 02 00000009 03 'text' 08 'r/t' 09 0002 0102 18 00000001"
        "26 'k' 'v' 'w' 0000",
        0,
        Connect(
            "c",
            5,
            True,
            0,
            will=Will(
                "w",
                b"",
                2,
                False,
                Properties(
                    payload_format_indicator=1,
                    message_expiry_interval=9,
                    content_type="text",
                    response_topic="r/t",
                    correlation_data=b"\x01\x02",
                    will_delay_interval=1,
                    user_property=(("k", "v"),),
                ),
            ),
        ),
    ),
    Vector(
        "5 password without user name",
        "10 * 'MQTT' 05 42 0000 00 'c' 0001 70",
        0,
        Connect("c", 5, True, 0, None, b"p"),
    ),
    Vector("3.1.1 minimal", "10 * 'MQTT' 04 02 003C ''", 0, Connect("", 4, True, 60)),
    Vector(
        "3.1.1 everything",
        "10 * 'MQTT' 04 F4 003C 'c' 'w' 0001 00 'u' 0000",
        0,
        Connect("c", 4, False, 60, "u", b"", Will("w", b"\0", 2, True)),
    ),
    Vector(
        "3.1.1 Remaining Length longer than needed",
        "10 8E 00 'MQTT' 04 02 003C '12'",
        0,
        Connect("12", 4, True, 60),
        canonical=False,
    ),
    Vector("3.1", "10 * 'MQIsdp' 03 02 003C 'c'", 0, Connect("c", 3, True, 60)),
    Vector(
        "3.1 more than 23 characters",
        "10 * 'MQIsdp' 03 00 003C 'abcdefghijklmnopqrstuvwxyz'",
        0,
        Connect("abcdefghijklmnopqrstuvwxyz", 3, False, 60),
    ),
    Vector(
        "3.1 unused flags",
        "10 * 'MQIsdp' 03 2B 003C 'c'",
        0,
        Connect("c", 3, True, 60),
        canonical=False,
    ),
    Vector(
        "3.1 flags without user name and password",
        "10 * 'MQIsdp' 03 C2 003C 'c'",
        0,
        Connect("c", 3, True, 60),
        canonical=False,
    ),
    Vector(
        "3.1 flags without password",
        "10 * 'MQIsdp' 03 C2 003C 'c' 'u'",
        0,
        Connect("c", 3, True, 60, "u"),
        canonical=False,
    ),
    Vector(
        "3.1 user name and password",
        "10 * 'MQIsdp' 03 C2 003C 'c' 'u' 0001 70",
        0,
        Connect("c", 3, True, 60, "u", b"p"),
    ),
]

_UNSUPPORTED = Refusal(ProtocolError, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)
_NO_CLIENT_ID = Refusal(ProtocolError, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)

REFUSED_CONNECTS = [
    Vector("[MQTT-3.1.2-1] name", "10 * 'mqtt' 05 02 003C 00 'c'", 0, _UNSUPPORTED),
    Vector("[MQTT-3.1.2-2] version 6", "10 * 'MQTT' 06 02 003C 00 'c'", 0, _UNSUPPORTED),
    Vector("[MQTT-3.1.2-2] version 3 of MQTT", "10 * 'MQTT' 03 02 003C 'c'", 0, _UNSUPPORTED),
    Vector("version 4 of MQIsdp", "10 * 'MQIsdp' 04 02 003C 'c'", 0, _UNSUPPORTED),
    Vector("3.1.1 [MQTT-3.1.3-8] no id, not clean", "10 * 'MQTT' 04 00 003C ''", 0, _NO_CLIENT_ID),
    Vector("3.1 no id", "10 * 'MQIsdp' 03 02 003C ''", 0, _NO_CLIENT_ID),
    _refused("empty", "10 00", 0),
    _refused("name cut", "10 * 0004 4D51", 0),
    _refused("no version", "10 * 'MQTT'", 0),
    _refused("no flags", "10 * 'MQTT' 05", 0),
    _refused("no keep alive", "10 * 'MQTT' 05 02 00", 0),
    _refused("no properties", "10 * 'MQTT' 05 02 003C", 0),
    _refused("properties cut", "10 * 'MQTT' 05 02 003C 05 11 000000", 0),
    _refused("no client id", "10 * 'MQTT' 05 02 003C 00", 0),
    _refused("client id cut", "10 * 'MQTT' 04 02 003C 0005 41", 0),
    _refused("[MQTT-3.1.2-3] reserved flag", "10 * 'MQTT' 05 03 003C 00 'c'", 0),
    _refused("3.1.1 [MQTT-3.1.2-3] reserved flag", "10 * 'MQTT' 04 03 003C 'c'", 0),
    _refused("[MQTT-3.1.2-11] will QoS without will", "10 * 'MQTT' 05 0A 003C 00 'c'", 0),
    _refused("[MQTT-3.1.2-13] will retain without will", "10 * 'MQTT' 04 22 003C 'c'", 0),
    _refused("[MQTT-3.1.2-12] will QoS 3", "10 * 'MQTT' 05 1E 003C 00 'c' 00 'w' 0000", 0),
    _refused("3.1 will QoS 3", "10 * 'MQIsdp' 03 1E 003C 'c' 'w' 0000", 0),
    _refused("3.1.1 [MQTT-3.1.2-22] password only", "10 * 'MQTT' 04 42 003C 'c' 0001 70", 0),
    _refused("will without topic", "10 * 'MQTT' 04 06 003C 'c'", 0),
    _refused("[MQTT-4.7.0-1] wildcard in the will topic", "10 * 'MQTT' 04 06 003C 'c' 'w/#' 0000", 0),
    _refused("[MQTT-4.7.3-1] empty will topic", "10 * 'MQTT' 04 06 003C 'c' '' 0000", 0),
    _refused("will without payload", "10 * 'MQTT' 04 06 003C 'c' 'w' 00", 0),
    _refused("user name missing", "10 * 'MQTT' 04 82 003C 'c'", 0),
    _refused("password missing", "10 * 'MQTT' 04 C2 003C 'c' 'u'", 0),
    _refused("bytes left over", "10 * 'MQTT' 04 02 003C 'c' 00", 0),
    _refused("3.1 bytes left over", "10 * 'MQIsdp' 03 02 003C 'c' 00", 0),
    _refused("[MQTT-2.1.3-1] flags", "11 * 'MQTT' 04 02 003C 'c'", 0),
    _refused("[MQTT-1.5.4-2] NUL in client id", "10 * 'MQTT' 04 02 003C 0001 00", 0),
    _refused("[MQTT-1.5.4-1] surrogate in client id", "10 * 'MQTT' 04 02 003C 0003 EDA080", 0),
    _refused("overlong UTF-8 in client id", "10 * 'MQTT' 04 02 003C 0002 C0AF", 0),
    _refused("[MQTT-1.5.5-1] Property Length", "10 * 'MQTT' 05 02 003C 8000 'c'", 0),
    _forbidden("Receive Maximum 0", "10 * 'MQTT' 05 02 003C 03 21 0000 'c'", 0),
    _forbidden("Maximum Packet Size 0", "10 * 'MQTT' 05 02 003C 05 27 00000000 'c'", 0),
    _forbidden("Request Problem Information 2", "10 * 'MQTT' 05 02 003C 02 17 02 'c'", 0),
    _forbidden("Request Response Information 2", "10 * 'MQTT' 05 02 003C 02 19 02 'c'", 0),
    _forbidden("Authentication Data alone", "10 * 'MQTT' 05 02 003C 04 16 0001 00 'c'", 0),
    _forbidden("a property twice", "10 * 'MQTT' 05 02 003C 06 22 0001 22 0001 'c'", 0),
    _refused("a property of another packet", "10 * 'MQTT' 05 02 003C 02 24 01 'c'", 0),
    _refused("Will Delay Interval outside of the will", "10 * 'MQTT' 05 02 003C 05 18 00000001 'c'", 0),
]

ACCEPTED_PUBLISHES = [
    Vector("3.1.1 QoS 0", "30 * 'a/b' 6869", 4, Publish("a/b", b"hi", 0, False, False, 0)),
    Vector("3.1 QoS 1", "32 * 'a' 0001", 3, Publish("a", b"", 1, False, False, 1)),
    Vector("QoS 0", "30 * 'a/b' 00 6869", 5, Publish("a/b", b"hi", 0, False, False, 0)),
    Vector("empty payload", "31 * 'a/b' 00", 5, Publish("a/b", b"", 0, True, False, 0)),
    Vector("QoS 1", "32 * 'a/b' 0001 00 00", 5, Publish("a/b", b"\0", 1, False, False, 1)),
    Vector("QoS 2, DUP, retain", "3D * 'a/b' FFFF 00 01", 5, Publish("a/b", b"\1", 2, True, True, 65535)),
    Vector(
        "every property",
        "32 * 'a' 0102 24 01 00 02 00000009 03 'text' 08 'r' 09 0001 07 26 'k' 'v' 26 'k' 'v' 78",
        5,
        Publish(
            "a",
            b"x",
            1,
            False,
            False,
            0x0102,
            Properties(
                payload_format_indicator=0,
                message_expiry_interval=9,
                content_type="text",
                response_topic="r",
                correlation_data=b"\x07",
                user_property=(("k", "v"), ("k", "v")),
            ),
        ),
    ),
    Vector(
        "Subscription Identifiers from a server",
        "30 * 'a' 05 0B 01 0B FF7F",
        5,
        Publish("a", b"", 0, False, False, 0, Properties(subscription_identifier=(1, 16383))),
        from_client=False,
    ),
    Vector(
        "Topic Alias with a Topic Name",
        "30 * 'a' 03 23 0001",
        5,
        Publish("a", b"", 0, False, False, 0, Properties(topic_alias=1)),
    ),
    Vector(
        "Topic Alias alone",
        "30 * '' 03 23 0001",
        5,
        Publish("", b"", 0, False, False, 0, Properties(topic_alias=1)),
    ),
    Vector("U+FEFF stays", "30 * 0003 EFBBBF", 4, Publish("\ufeff", b"", 0, False, False, 0)),
    Vector("payload of 128 bytes", "30 * 'a'" + "00" * 128, 4, Publish("a", bytes(128), 0, False, False, 0)),
    Vector(
        "payload of 20,000 bytes",
        "30 * 'a' 00" + "FF" * 20_000,
        5,
        Publish("a", b"\xff" * 20_000, 0, False, False, 0),
    ),
    Vector(
        "Topic Name of 200 bytes",
        "30 * '" + "t" * 200 + "'",
        4,
        Publish("t" * 200, b"", 0, False, False, 0),
    ),
    Vector(
        "3.1.1 Remaining Length longer than needed",
        "30 848000 'a' 31",
        4,
        Publish("a", b"1", 0, False, False, 0),
        canonical=False,
    ),
]

REFUSED_PUBLISHES = [
    _refused("no topic", "30 00", 5),
    _refused("half a length", "30 01 00", 5),
    _refused("topic cut", "30 * 0005 61", 4),
    _refused("topic cut, more packets", "30 * 0005 61 C000C000C000", 4),
    _refused("no Packet Identifier", "32 * 'a'", 4),
    _refused("half a Packet Identifier", "32 * 'a' 00", 4),
    _refused("no properties", "30 * 'a'", 5),
    _refused("properties cut", "30 * 'a' 01", 5),
    _refused("[MQTT-3.3.1-4] QoS 3", "36 * 'a' 0001", 4),
    _refused("[MQTT-3.3.1-4] QoS 3 with DUP", "3E * 'a' 0001", 4),
    _refused("[MQTT-3.3.1-2] DUP at QoS 0", "38 * 'a'", 4),
    _forbidden("[MQTT-2.2.1-3] Packet Identifier 0", "32 * 'a' 0000", 4),
    _forbidden("no topic, no alias", "30 * '' 00", 5),
    _forbidden("no topic, no alias, a property", "30 * '' 02 01 01", 5),
    _forbidden("3.1.1 [MQTT-4.7.3-1] empty topic", "30 * ''", 4),
    _refused("[MQTT-3.3.2-2] #", "30 * 'a/#'", 4),
    _refused("[MQTT-3.3.2-2] +", "30 * '+' 00", 5),
    _refused("[MQTT-1.5.4-2] NUL in the topic", "30 * 0003 610062", 4),
    _refused("[MQTT-1.5.4-1] surrogate in the topic", "30 * 0003 EDA080", 4),
    Vector(
        "[MQTT-3.3.2-8] Topic Alias 0",
        "30 * 'a' 03 23 0000",
        5,
        Refusal(ProtocolError, ReasonCode.TOPIC_ALIAS_INVALID),
    ),
    _forbidden("[MQTT-3.3.4-6] Subscription Identifier from a client", "30 * 'a' 02 0B 01", 5),
    _forbidden("Subscription Identifier 0", "30 * 'a' 02 0B 00", 5, from_client=False),
    _refused("Subscription Identifier in 5 bytes", "30 * 'a' 06 0B FFFFFFFF01", 5, from_client=False),
    _forbidden("Payload Format Indicator 2", "30 * 'a' 02 01 02", 5),
    _forbidden("[MQTT-3.3.2-14] wildcard in Response Topic", "30 * 'a' 06 08 'x/#'", 5),
    _forbidden("empty Response Topic", "30 * 'a' 03 08 ''", 5),
    _forbidden("Content Type twice", "30 * 'a' 08 03 'x' 03 'x'", 5),
    _refused("unknown property", "30 * 'a' 02 04 00", 5),
    _refused("property longer than the properties", "30 * 'a' 02 02 00000000", 5),
    _refused("byte property without value", "30 * 'a' 01 01", 5),
]

ACCEPTED_OTHERS = [
    _server("CONNACK", "20 03 00 00 00", 5, Connack(False, 0)),
    _server("CONNACK 3.1.1 present", "20 02 01 00", 4, Connack(True, 0)),
    _server("CONNACK 3.1.1 refused", "20 02 00 05", 4, Connack(False, 5)),
    Vector("CONNACK 3.1", "20 02 01 00", 3, Connack(False, 0), False, False),
    _server(
        "CONNACK every property",
        "20 * 01 00 3E 11 00000001 12 'c' 13 000A 15 'm' 16 0001 61 1A 'i' 1C 's' 1F 'why' 21 0001 22 0002"
        "24 01 25 00 26 'k' 'v' 27 00001000 28 00 29 01 2A 01",
        5,
        Connack(
            True,
            0,
            Properties(
                session_expiry_interval=1,
                assigned_client_identifier="c",
                server_keep_alive=10,
                authentication_method="m",
                authentication_data=b"a",
                response_information="i",
                server_reference="s",
                reason_string="why",
                receive_maximum=1,
                topic_alias_maximum=2,
                maximum_qos=1,
                retain_available=0,
                user_property=(("k", "v"),),
                maximum_packet_size=4096,
                wildcard_subscription_available=0,
                subscription_identifier_available=1,
                shared_subscription_available=1,
            ),
        ),
    ),
    Vector("PUBACK", "40 02 0001", 5, Puback(1)),
    Vector("PUBACK 3.1.1", "40 02 FFFF", 4, Puback(65535)),
    Vector("PUBACK reason", "40 03 0100 10", 5, Puback(256, 0x10)),
    Vector(
        "PUBACK properties", "40 * 0001 97 06 1F 'why'", 5, Puback(1, 0x97, Properties(reason_string="why"))
    ),
    Vector("PUBACK success said", "40 03 0001 00", 5, Puback(1), canonical=False),
    Vector("PUBACK no properties said", "40 04 0001 00 00", 5, Puback(1), canonical=False),
    Vector("PUBREC", "50 02 0001", 5, Pubrec(1)),
    Vector("PUBREC reason", "50 03 0001 87", 5, Pubrec(1, 0x87)),
    Vector("PUBREL", "62 02 0001", 5, Pubrel(1)),
    Vector("PUBREL reason", "62 03 0001 92", 5, Pubrel(1, 0x92)),
    Vector("PUBREL 3.1 DUP", "6A 02 0001", 3, Pubrel(1), canonical=False),
    Vector("PUBCOMP", "70 02 0001", 5, Pubcomp(1)),
    Vector("PUBCOMP properties", "70 * 0001 92 0E 26 'k' 'v' 26 'k' 'v'", 5, Pubcomp(1, 0x92, _USER)),
    Vector(
        "SUBSCRIBE",
        "82 * 000A 00 'a/b' 00 '+/#' 2E",
        5,
        Subscribe(10, [SubscriptionRequest("a/b", 0), SubscriptionRequest("+/#", 2, True, True, 2)]),
    ),
    Vector(
        "SUBSCRIBE shared, identifier",
        "82 * 0001 03 0B FF7F '$share/g/a' 19",
        5,
        Subscribe(
            1,
            [SubscriptionRequest("$share/g/a", 1, False, True, 1)],
            Properties(subscription_identifier=(16383,)),
        ),
    ),
    Vector(
        "SUBSCRIBE 3.1.1",
        "82 * 0001 'a' 00 'b' 02",
        4,
        Subscribe(1, [SubscriptionRequest("a", 0), SubscriptionRequest("b", 2)]),
    ),
    Vector(
        "SUBSCRIBE 3.1.1 $share is a level like others",
        "82 * 0001 '$share/x' 00",
        4,
        Subscribe(1, [SubscriptionRequest("$share/x", 0)]),
    ),
    Vector(
        "SUBSCRIBE 3.1 DUP", "8A * 0001 'a' 01", 3, Subscribe(1, [SubscriptionRequest("a", 1)]), True, False
    ),
    _server("SUBACK", "90 * 0001 00 00 01 02 80", 5, Suback(1, [0, 1, 2, 0x80])),
    _server("SUBACK properties", "90 * 0001 0E 26 'k' 'v' 26 'k' 'v' A2", 5, Suback(1, [0xA2], _USER)),
    _server("SUBACK 3.1.1", "90 * 0001 02 80", 4, Suback(1, [2, 0x80])),
    Vector("UNSUBSCRIBE", "A2 * 0001 00 'a/+' 'b'", 5, Unsubscribe(1, ["a/+", "b"])),
    Vector("UNSUBSCRIBE 3.1.1", "A2 * 0001 'a'", 4, Unsubscribe(1, ["a"])),
    Vector(
        "UNSUBSCRIBE properties",
        "A2 * 0001 0E 26 'k' 'v' 26 'k' 'v' '$share/g/a'",
        5,
        Unsubscribe(1, ["$share/g/a"], _USER),
    ),
    _server("UNSUBACK", "B0 * 0001 00 00 11", 5, Unsuback(1, [0, 0x11])),
    _server("UNSUBACK 3.1.1", "B0 02 0001", 4, Unsuback(1, [])),
    Vector("PINGREQ", "C0 00", 5, Pingreq()),
    Vector("PINGREQ 3.1", "C0 00", 3, Pingreq()),
    _server("PINGRESP", "D0 00", 4, Pingresp()),
    Vector("DISCONNECT", "E0 00", 5, Disconnect()),
    Vector("DISCONNECT 3.1.1", "E0 00", 4, Disconnect()),
    Vector("DISCONNECT with will", "E0 01 04", 5, Disconnect(4)),
    Vector(
        "DISCONNECT properties",
        "E0 * 00 0B 11 00000000 1F 'bye'",
        5,
        Disconnect(0, Properties(session_expiry_interval=0, reason_string="bye")),
    ),
    _server("DISCONNECT from the server", "E0 01 8E", 5, Disconnect(0x8E)),
    _server(
        "DISCONNECT server reference",
        "E0 * 9D 04 1C 's'",
        5,
        Disconnect(0x9D, Properties(server_reference="s")),
    ),
    Vector(
        "AUTH",
        "F0 * 18 08 15 'm' 16 0001 01",
        5,
        Auth(0x18, Properties(authentication_method="m", authentication_data=b"\x01")),
    ),
    Vector("AUTH again", "F0 * 19 04 15 'm'", 5, Auth(0x19, Properties(authentication_method="m"))),
    _server("AUTH success", "F0 00", 5, Auth()),
]

REFUSED_OTHERS = [
    _refused("CONNACK cut", "20 01 00", 4, from_client=False),
    _refused("CONNACK 3.1.1 long", "20 03 00 00 00", 4, from_client=False),
    _refused("CONNACK without properties", "20 02 00 00", 5, from_client=False),
    _refused("CONNACK bytes left over", "20 04 00 00 00 00", 5, from_client=False),
    _refused("[MQTT-3.2.2-1] CONNACK flags", "20 03 02 00 00", 5, from_client=False),
    _forbidden("[MQTT-3.2.2-6] CONNACK present but refused", "20 02 01 05", 4, from_client=False),
    _forbidden("[MQTT-3.2.2-8] CONNACK reason", "20 03 00 8E 00", 5, from_client=False),
    _forbidden("CONNACK 3.1.1 return code 6", "20 02 00 06", 4, from_client=False),
    _forbidden("Maximum QoS 2", "20 05 00 00 02 24 02", 5, from_client=False),
    _forbidden("PUBACK Packet Identifier 0", "40 02 0000", 5),
    _refused("PUBACK cut", "40 01 00", 5),
    _refused("PUBACK empty", "40 00", 5),
    _refused("PUBACK 3.1.1 with a reason", "40 03 0001 00", 4),
    _refused("PUBACK bytes left over", "40 05 0001 00 00 00", 5),
    _forbidden("[MQTT-3.4.2-1] PUBACK reason", "40 03 0001 92", 5),
    _forbidden("[MQTT-3.5.2-1] PUBREC reason", "50 03 0001 01", 5),
    _forbidden("[MQTT-3.6.2-1] PUBREL reason", "62 03 0001 10", 5),
    _forbidden("[MQTT-3.7.2-1] PUBCOMP reason", "70 03 0001 80", 5),
    _forbidden("Reason String twice", "40 0C 0001 00 08 1F 'a' 1F 'b'", 5),
    _refused("[MQTT-3.6.1-1] PUBREL flags", "60 02 0001", 5),
    _refused("PUBREL 3.1.1 DUP", "6A 02 0001", 4),
    _refused("PUBACK flags", "42 02 0001", 5),
    _refused("[MQTT-3.8.1-1] SUBSCRIBE flags", "80 * 0001 00 'a' 00", 5),
    _forbidden("[MQTT-2.2.1-3] SUBSCRIBE Packet Identifier 0", "82 * 0000 00 'a' 00", 5),
    _forbidden("[MQTT-3.8.3-2] SUBSCRIBE empty", "82 * 0001 00", 5),
    _forbidden("3.1.1 SUBSCRIBE empty", "82 * 0001", 4),
    _refused("SUBSCRIBE without options", "82 * 0001 00 'a'", 5),
    _refused("SUBSCRIBE filter cut", "82 * 0001 00 0002 61", 5),
    _refused("[MQTT-3.8.3-5] SUBSCRIBE reserved options", "82 * 0001 00 'a' 40", 5),
    _forbidden("SUBSCRIBE QoS 3", "82 * 0001 00 'a' 03", 5),
    _forbidden("SUBSCRIBE Retain Handling 3", "82 * 0001 00 'a' 30", 5),
    _forbidden("[MQTT-3.8.3-4] No Local on a shared one", "82 * 0001 00 '$share/g/a' 05", 5),
    _refused("3.1.1 [MQTT-3.8.3-4] SUBSCRIBE QoS 3", "82 * 0001 'a' 03", 4),
    _refused("3.1.1 SUBSCRIBE options", "82 * 0001 'a' 05", 4),
    _refused("[MQTT-4.7.1-1] # in the middle", "82 * 0001 00 'a/#/b' 00", 5),
    _refused("[MQTT-4.7.1-2] + inside of a level", "82 * 0001 'a+' 00", 4),
    _refused("[MQTT-4.7.3-1] SUBSCRIBE empty filter", "82 * 0001 00 '' 00", 5),
    _refused("[MQTT-4.8.2-1] ShareName with wildcard", "82 * 0001 00 '$share/+/a' 00", 5),
    _refused("[MQTT-4.8.2-2] nothing after the ShareName", "82 * 0001 00 '$share/g' 00", 5),
    _forbidden("SUBSCRIBE two identifiers", "82 * 0001 04 0B 01 0B 02 'a' 00", 5),
    _forbidden("SUBSCRIBE identifier 0", "82 * 0001 02 0B 00 'a' 00", 5),
    _forbidden("[MQTT-3.9.3-2] SUBACK reason", "90 * 0001 00 03", 5, from_client=False),
    _forbidden("SUBACK 3.1.1 code", "90 * 0001 87", 4, from_client=False),
    _refused("[MQTT-3.10.1-1] UNSUBSCRIBE flags", "A0 * 0001 00 'a'", 5),
    _forbidden("[MQTT-3.10.3-2] UNSUBSCRIBE empty", "A2 * 0001 00", 5),
    _forbidden("3.1.1 UNSUBSCRIBE empty", "A2 * 0001", 4),
    _refused("UNSUBSCRIBE wildcard", "A2 * 0001 'a#'", 4),
    _forbidden("[MQTT-3.11.3-2] UNSUBACK reason", "B0 * 0001 00 01", 5, from_client=False),
    _refused("UNSUBACK 3.1.1 with codes", "B0 * 0001 00", 4, from_client=False),
    _refused("PINGREQ with a body", "C0 01 00", 5),
    _refused("PINGREQ flags", "C1 00", 5),
    _refused("PINGRESP with a body", "D0 01 00", 5, from_client=False),
    _refused("3.1.1 DISCONNECT with a body", "E0 01 00", 4),
    _refused("[MQTT-3.14.1-1] DISCONNECT flags", "E1 00", 5),
    _forbidden("[MQTT-3.14.2-1] DISCONNECT reason of the server", "E0 01 8E", 5),
    _forbidden("DISCONNECT reason of a client", "E0 01 04", 5, from_client=False),
    _forbidden("3.1.1 DISCONNECT from the server", "E0 00", 4, from_client=False),
    _forbidden("[MQTT-3.14.2-2] expiry from the server", "E0 07 8B 05 11 00000001", 5, from_client=False),
    _forbidden("server reference from a client", "E0 06 00 04 1C 's'", 5),
    _refused("DISCONNECT bytes left over", "E0 03 00 00 00", 5),
    _refused("3.1.1 AUTH", "F0 00", 4),
    _refused("[MQTT-3.15.1-1] AUTH flags", "F1 * 18 04 15 'm'", 5),
    _forbidden("[MQTT-3.15.2-1] AUTH success from a client", "F0 00", 5),
    _forbidden("AUTH reason", "F0 * 80 04 15 'm'", 5),
    _forbidden("AUTH without anything", "F0 01 18", 5),
    _forbidden("AUTH without a method", "F0 * 18 05 1F 'aa'", 5),
    _forbidden("AUTH data without a method", "F0 * 18 04 16 0001 00", 5),
    _forbidden("AUTH again from the server", "F0 * 19 04 15 'm'", 5, from_client=False),
]

REFUSED_FRAMES = [
    _refused("packet type 0", "00 00", 5),
    _refused("Remaining Length of five bytes", "30 FFFFFFFF01", 4),
    _refused("[MQTT-1.5.5-1] Remaining Length of two bytes", "C0 8000", 5),
    _refused("[MQTT-1.5.5-1] Remaining Length of three bytes", "30 848000 'a' 0031", 5),
    _refused("[MQTT-1.5.5-1] Remaining Length of CONNECT", "10 8E 00 'MQTT' 05 02 003C 00 'c'", 0),
    _forbidden("[MQTT-3.1.0-1] PINGREQ first", "C0 00", 0),
    _forbidden("[MQTT-3.1.0-1] PUBLISH first", "30 * 'a'", 0),
    _forbidden("[MQTT-3.1.0-2] CONNECT again", "10 * 'MQTT' 04 02 003C 'c'", 4),
    _forbidden("CONNECT from a server", "10 * 'MQTT' 04 02 003C 'c'", 0, from_client=False),
    _forbidden("CONNACK from a client", "20 03 00 00 00", 5),
    _forbidden("SUBACK from a client", "90 * 0001 00 00", 5),
    _forbidden("UNSUBACK from a client", "B0 * 0001 00 00", 5),
    _forbidden("PINGRESP from a client", "D0 00", 5),
    _forbidden("SUBSCRIBE from a server", "82 * 0001 00 'a' 00", 5, from_client=False),
    _forbidden("PINGREQ from a server", "C0 00", 5, from_client=False),
]

ACCEPTED = ACCEPTED_CONNECTS + ACCEPTED_PUBLISHES + ACCEPTED_OTHERS
REFUSED = REFUSED_CONNECTS + REFUSED_PUBLISHES + REFUSED_OTHERS + REFUSED_FRAMES
