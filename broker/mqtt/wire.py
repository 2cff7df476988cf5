"""Data representation [1.5]: the primitives that packets and properties are made of.

Readers take the whole buffer, a position and the end of what they may read, and raise MalformedPacket if that
isn't enough; nothing is copied except the value itself. Writers raise ValueError for what can't be encoded:
that is the caller's mistake, never the peer's.
"""

from typing import Final

from broker.mqtt.errors import MalformedPacket

MAXIMUM_VARINT: Final = 268_435_455
MAXIMUM_FIELD_LENGTH: Final = 65_535

PACKET_ID_BYTES: Final[list[bytes]] = [number.to_bytes(2, "big") for number in range(65_536)]
"""The two bytes of each unsigned 16-bit integer: indexing is four times faster than to_bytes()."""

_VARINT_BYTES: Final[list[bytes]] = [bytes((number,)) for number in range(128)] + [
    bytes((number & 0x7F | 0x80, number >> 7)) for number in range(128, 16_384)
]


def read_uint16(data: bytes, position: int, end: int) -> int:
    """A Two Byte Integer, big-endian [1.5.2]."""
    if position + 2 > end:
        raise MalformedPacket("the packet ends inside a Two Byte Integer")
    return (data[position] << 8) | data[position + 1]


def read_uint32(data: bytes, position: int, end: int) -> int:
    """A Four Byte Integer, big-endian [1.5.3]."""
    if position + 4 > end:
        raise MalformedPacket("the packet ends inside a Four Byte Integer")
    return int.from_bytes(data[position : position + 4], "big")


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A Variable Byte Integer of MQTT 5 and the position after it [1.5.5]."""
    value = 0
    shift = 0
    while shift < 28:  # [MQTT-1.5.5-1] at most four bytes
        if position >= end:
            raise MalformedPacket("the packet ends inside a Variable Byte Integer")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:  # [MQTT-1.5.5-1]
                raise MalformedPacket("a Variable Byte Integer is longer than needed")
            return value, position
        shift += 7
    raise MalformedPacket("a Variable Byte Integer has a fifth byte")


def read_binary(data: bytes, position: int, end: int) -> tuple[bytes, int]:
    """Binary Data and the position after it [1.5.6]."""
    start = position + 2
    stop = start + read_uint16(data, position, end)
    if stop > end:
        raise MalformedPacket("a field is longer than the packet")
    return data[start:stop], stop


def text(raw: bytes) -> str:
    """The string in the bytes of a UTF-8 Encoded String [1.5.4].

    Python's codec refuses surrogates [MQTT-1.5.4-1] and overlong forms, and keeps a leading U+FEFF
    [MQTT-1.5.4-3].
    """
    try:
        string = raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket(f"not well-formed UTF-8: {error.reason}") from None
    if "\0" in string:  # [MQTT-1.5.4-2]
        raise MalformedPacket("U+0000 in a UTF-8 Encoded String")
    return string


def read_string(data: bytes, position: int, end: int) -> tuple[str, int]:
    """A UTF-8 Encoded String and the position after it [1.5.4]."""
    raw, position = read_binary(data, position, end)
    return text(raw), position


def varint(value: int) -> bytes:
    """As a Variable Byte Integer, in as few bytes as it takes [MQTT-1.5.5-1]."""
    if 0 <= value < 16_384:
        return _VARINT_BYTES[value]
    if not 0 <= value <= MAXIMUM_VARINT:
        raise ValueError(f"{value} doesn't fit a Variable Byte Integer")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def binary(value: bytes) -> bytes:
    """As Binary Data [1.5.6]."""
    if len(value) > MAXIMUM_FIELD_LENGTH:
        raise ValueError(f"{len(value)} bytes don't fit a field of at most 65,535")
    return PACKET_ID_BYTES[len(value)] + value


def string(value: str) -> bytes:
    """As a UTF-8 Encoded String [1.5.4]; a lone surrogate or U+0000 is a ValueError."""
    if "\0" in value:
        raise ValueError("U+0000 can't be in a UTF-8 Encoded String")
    return binary(value.encode())
