"""Bytes that are no UTF-8 Encoded String, wherever a packet has one."""

from collections.abc import Callable, Iterator

from tests.conformance.malformed.case import (
    PACKET_ID,
    Case,
    after_connect,
    connect,
    instead_of_connect,
    of_version,
    packet,
    properties,
    text,
)

_BAD = {
    "a lone surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "an overlong slash": b"\xc0\xaf",
    "half a character": b"a\xe2\x82",
    "a stray continuation": b"\x80",
    "the byte FF": b"a\xffb",
    "a character beyond U+10FFFF": b"\xf4\x90\x80\x80",
}
_NUL = b"a\x00b"
_PAIR = "1.5.7-1"

_Builder = Callable[[bytes, int], bytes]


def _in_connect(identifier: int, *after: bytes) -> _Builder:
    return lambda bad, version: connect(
        version, text("c"), props=properties(bytes([identifier]), bad, *after)
    )


def _in_will(identifier: int, *after: bytes) -> _Builder:
    props = bytes([identifier])
    return lambda bad, version: connect(
        version, text("c"), properties(props, bad, *after), text("w"), text(""), flags=0x06
    )


def _in_publish(identifier: int, *after: bytes) -> _Builder:
    return lambda bad, version: packet(0x30, text("t"), properties(bytes([identifier]), bad, *after))


FIRST: list[tuple[str, _Builder, tuple[str, ...], tuple[str, ...]]] = [
    ("the Client Identifier", lambda bad, version: connect(version, bad), ("3.1.3-4",), ("3.1.3-4",)),
    (
        "the Will Topic",
        lambda bad, version: connect(version, text("c"), of_version(version), bad, text(""), flags=0x06),
        ("3.1.3-11",),
        ("3.1.3-10",),
    ),
    (
        "the User Name",
        lambda bad, version: connect(version, text("c"), bad, flags=0x82),
        ("3.1.3-12",),
        ("3.1.3-11",),
    ),
]
"""Strings of both versions in CONNECT, with the statements about them."""

FIRST_OF_5: list[tuple[str, _Builder, tuple[str, ...]]] = [
    ("the Authentication Method", _in_connect(0x15), ()),
    ("the name of a User Property of CONNECT", _in_connect(0x26, text("v")), (_PAIR,)),
    ("the Content Type of a will", _in_will(0x03), ()),
    ("the Response Topic of a will", _in_will(0x08), ()),
    ("the name of a User Property of a will", _in_will(0x26, text("v")), (_PAIR,)),
]

LATER: list[tuple[str, _Builder, tuple[str, ...], tuple[str, ...]]] = [
    (
        "the Topic Name",
        lambda bad, version: packet(0x30, bad, of_version(version)),
        ("3.3.2-1",),
        ("3.3.2-1",),
    ),
    (
        "a Topic Filter of SUBSCRIBE",
        lambda bad, version: packet(0x82, PACKET_ID, of_version(version), bad, b"\x00"),
        ("3.8.3-1",),
        ("3.8.3-1",),
    ),
    (
        "a Topic Filter of UNSUBSCRIBE",
        lambda bad, version: packet(0xA2, PACKET_ID, of_version(version), bad),
        ("3.10.3-1",),
        ("3.10.3-1",),
    ),
]

LATER_OF_5: list[tuple[str, _Builder, tuple[str, ...]]] = [
    ("the Response Topic", _in_publish(0x08), ("3.3.2-13",)),
    ("the Content Type", _in_publish(0x03), ("3.3.2-19",)),
    ("the name of a User Property", _in_publish(0x26, text("v")), (_PAIR,)),
    (
        "the value of a User Property",
        lambda bad, _: packet(0x30, text("t"), properties(b"\x26", text("n"), bad)),
        (_PAIR,),
    ),
    (
        "the Reason String of PUBACK",
        lambda bad, _: packet(0x40, PACKET_ID, b"\x00", properties(b"\x1f", bad)),
        (),
    ),
    (
        "the Reason String of DISCONNECT",
        lambda bad, _: packet(0xE0, b"\x00", properties(b"\x1f", bad)),
        (),
    ),
]
_WITH_TOPIC = (
    "the Will Topic",
    "the Topic Name",
    "a Topic Filter of SUBSCRIBE",
    "a Topic Filter of UNSUBSCRIBE",
)


def _in(
    place: str, build: _Builder, version: int, is_first: bool, numbers: tuple[str, ...]
) -> Iterator[Case]:
    chapter = "1.5.4" if version == 5 else "1.5.3"
    for name, bad in _BAD.items():
        data = build(text(bad), version)
        yield _case(f"{name} in {place}", version, data, is_first, (f"{chapter}-1", *numbers))
    of_topic = ("4.7.3-2",) if place in _WITH_TOPIC else ()
    data = build(text(_NUL), version)
    yield _case(f"U+0000 in {place}", version, data, is_first, (f"{chapter}-2", *of_topic))


def _case(name: str, version: int, data: bytes, is_first: bool, numbers: tuple[str, ...]) -> Case:
    if is_first:
        code = 0x81 if version == 5 else None
        return instead_of_connect(name, version, data, code, *numbers, "3.1.4-1")
    return after_connect(name, version, data, 0x81, *numbers)


def _all() -> Iterator[Case]:
    for is_first, places in ((True, FIRST), (False, LATER)):
        for place, build, of_5, of_3 in places:
            yield from _in(place, build, 5, is_first, of_5)
            yield from _in(place, build, 4, is_first, of_3)
    for is_first, places_of_5 in ((True, FIRST_OF_5), (False, LATER_OF_5)):
        for place, build, numbers in places_of_5:
            yield from _in(place, build, 5, is_first, numbers)


CASES = list(_all())
