"""One input that no client may send, and the builders that the tables are written with.

The builders know nothing of the broker's own encoder: what is tested is not what makes the test.
"""

from collections.abc import Iterator
from dataclasses import dataclass

SILENT = None
"""The connection is closed without a word: before MQTT 5, or before the version is known."""
MALFORMED = 0x81
PROTOCOL_ERROR = 0x82
NAMES = {5: "5.0", 4: "3.1.1", 3: "3.1"}


@dataclass(frozen=True)
class Case:
    """`code`: of the DISCONNECT, or of the CONNACK if `data` is sent instead of a CONNECT. `ids`: the
    statements it breaks. `needs_node`: only a whole node notices, not the decoder and the connection."""

    name: str
    version: int
    data: bytes
    code: int | None
    ids: tuple[str, ...] = ()
    is_first: bool = False
    needs_node: bool = False

    @property
    def mqtt(self) -> str:
        """The specification it breaks."""
        return NAMES[self.version]

    def __str__(self) -> str:
        return f"{self.mqtt} {self.name}"


def after_connect(name: str, version: int, data: bytes, code: int = MALFORMED, *numbers: str) -> Case:
    """Bytes of a client that has been accepted; before MQTT 5 there is no word in return."""
    return Case(name, version, data, code if version == 5 else SILENT, _ids(numbers))


def instead_of_connect(name: str, version: int, data: bytes, code: int | None, *numbers: str) -> Case:
    """The first bytes of a connection."""
    return Case(name, version, data, code, _ids(numbers), is_first=True)


def _ids(numbers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"MQTT-{number}" for number in numbers)


# Builders


def varint(value: int) -> bytes:
    """A Variable Byte Integer."""
    encoded = b""
    while value > 127:
        encoded += bytes([value % 128 + 128])
        value //= 128
    return encoded + bytes([value])


def packet(first: int, *parts: bytes) -> bytes:
    """Fixed header and what follows."""
    body = b"".join(parts)
    return bytes([first]) + varint(len(body)) + body


def text(content: str | bytes) -> bytes:
    """A string, or bytes, with two bytes of length."""
    raw = content.encode() if isinstance(content, str) else content
    return len(raw).to_bytes(2, "big") + raw


def properties(*parts: bytes) -> bytes:
    """Property Length and properties."""
    body = b"".join(parts)
    return varint(len(body)) + body


def of_version(version: int, *parts: bytes) -> bytes:
    """The properties, where the version has any."""
    return properties(*parts) if version == 5 else b""


PACKET_ID = b"\x00\x07"
CLEAN = 0x02


def connect_head(version: int, flags: int = CLEAN) -> bytes:
    """Protocol Name, version, flags and Keep Alive."""
    return text("MQIsdp" if version == 3 else "MQTT") + bytes([version, flags]) + b"\x00\x3c"


def connect(version: int, *payload: bytes, flags: int = CLEAN, props: bytes = b"\x00") -> bytes:
    """A CONNECT with this payload."""
    return packet(0x10, connect_head(version, flags), props if version == 5 else b"", *payload)


def cut(
    name: str, version: int, whole: bytes, valid: set[int], *numbers: str, step: int = 1
) -> Iterator[Case]:
    """The packet with less and less of its rest, and a fixed header that is right about that. `valid`:
    lengths of the rest at which it is a packet, or another mistake than being too short."""
    rest = whole[2:]
    assert whole[1] == len(rest) < 128
    for length in range(0, len(rest), step):
        if length not in valid:
            data = packet(whole[0], rest[:length])
            yield after_connect(f"{name} cut to {length} bytes", version, data, MALFORMED, *numbers)
