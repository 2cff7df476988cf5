"""Wrong flags in the fixed header, reserved packet types, packets of the other side."""

from collections.abc import Iterator

from tests.conformance.malformed.case import (
    PACKET_ID,
    PROTOCOL_ERROR,
    SILENT,
    Case,
    after_connect,
    connect,
    instead_of_connect,
    of_version,
    packet,
    text,
)

_ONE_BIT = (1, 2, 4, 8)


def _valid(version: int) -> list[tuple[str, int, bytes, tuple[str, ...], tuple[str, ...]]]:
    """Name, first byte, rest, and the statements about its flags in 5.0 and in 3.1.1."""
    subscribe = PACKET_ID + of_version(version) + text("t") + b"\x00"
    unsubscribe = PACKET_ID + of_version(version) + text("t")
    return [
        ("PUBACK", 0x40, PACKET_ID, (), ()),
        ("PUBREC", 0x50, PACKET_ID, (), ()),
        ("PUBREL", 0x62, PACKET_ID, ("3.6.1-1",), ("3.6.1-1",)),
        ("PUBCOMP", 0x70, PACKET_ID, (), ()),
        ("SUBSCRIBE", 0x82, subscribe, ("3.8.1-1",), ("3.8.1-1",)),
        ("UNSUBSCRIBE", 0xA2, unsubscribe, ("3.10.1-1",), ("3.10.1-1",)),
        ("PINGREQ", 0xC0, b"", (), ()),
        ("DISCONNECT", 0xE0, b"", ("3.14.1-1",), ("3.14.1-1",)),
    ]


def _reserved_flags() -> Iterator[Case]:
    for version in (5, 4):
        general = ("2.1.3-1", "4.13.1-1") if version == 5 else ("2.2.2-1", "2.2.2-2", "4.8.0-1")
        for name, first, rest, of_5, of_3 in _valid(version):
            for bit in _ONE_BIT:
                data = packet(first ^ bit, rest)
                numbers = general + (of_5 if version == 5 else of_3)
                yield after_connect(
                    f"{name} with flags {first & 15 ^ bit:04b}", version, data, 0x81, *numbers
                )
        for flags in (15, 9):
            data = packet(0x80 | flags, _valid(version)[4][2])
            yield after_connect(f"SUBSCRIBE with flags {flags:04b}", version, data, 0x81, "3.8.1-1")
    for bit in _ONE_BIT:
        data = packet(0xF0 ^ bit, b"\x18\x00")
        yield after_connect(f"AUTH with flags {bit:04b}", 5, data, 0x81, "3.15.1-1", "2.1.3-1")
        for version, numbers in ((5, ("2.1.3-1", "3.1.4-1")), (4, ("2.2.2-2", "3.1.4-1"))):
            data = bytes([0x10 ^ bit]) + connect(version, text("c"))[1:]
            yield instead_of_connect(f"CONNECT with flags {bit:04b}", version, data, SILENT, *numbers)


def _publish_flags() -> Iterator[Case]:
    for version in (5, 4):
        rest = text("t") + PACKET_ID + of_version(version)
        for first in (0x36, 0x37, 0x3E, 0x3F):
            name = f"PUBLISH at QoS 3 with first byte {first:02X}"
            yield after_connect(name, version, packet(first, rest), 0x81, "3.3.1-4")
        plain = text("t") + of_version(version)
        for first in (0x38, 0x39):
            name = f"DUP at QoS 0 with first byte {first:02X}"
            yield after_connect(name, version, packet(first, plain), 0x81, "3.3.1-2")


def _types() -> Iterator[Case]:
    for version in (5, 4):
        numbers = ("4.13.1-1",) if version == 5 else ("4.8.0-1",)
        for rest in (b"", b"\x00", PACKET_ID):
            data = packet(0x00, rest)
            yield after_connect(f"packet type 0 and {len(rest)} bytes", version, data, 0x81, *numbers)
        for name, data in (
            ("CONNACK", packet(0x20, b"\x00\x00", of_version(version))),
            ("SUBACK", packet(0x90, PACKET_ID, of_version(version), b"\x00")),
            ("UNSUBACK", packet(0xB0, PACKET_ID, of_version(version))),
            ("PINGRESP", packet(0xD0)),
        ):
            yield after_connect(f"{name} from a client", version, data, PROTOCOL_ERROR, *numbers)
        second = connect(version, text("again"))
        yield after_connect("a second CONNECT", version, second, PROTOCOL_ERROR, "3.1.0-2")
        other = connect(9 - version, text("again"))
        yield after_connect("a second CONNECT of another version", version, other, PROTOCOL_ERROR, "3.1.0-2")
    yield after_connect("AUTH before MQTT 5", 4, packet(0xF0, b"\x18\x00"), 0x81, "4.8.0-1")
    yield after_connect("packet type 15 without a rest", 4, packet(0xF0), 0x81, "4.8.0-1")


def _first_packets() -> Iterator[Case]:
    for version in (5, 4):
        publish = packet(0x30, text("t"), of_version(version))
        valid = [(name, packet(first, rest)) for name, first, rest, _, _ in _valid(version)]
        for name, data in [*valid, ("PUBLISH", publish), ("CONNACK", packet(0x20, b"\x00\x00\x00"))]:
            yield instead_of_connect(f"{name} as the first packet", version, data, SILENT, "3.1.0-1")
    auth = packet(0xF0, b"\x18", b"\x04\x15", text("m"))
    yield instead_of_connect("AUTH as the first packet", 5, auth, SILENT, "3.1.0-1")
    for name, data in (
        ("HTTP", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03" + bytes(32)),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("zeroes", bytes(16)),
    ):
        yield instead_of_connect(f"{name} instead of MQTT", 5, data, SILENT, "3.1.0-1", "3.1.4-1")


CASES = [*_reserved_flags(), *_publish_flags(), *_types(), *_first_packets()]
