"""Properties where they may not be, twice, cut off, or with values that mean nothing [MQTT 5: 2.2.2]."""

from collections.abc import Callable, Iterator

from tests.conformance.malformed.case import (
    PACKET_ID,
    PROTOCOL_ERROR,
    Case,
    after_connect,
    connect,
    instead_of_connect,
    packet,
    properties,
    text,
)

_EXAMPLES: dict[int, tuple[str, bytes, str]] = {
    0x01: ("Payload Format Indicator", b"\x00", "PUBLISH will"),
    0x02: ("Message Expiry Interval", b"\x00\x00\x00\x09", "PUBLISH will"),
    0x03: ("Content Type", text("c"), "PUBLISH will"),
    0x08: ("Response Topic", text("r"), "PUBLISH will"),
    0x09: ("Correlation Data", text("d"), "PUBLISH will"),
    0x0B: ("Subscription Identifier", b"\x01", "SUBSCRIBE"),
    0x11: ("Session Expiry Interval", b"\x00\x00\x00\x00", "CONNECT DISCONNECT"),
    0x12: ("Assigned Client Identifier", text("c"), ""),
    0x13: ("Server Keep Alive", b"\x00\x09", ""),
    0x15: ("Authentication Method", text("m"), "CONNECT AUTH"),
    0x16: ("Authentication Data", text("d"), "CONNECT AUTH"),
    0x17: ("Request Problem Information", b"\x01", "CONNECT"),
    0x18: ("Will Delay Interval", b"\x00\x00\x00\x00", "will"),
    0x19: ("Request Response Information", b"\x00", "CONNECT"),
    0x1A: ("Response Information", text("i"), ""),
    0x1C: ("Server Reference", text("s"), ""),
    0x1F: ("Reason String", text("r"), "PUBACK PUBREC PUBREL PUBCOMP DISCONNECT AUTH"),
    0x21: ("Receive Maximum", b"\x00\x09", "CONNECT"),
    0x22: ("Topic Alias Maximum", b"\x00\x09", "CONNECT"),
    0x23: ("Topic Alias", b"\x00\x01", "PUBLISH"),
    0x24: ("Maximum QoS", b"\x01", ""),
    0x25: ("Retain Available", b"\x01", ""),
    0x27: ("Maximum Packet Size", b"\x00\x00\x10\x00", "CONNECT"),
    0x28: ("Wildcard Subscription Available", b"\x01", ""),
    0x29: ("Subscription Identifier Available", b"\x01", ""),
    0x2A: ("Shared Subscription Available", b"\x01", ""),
    0x00: ("the unknown property 0x00", b"\x00", ""),
    0x04: ("the unknown property 0x04", b"\x00", ""),
    0x7F: ("the unknown property 0x7F", b"\x00", ""),
}
"""Table 2-4 of the specification: what a client may send where. User Property may be anywhere."""

_OF_SERVER = {(0x0B, "PUBLISH"), (0x1C, "DISCONNECT")}
"""Properties of that packet, but only if the server sends it."""

_Builder = Callable[[bytes], bytes]


def _acknowledgement(first: int) -> _Builder:
    return lambda props: packet(first, PACKET_ID, b"\x00", props)


_PLACES: dict[str, _Builder] = {
    "CONNECT": lambda props: connect(5, text("c"), props=props),
    "will": lambda props: connect(5, text("c"), props, text("w"), text(""), flags=0x06),
    "PUBLISH": lambda props: packet(0x30, text("t"), props),
    "PUBACK": _acknowledgement(0x40),
    "PUBREC": _acknowledgement(0x50),
    "PUBREL": _acknowledgement(0x62),
    "PUBCOMP": _acknowledgement(0x70),
    "SUBSCRIBE": lambda props: packet(0x82, PACKET_ID, props, text("t"), b"\x00"),
    "UNSUBSCRIBE": lambda props: packet(0xA2, PACKET_ID, props, text("t")),
    "DISCONNECT": lambda props: packet(0xE0, b"\x00", props),
    "AUTH": lambda props: packet(0xF0, b"\x18", props),
}
_OF_CONNECT = ("CONNECT", "will")


def _case(name: str, place: str, props: bytes, code: int, *numbers: str) -> Case:
    data = _PLACES[place](props)
    if place in _OF_CONNECT:
        return instead_of_connect(name, 5, data, code, *numbers, "3.1.4-1")
    return after_connect(name, 5, data, code, *numbers, "4.13.1-1")


def _misplaced() -> Iterator[Case]:
    for identifier, (name, value, allowed) in _EXAMPLES.items():
        for place in _PLACES:
            if place in allowed.split():
                continue
            is_of_server = (identifier, place) in _OF_SERVER
            code = PROTOCOL_ERROR if is_of_server else 0x81
            numbers = ("3.3.4-6",) if (identifier, place) == (0x0B, "PUBLISH") else ()
            props = properties(bytes([identifier]), value)
            yield _case(f"{name} in {place}", place, props, code, *numbers)


def _twice() -> Iterator[Case]:
    for identifier, (name, value, allowed) in _EXAMPLES.items():
        for place in allowed.split():
            before = b"\x15" + text("m") if identifier == 0x16 else b""
            props = properties(before, (bytes([identifier]) + value) * 2)
            yield _case(f"{name} twice in {place}", place, props, PROTOCOL_ERROR)


def _cut_off() -> Iterator[Case]:
    for identifier, (name, value, allowed) in _EXAMPLES.items():
        for place in allowed.split()[:1]:
            for length in range(len(value)):
                props = properties(bytes([identifier]), value[:length])
                yield _case(f"{name} of {length} bytes in {place}", place, props, 0x81)


def _lengths() -> Iterator[Case]:
    for place in _PLACES:
        name = f"Property Length of 5 bytes in {place}"
        yield _case(name, place, b"\x80\x80\x80\x80\x01", 0x81, "1.5.5-1")
        yield _case(f"Property Length 0 in two bytes in {place}", place, b"\x80\x00", 0x81, "1.5.5-1")
        yield _case(f"Property Length beyond {place}", place, b"\x7f", 0x81, "2.2.2-1")
    identifier = properties(b"\x0b\x81\x00")
    yield _case("Subscription Identifier in two bytes", "SUBSCRIBE", identifier, 0x81, "1.5.5-1")
    identifier = properties(b"\x0b\xff\xff\xff\xff\x01")
    yield _case("Subscription Identifier in five bytes", "SUBSCRIBE", identifier, 0x81, "1.5.5-1")
    yield after_connect("PUBLISH without Property Length", 5, packet(0x30, text("t")), 0x81, "2.2.2-1")
    missing = packet(0x10, text("MQTT"), b"\x05\x02\x00\x3c")
    yield instead_of_connect("CONNECT without Property Length", 5, missing, 0x81, "2.2.2-1", "3.1.4-1")


def _values() -> Iterator[Case]:
    for place, identifier, value, code, numbers in (
        ("PUBLISH", 0x01, b"\x02", 0x82, ()),
        ("PUBLISH", 0x01, b"\xff", 0x82, ()),
        ("will", 0x01, b"\x02", 0x82, ()),
        ("CONNECT", 0x17, b"\x02", 0x82, ()),
        ("CONNECT", 0x19, b"\x02", 0x82, ()),
        ("CONNECT", 0x21, b"\x00\x00", 0x82, ()),
        ("CONNECT", 0x27, b"\x00\x00\x00\x00", 0x82, ()),
        ("CONNECT", 0x16, text("data"), 0x82, ()),
        ("AUTH", 0x16, text("data"), 0x82, ()),
        ("SUBSCRIBE", 0x0B, b"\x00", 0x82, ()),
        ("PUBLISH", 0x23, b"\x00\x00", 0x94, ("3.3.2-8",)),
        ("PUBLISH", 0x23, b"\xff\xff", 0x94, ("3.3.2-9",)),
        ("PUBLISH", 0x08, text("a/#"), 0x82, ("3.3.2-14",)),
        ("PUBLISH", 0x08, text("+"), 0x82, ("3.3.2-14",)),
        ("PUBLISH", 0x08, text(""), 0x82, ("4.7.3-1",)),
        ("will", 0x08, text("a/+/b"), 0x82, ("3.3.2-14",)),
    ):
        name = f"{_EXAMPLES[identifier][0]} {value.hex()} in {place}"
        yield _case(name, place, properties(bytes([identifier]), value), code, *numbers)


CASES = [*_misplaced(), *_twice(), *_cut_off(), *_lengths(), *_values()]
