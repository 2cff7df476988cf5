"""The primitives of the wire format, at their edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import PACKET_ID_BYTES, MalformedPacket
from broker.mqtt.wire import (
    MAXIMUM_VARINT,
    binary,
    read_binary,
    read_string,
    read_uint16,
    read_uint32,
    read_varint,
    string,
    text,
    varint,
)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (127, "7F"),
        (128, "8001"),
        (16_383, "FF7F"),
        (16_384, "808001"),
        (2_097_151, "FFFF7F"),
        (2_097_152, "80808001"),
        (MAXIMUM_VARINT, "FFFFFF7F"),
    ],
)
def test_variable_byte_integers(value: int, encoded: str) -> None:
    """[MQTT-1.5.5-1]"""
    data = bytes.fromhex(encoded)
    assert varint(value) == data
    assert read_varint(b"\xff" + data + b"\xff", 1, len(data) + 1) == (value, len(data) + 1)


@pytest.mark.parametrize(
    "encoded", ["", "80", "FFFF", "8000", "808000", "80808000", "8080808001", "FFFFFFFF7F"]
)
def test_malformed_variable_byte_integers(encoded: str) -> None:
    data = bytes.fromhex(encoded)
    with pytest.raises(MalformedPacket):
        read_varint(data, 0, len(data))


@pytest.mark.parametrize("value", [-1, MAXIMUM_VARINT + 1])
def test_integers_that_do_not_fit(value: int) -> None:
    with pytest.raises(ValueError, match="doesn't fit"):
        varint(value)


@given(st.integers(0, MAXIMUM_VARINT))
def test_any_variable_byte_integer(value: int) -> None:
    assert read_varint(varint(value), 0, len(varint(value))) == (value, len(varint(value)))


def test_fixed_integers() -> None:
    data = bytes.fromhex("0102030405")
    assert read_uint16(data, 1, 3) == 0x0203
    assert read_uint32(data, 1, 5) == 0x02030405
    with pytest.raises(MalformedPacket):
        read_uint16(data, 1, 2)
    with pytest.raises(MalformedPacket):
        read_uint32(data, 1, 4)
    assert PACKET_ID_BYTES[0x0102] == b"\x01\x02"
    assert len(PACKET_ID_BYTES) == 65_536


def test_binary_data() -> None:
    assert binary(b"") == b"\0\0"
    assert binary(b"x" * 65_535)[:2] == b"\xff\xff"
    assert read_binary(b"\0\0\2ab", 1, 5) == (b"ab", 5)
    with pytest.raises(MalformedPacket):
        read_binary(b"\0\2ab", 0, 3)
    with pytest.raises(ValueError, match="65,535"):
        binary(b"x" * 65_536)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_strings(value: str) -> None:
    encoded = string(value)
    assert read_string(encoded, 0, len(encoded)) == (value, len(encoded))


@pytest.mark.parametrize(
    "raw", [b"\0", b"a\0b", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xff", b"\xe2\x82"]
)
def test_malformed_strings(raw: bytes) -> None:
    """[MQTT-1.5.4-1], [MQTT-1.5.4-2]"""
    with pytest.raises(MalformedPacket):
        text(raw)


def test_a_byte_order_mark_is_kept() -> None:
    """[MQTT-1.5.4-3]"""
    assert text(b"\xef\xbb\xbfa") == "\ufeffa"


@pytest.mark.parametrize("value", ["a\0", "\ud800", "x" * 65_536])
def test_strings_that_can_not_be_encoded(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        string(value)
