"""CONNECT packets that are not as section 3.1 says."""

from collections.abc import Iterator

from tests.conformance.malformed.case import (
    CLEAN,
    SILENT,
    Case,
    connect,
    connect_head,
    instead_of_connect,
    of_version,
    packet,
    properties,
    text,
)

_MALFORMED = {5: 0x81, 4: SILENT, 3: SILENT}
_CONNECT = "3.1.4-1"


def _bad(name: str, version: int, data: bytes, *numbers: str) -> Case:
    return instead_of_connect(name, version, data, _MALFORMED[version], *numbers, _CONNECT)


def _protocols() -> Iterator[Case]:
    rest = b"\x00\x3c\x00" + text("c")
    for name in ("mqtt", "MQTT ", "MQT", "MQTTT", "", "AMQP", "MQIsdp"):
        data = packet(0x10, text(name), b"\x05\x02", rest)
        code = 0x84 if name == "MQIsdp" else SILENT
        number = "3.1.2-2" if name == "MQIsdp" else "3.1.2-1"
        version = 4 if name == "MQIsdp" else 5
        yield instead_of_connect(
            f"Protocol Name {name!r}", version, data, 1 if name == "MQIsdp" else code, number
        )
    for level in (0, 1, 2, 3, 6, 7, 0x85, 255):
        data = packet(0x10, text("MQTT"), bytes([level, 0x02]), rest)
        is_newer = level > 5
        version, code = (5, 0x84) if is_newer else (4, 1)
        yield instead_of_connect(f"version {level} of MQTT", version, data, code, "3.1.2-2")
    four = packet(0x10, text("MQIsdp"), bytes([4, 0x02]), b"\x00\x3c", text("c"))
    yield instead_of_connect("version 4 of MQIsdp", 4, four, 1, "3.1.2-2")


def _flags() -> Iterator[Case]:
    for version in (5, 4):
        payload = (text("c"),)
        will = (of_version(version), text("w"), text("bye"))
        for flags, number in ((0x01, "3.1.2-3"), (0x03, "3.1.2-3")):
            data = connect(version, *payload, flags=flags)
            yield _bad(f"Connect Flags {flags:08b}: reserved", version, data, number)
        for qos in (1, 2, 3):
            data = connect(version, *payload, flags=CLEAN | qos << 3)
            numbers = ("3.1.2-11",) if version == 5 else ("3.1.2-11", "3.1.2-13")
            yield _bad(f"Will QoS {qos} without a will", version, data, *numbers)
        data = connect(version, *payload, flags=CLEAN | 0x20)
        numbers = ("3.1.2-13",) if version == 5 else ("3.1.2-11", "3.1.2-15")
        yield _bad("Will Retain without a will", version, data, *numbers)
        for flags in (0x1E, 0x3E):
            data = connect(version, *payload, *will, flags=flags)
            number = "3.1.2-12" if version == 5 else "3.1.2-14"
            yield _bad(f"Will QoS 3 with Connect Flags {flags:08b}", version, data, number)
    only = connect(4, text("c"), text("secret"), flags=0x42)
    yield _bad("a Password without a User Name", 4, only, "3.1.2-22")
    yield _bad("Will QoS 3", 3, connect(3, text("c"), text("w"), text("bye"), flags=0x1E))


def _payloads() -> Iterator[Case]:
    for version in (5, 4):
        is_5 = version == 5
        none = of_version(version)
        will = (none, text("w"), text("bye"))
        user, password = ("3.1.2-17", "3.1.2-19") if is_5 else ("3.1.2-19", "3.1.2-21")
        no_user, no_password = ("3.1.2-16", "3.1.2-18") if is_5 else ("3.1.2-18", "3.1.2-20")
        client = text("c")
        yield _bad("no Client Identifier at all", version, connect(version), "3.1.3-3")
        yield _bad(
            "a flag for a User Name that is not there", version, connect(version, client, flags=0x82), user
        )
        yield _bad(
            "a flag for a Password that is not there",
            version,
            connect(version, client, text("u"), flags=0xC2),
            password,
        )
        yield _bad("a User Name without its flag", version, connect(version, client, text("u")), no_user)
        data = connect(version, client, text("u"), text("p"), flags=0x82)
        yield _bad("a Password without its flag", version, data, no_password)
        yield _bad(
            "a flag for a will that is not there", version, connect(version, client, flags=0x06), "3.1.2-9"
        )
        data = connect(version, client, none, text("w"), flags=0x06)
        yield _bad("a will without a payload", version, data, "3.1.2-9")
        data = connect(version, client, *will)
        yield _bad("a will without its flag", version, data, *(() if is_5 else ("3.1.2-11",)))
        for topic in ("", "w/#", "+", "w+"):
            data = connect(version, client, none, text(topic), text(""), flags=0x06)
            number = "4.7.3-1" if not topic else "4.7.0-1" if is_5 else "4.7.1-1"
            yield _bad(f"Will Topic {topic!r}", version, data, number)
        yield _bad("a byte after the last field", version, connect(version, client, b"\x00"))
        yield _bad("a packet after the last field", version, connect(version, client, packet(0xC0)))
    nothing = connect(4, text(""), flags=0)
    yield instead_of_connect("no identifier and no Clean Session", 4, nothing, 2, "3.1.3-8", "3.1.3-9")
    yield instead_of_connect("no identifier in MQTT 3.1", 3, connect(3, text("")), 2)
    yield _bad("a byte after the last field", 3, connect(3, text("c"), b"\x00"))


def _cut_off() -> Iterator[Case]:
    for version in (5, 4, 3):
        props = properties(b"\x21\x00\x09") if version == 5 else b""
        will = of_version(version, b"\x18\x00\x00\x00\x01") + text("w") + text("bye")
        payload = text("client") + will + text("user") + text("secret")
        rest = connect_head(version, 0xC6) + props + payload
        ends = {len(rest) - len(text("secret"))}  # in 3.1 the length counts more than the flags
        ends |= {len(rest) - len(text("secret") + text("user"))}
        told = len(text("MQTT")) + 1
        for length in range(0, len(rest), 2 if version == 5 else 3):
            if version == 3 and length in ends:
                continue
            code = 0x81 if version == 5 and length >= told else SILENT
            data = packet(0x10, rest[:length])
            yield instead_of_connect(f"CONNECT cut to {length} bytes", version, data, code, _CONNECT)


def _long() -> Iterator[Case]:
    connect_5 = connect(5, text("c"))
    length = len(connect_5) - 2
    data = b"\x10" + bytes([length | 0x80, 0x00]) + connect_5[2:]
    yield _bad("Remaining Length of CONNECT in two bytes", 5, data, "1.5.5-1")
    data = b"\x10\xff\xff\xff\xff\x01"
    yield instead_of_connect("Remaining Length of CONNECT in five bytes", 5, data, SILENT, "1.5.5-1")
    yield instead_of_connect("a CONNECT of 256 MiB", 4, b"\x10\xff\xff\xff\x7f", SILENT, _CONNECT)


CASES = [*_protocols(), *_flags(), *_payloads(), *_cut_off(), *_long()]
