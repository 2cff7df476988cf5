"""Everything after CONNECT that is too short, too long, or says what may not be said."""

from collections.abc import Iterator

from tests.conformance.malformed.case import (
    PACKET_ID,
    PROTOCOL_ERROR,
    Case,
    after_connect,
    cut,
    of_version,
    packet,
    properties,
    text,
)

_ZERO = b"\x00\x00"
_BOTH = (5, 4)


def _cut_off() -> Iterator[Case]:
    for version in _BOTH:
        props = of_version(version, b"\x02\x00\x00\x00\x09")
        publish = packet(0x32, text("t/opic"), PACKET_ID, props)
        yield from cut("PUBLISH at QoS 1", version, publish, set(), "3.3.2-1")
        subscribe = packet(0x82, PACKET_ID, of_version(version, b"\x0b\x01"), text("t/opic"), b"\x01")
        empty = 2 + len(of_version(version, b"\x0b\x01"))
        yield from cut("SUBSCRIBE", version, subscribe, {empty}, "3.8.3-1")
        unsubscribe = packet(0xA2, PACKET_ID, of_version(version), text("t/opic"))
        yield from cut("UNSUBSCRIBE", version, unsubscribe, {2 + len(of_version(version))}, "3.10.3-1")
        for name, first in (("PUBACK", 0x40), ("PUBREC", 0x50), ("PUBREL", 0x62), ("PUBCOMP", 0x70)):
            yield from cut(name, version, packet(first, PACKET_ID), set())
    reason = properties(b"\x1f" + text("why"))
    for name, first in (("PUBACK", 0x40), ("PUBREC", 0x50), ("PUBREL", 0x62), ("PUBCOMP", 0x70)):
        yield from cut(
            f"{name} with a reason", 5, packet(first, PACKET_ID, b"\x00", reason), {0, 1, 2, 3}, step=2
        )
    yield from cut("DISCONNECT with a reason", 5, packet(0xE0, b"\x04", reason), {0, 1})


def _left_over() -> Iterator[Case]:
    for version in _BOTH:
        for name, first, rest in (
            ("PINGREQ", 0xC0, b""),
            ("PUBACK", 0x40, PACKET_ID + (b"\x00\x00" if version == 5 else b"")),
            ("PUBREC", 0x50, PACKET_ID + (b"\x00\x00" if version == 5 else b"")),
            ("PUBREL", 0x62, PACKET_ID + (b"\x00\x00" if version == 5 else b"")),
            ("PUBCOMP", 0x70, PACKET_ID + (b"\x00\x00" if version == 5 else b"")),
            ("DISCONNECT", 0xE0, b"\x00\x00" if version == 5 else b""),
        ):
            for more in (b"\x00", b"\xc0\x00"):
                data = packet(first, rest, more)
                yield after_connect(f"{name} and {len(more)} bytes more", version, data)
        data = packet(0x82, PACKET_ID, of_version(version), text("t"))
        yield after_connect(
            "a Topic Filter without options", version, data, 0x81, "3.8.3-2" if version == 5 else "3.8.3-3"
        )


def _packet_ids() -> Iterator[Case]:
    for version in _BOTH:
        numbers = ("2.2.1-3",) if version == 5 else ("2.3.1-1",)
        none = of_version(version)
        for name, data in (
            ("PUBLISH at QoS 1", packet(0x32, text("t"), _ZERO, none)),
            ("PUBLISH at QoS 2", packet(0x34, text("t"), _ZERO, none)),
            ("SUBSCRIBE", packet(0x82, _ZERO, none, text("t"), b"\x00")),
            ("UNSUBSCRIBE", packet(0xA2, _ZERO, none, text("t"))),
        ):
            yield after_connect(f"{name} with Packet Identifier 0", version, data, PROTOCOL_ERROR, *numbers)
        for name, first in (("PUBACK", 0x40), ("PUBREC", 0x50), ("PUBREL", 0x62), ("PUBCOMP", 0x70)):
            data = packet(first, _ZERO)
            yield after_connect(f"{name} with Packet Identifier 0", version, data, PROTOCOL_ERROR)


def _topics() -> Iterator[Case]:
    for version in _BOTH:
        none = of_version(version)
        wildcard = "4.7.0-1" if version == 5 else "4.7.1-1"
        for topic in ("#", "+", "a/#", "a/+/b", "a#", "+a"):
            data = packet(0x30, text(topic), none)
            yield after_connect(f"PUBLISH to {topic!r}", version, data, 0x81, "3.3.2-2", wildcard)
        data = packet(0x30, text(""), none)
        yield after_connect("PUBLISH to an empty topic", version, data, PROTOCOL_ERROR, "4.7.3-1")
        multi, single = ("4.7.1-1", "4.7.1-2") if version == 5 else ("4.7.1-2", "4.7.1-3")
        for filter, number in (
            ("a#", multi),
            ("a/#/b", multi),
            ("#/a", multi),
            ("a/b#", multi),
            ("##", multi),
            ("a+", single),
            ("+a/b", single),
            ("a/+b", single),
            ("a/b+/c", single),
            ("++", single),
            ("", "4.7.3-1"),
        ):
            data = packet(0x82, PACKET_ID, none, text(filter), b"\x00")
            yield after_connect(f"SUBSCRIBE to {filter!r}", version, data, 0x81, number)
            data = packet(0xA2, PACKET_ID, none, text(filter))
            yield after_connect(f"UNSUBSCRIBE from {filter!r}", version, data, 0x81, number)
    for filter, number in (
        ("$share//t", "4.8.2-1"),
        ("$share/", "4.8.2-1"),
        ("$share/group", "4.8.2-2"),
        ("$share/group/", "4.8.2-2"),
        ("$share/gr+oup/t", "4.8.2-2"),
        ("$share/gr#oup/t", "4.8.2-2"),
        ("$share/+/t", "4.8.2-2"),
        ("$share/group/t#", "4.7.1-1"),
    ):
        data = packet(0x82, PACKET_ID, b"\x00", text(filter), b"\x00")
        yield after_connect(f"SUBSCRIBE to {filter!r}", 5, data, 0x81, number)


def _subscriptions() -> Iterator[Case]:
    for version in _BOTH:
        none = of_version(version)
        number = "3.8.3-2" if version == 5 else "3.8.3-3"
        data = packet(0x82, PACKET_ID, none)
        yield after_connect("SUBSCRIBE without a Topic Filter", version, data, PROTOCOL_ERROR, number)
        data = packet(0xA2, PACKET_ID, none)
        yield after_connect("UNSUBSCRIBE without a Topic Filter", version, data, PROTOCOL_ERROR, "3.10.3-2")
        data = packet(0x82, PACKET_ID, none, text("t"), b"\x03")
        numbers = () if version == 5 else ("3.8.3-4",)
        yield after_connect("SUBSCRIBE for QoS 3", version, data, PROTOCOL_ERROR, *numbers)
        second = packet(0x82, PACKET_ID, none, text("t"), b"\x00", text("u"), b"\x03")
        yield after_connect(
            "SUBSCRIBE for QoS 3 behind a valid one", version, second, PROTOCOL_ERROR, *numbers
        )
    for options in (0x40, 0x80, 0xC0, 0x41):
        data = packet(0x82, PACKET_ID, b"\x00", text("t"), bytes([options]))
        yield after_connect(f"Subscription Options {options:08b}", 5, data, 0x81, "3.8.3-5")
    data = packet(0x82, PACKET_ID, b"\x00", text("t"), b"\x30")
    yield after_connect("Retain Handling 3", 5, data, PROTOCOL_ERROR)
    data = packet(0x82, PACKET_ID, b"\x00", text("$share/g/t"), b"\x04")
    yield after_connect("No Local on a Shared Subscription", 5, data, PROTOCOL_ERROR, "3.8.3-4")
    for options in (0x04, 0x08, 0x10, 0x80, 0xFF):
        data = packet(0x82, PACKET_ID, text("t"), bytes([options]))
        yield after_connect(f"requested QoS {options:02X}", 4, data, 0x81, "3.8.3-4")


def _reason_codes() -> Iterator[Case]:
    for name, first, codes, number in (
        ("PUBACK", 0x40, (0x01, 0x11, 0x18, 0x81, 0x92, 0xFF), "3.4.2-1"),
        ("PUBREC", 0x50, (0x01, 0x11, 0x18, 0x81, 0x92, 0xFF), "3.5.2-1"),
        ("PUBREL", 0x62, (0x01, 0x10, 0x80, 0x91, 0xFF), "3.6.2-1"),
        ("PUBCOMP", 0x70, (0x01, 0x10, 0x80, 0x91, 0xFF), "3.7.2-1"),
    ):
        for code in codes:
            data = packet(first, PACKET_ID, bytes([code]))
            yield after_connect(f"{name} with reason {code:02X}", 5, data, PROTOCOL_ERROR, number)
    for code in (0x01, 0x10, 0x18, 0x84, 0x8D, 0x8E, 0x9E, 0xFF):
        data = packet(0xE0, bytes([code]))
        yield after_connect(f"DISCONNECT with reason {code:02X}", 5, data, PROTOCOL_ERROR, "3.14.2-1")
    for code in (0x00, 0x01, 0x80, 0xFF):
        data = packet(0xF0, bytes([code]), properties(b"\x15" + text("m")))
        yield after_connect(f"AUTH with reason {code:02X}", 5, data, PROTOCOL_ERROR, "3.15.2-1")


def _lengths() -> Iterator[Case]:
    for version in _BOTH:
        numbers = ("1.5.5-1",) if version == 5 else ("4.8.0-1",)
        data = b"\x30\xff\xff\xff\xff\x01"
        yield after_connect("Remaining Length in five bytes", version, data, 0x81, *numbers)
        data = b"\x30\x80\x80\x80\x80\x00"
        yield after_connect("Remaining Length 0 in five bytes", version, data, 0x81, *numbers)
        data = b"\x30\xff\xff\xff\x7f"
        yield after_connect("a packet of 256 MiB", version, data, 0x95)
        data = packet(0x30, b"\xff\xfft")
        yield after_connect("a Topic Name longer than its packet", version, data, 0x81, "3.3.2-1")
    for name, data in (
        ("PINGREQ", b"\xc0\x80\x00"),
        ("PUBACK", b"\x40\x82\x00" + PACKET_ID),
        ("PUBLISH", b"\x30\x84\x80\x00" + text("t") + b"\x00"),
        ("SUBSCRIBE", b"\x82\x87\x00" + PACKET_ID + b"\x00" + text("t") + b"\x00"),
        ("DISCONNECT", b"\xe0\x80\x80\x80\x00"),
    ):
        yield after_connect(f"Remaining Length of {name} longer than needed", 5, data, 0x81, "1.5.5-1")


def _states() -> Iterator[Case]:
    alias = packet(0x30, text(""), properties(b"\x23\x00\x05"))
    yield after_connect("a Topic Alias that stands for nothing", 5, alias, PROTOCOL_ERROR)
    known = packet(0x30, text("t"), properties(b"\x23\x00\x05"))
    other = packet(0x30, text(""), properties(b"\x23\x00\x06"))
    yield after_connect("another Topic Alias than was set", 5, known + other, PROTOCOL_ERROR)
    for code in (0x18, 0x19):
        data = packet(0xF0, bytes([code]), properties(b"\x15" + text("m")))
        name = f"AUTH {code:02X} without a method in CONNECT"
        yield after_connect(
            name, 5, data, PROTOCOL_ERROR, "4.12.0-7", *(("4.12.1-1",) if code == 0x19 else ())
        )
    yield after_connect("AUTH 18 without properties", 5, packet(0xF0, b"\x18"), PROTOCOL_ERROR, "4.12.0-5")
    yield after_connect("AUTH without a rest", 5, packet(0xF0), PROTOCOL_ERROR, "4.12.0-7")
    data = packet(0xE0, b"\x00", properties(b"\x11\x00\x00\x00\x05"))
    yield after_connect("DISCONNECT that lengthens a Session Expiry Interval of 0", 5, data, PROTOCOL_ERROR)


CASES = [
    *_cut_off(),
    *_left_over(),
    *_packet_ids(),
    *_topics(),
    *_subscriptions(),
    *_reason_codes(),
    *_lengths(),
    *_states(),
]
