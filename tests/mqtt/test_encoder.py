"""Packets to bytes: as in the vectors, and what older versions leave out."""

import pytest

from broker.mqtt import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    PACKET_ID_BYTES,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Auth,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Properties,
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
    Will,
    encode,
    encode_ack,
    encode_refusal,
    publish_parts,
)
from tests.mqtt.strategies import VERSIONS
from tests.mqtt.vectors import ACCEPTED, Vector, wire

WHY = Properties(reason_string="why")


@pytest.mark.parametrize("vector", [v for v in ACCEPTED if v.canonical], ids=lambda vector: vector.name)
def test_encoded_as_in_the_vector(vector: Vector) -> None:
    assert isinstance(vector.expected, Packet)
    assert encode(vector.expected, vector.version) == vector.data


@pytest.mark.parametrize(
    ("packet", "version", "notation"),
    [
        (Connack(True, 0, WHY), 4, "20 02 01 00"),
        (Connack(True, 0), 3, "20 02 00 00"),
        (Connack(True, ReasonCode.NOT_AUTHORIZED), 4, "20 02 00 05"),
        (Connack(True, ReasonCode.NOT_AUTHORIZED), 5, "20 03 00 87 00"),
        (Connack(False, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION), 3, "20 02 00 01"),
        (Connack(False, ReasonCode.MALFORMED_PACKET), 4, ""),
        (Publish("a", b"x", 1, False, False, 1, Properties(content_type="t")), 4, "32 * 'a' 0001 78"),
        (Puback(1, ReasonCode.QUOTA_EXCEEDED, WHY), 4, "40 02 0001"),
        (Puback(1, 0, WHY), 5, "40 * 0001 00 06 1F 'why'"),
        (Subscribe(1, [SubscriptionRequest("a", 1, True, True, 2)], WHY), 4, "82 * 0001 'a' 01"),
        (Suback(1, [0, 1, 2, 0x80, 0x87, 0xA2], WHY), 4, "90 * 0001 00 01 02 80 80 80"),
        (Unsuback(1, [0x11], WHY), 3, "B0 02 0001"),
        (Disconnect(0x8E, WHY), 4, "E0 00"),
        (Connect("c", 4, True, 0, will=Will("w", b"", 0, False, WHY), properties=WHY), 5, ""),
    ],
)
def test_what_other_versions_leave_out(packet: Packet, version: int, notation: str) -> None:
    if isinstance(packet, Connect):  # says itself which version it is of
        notation = "10 * 'MQTT' 04 06 0000 'c' 'w' 0000"
    assert encode(packet, version) == wire(notation)


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1])
def test_no_auth_before_mqtt_5(version: int) -> None:
    with pytest.raises(ValueError, match="AUTH"):
        encode(Auth(), version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("dup", [False, True])
@pytest.mark.parametrize("size", [0, 100, 200, 20_000, 3_000_000])
def test_publish_parts(version: int, qos: int, retain: bool, dup: bool, size: int) -> None:
    if dup and not qos:
        return
    properties = Properties(user_property=(("a", "b"),)) if version == MQTT_5 else None
    head, tail = publish_parts(version, "a/b", bytes(size), qos, retain, dup, b"\x26\0\1a\0\1b")
    packet_id = 0x0102 if qos else 0
    out: list[Packet] = []
    data = head + (PACKET_ID_BYTES[packet_id] if qos else b"") + tail
    Decoder(True, 4_000_000, version).feed(data, out)
    expected = Publish("a/b", bytes(size), qos, retain, dup, packet_id, properties)
    assert out == [expected]
    assert encode(expected, version) == data


def test_publish_parts_without_properties() -> None:
    assert publish_parts(5, "a", b"x", 0, False, False, b"") == (b"\x30\x05\0\1a", b"\0x")
    assert publish_parts(4, "a", b"x", 0, False, False, b"\1\1") == (b"\x30\x04\0\1a", b"x")


def test_topics_of_any_length_and_more_than_are_remembered() -> None:
    long = "t" * 1000
    for _ in range(2):
        assert publish_parts(4, long, b"", 0, False, False, b"")[0] == wire(f"30 * '{long}'")
    for number in range(66_000):
        publish_parts(4, str(number), b"", 0, False, False, b"")
    assert publish_parts(4, "0", b"", 0, False, False, b"")[0] == wire("30 * '0'")
    with pytest.raises(ValueError, match="65,535"):
        publish_parts(4, "t" * 65_536, b"", 0, False, False, b"")


def test_a_packet_of_more_than_256_mebibytes() -> None:
    properties = bytes(268_435_456)
    with pytest.raises(ValueError, match="doesn't fit"):
        publish_parts(4, "t", properties, 0, False, False, b"")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("reason_code", [0, 0x92])
@pytest.mark.parametrize("packet_id", [1, 256, 65_535])
def test_encode_ack(version: int, reason_code: int, packet_id: int) -> None:
    for packet_type, kind in ((PUBACK, Puback), (PUBREC, Pubrec), (PUBREL, Pubrel), (PUBCOMP, Pubcomp)):
        encoded = encode_ack(packet_type, packet_id, reason_code, version)
        assert encoded == encode(kind(packet_id, reason_code), version)
        assert len(encoded) == (5 if reason_code and version == MQTT_5 else 4)


@pytest.mark.parametrize(("packet_type", "kind"), [(PUBACK, Puback), (PUBREC, Pubrec)])
def test_encode_refusal(packet_type: int, kind: type[Puback | Pubrec]) -> None:
    """The Reason String is left out where it doesn't fit [MQTT-3.4.2-2], [MQTT-3.5.2-2]."""
    full = encode(kind(7, 0x97, WHY), MQTT_5)
    for maximum in (0, len(full), 100):
        assert encode_refusal(packet_type, 7, 0x97, "why", maximum) == full
    assert encode_refusal(packet_type, 7, 0x97, "why", len(full) - 1) == encode(kind(7, 0x97), MQTT_5)
