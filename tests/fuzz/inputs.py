"""Inputs to begin with: the table of packets, records as nodes write them, and what fuzzing has found.

What was found is kept as text, an input a line in hexadecimal, beside this file. `smallest` chooses what is
worth keeping: each input that goes a way through the sources which none before it went.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from broker.mqtt import MQTT_5, Puback, Subscribe, SubscriptionRequest, encode
from broker.routing.bursts import Bursts
from broker.routing.channel import Channel
from broker.routing.fields import pack_fields
from broker.session import Message
from cluster.store import inbox_records
from tests.fuzz.edge import edge_seeds
from tests.fuzz.target import HEADER, one_input
from tests.fuzz.tokens import token_seeds
from tests.mqtt.vectors import ACCEPTED, ACCEPTED_CONNECTS, REFUSED, wire

SAVED: Final = Path(__file__).with_name("corpus") / "saved.hex"
LONGEST: Final = 512
_CUTS: Final = bytes((6, 0))
_WHOLE: Final = bytes((255, 255))
_TEXT: Final = 4 * b"\x40\x02AA"  # PUBACK packets that pass for text, if a packet before them has no end
_ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = (str(_ROOT / "broker"), str(_ROOT / "cluster"))

_Way = tuple[str, int, int]


def saved() -> list[bytes]:
    """What was found before."""
    return [bytes.fromhex(line) for line in SAVED.read_text().split()]


def save(inputs: Iterable[bytes]) -> None:
    """In the order of their text, so that a diff is short."""
    SAVED.write_text("".join(f"{line}\n" for line in sorted(each.hex() for each in inputs)))


def seeds() -> list[bytes]:
    """What needs no finding."""
    found = []
    for vector in ACCEPTED + REFUSED:
        mode = (0, 0, 0, 1, 2, 3)[vector.version] | (0 if vector.from_client else 0b100)
        found.append(b"D" + bytes([mode]) + _CUTS + vector.data)
        found.append(found[-1] + _TEXT)
    found += [b"C\0" + cuts + stream for stream in _streams() for cuts in (_CUTS, _WHOLE)]
    found += [b"R\0" + _CUTS + record for record in _records()]
    found += [each[:2] + cuts + each[2:] for each in edge_seeds() for cuts in (_CUTS, _WHOLE)]
    found += [seed[:2] + _CUTS + seed[2:] for seed in token_seeds()]
    return [each for each in found if len(each) <= LONGEST]


def _streams() -> list[bytes]:
    """What clients send from the beginning on."""
    subscribe = Subscribe(1, [SubscriptionRequest("a", 1, False, False, 0)])
    rest = encode(subscribe, MQTT_5) + encode(Puback(1), MQTT_5) + wire("E0 00")
    aliases = wire("30 * 'a' 03 23 0001 31") + wire("30 * '' 03 23 0001 32") + wire("30 * '' 03 23 0002 33")
    method = wire("10 * 'MQTT' 05 02 003C 04 15 'm' 'c'")
    proof = wire("F0 * 18 04 15 'm'")
    found = [vector.data for vector in ACCEPTED_CONNECTS]
    found += [vector.data + rest for vector in ACCEPTED_CONNECTS]
    found += [
        ACCEPTED_CONNECTS[0].data + rest + rest,
        ACCEPTED_CONNECTS[0].data + aliases,
        method + proof + rest,
        method + rest,
    ]
    return found


def _records() -> list[bytes]:
    """What nodes write to each other."""
    plain = Message("t", b"payload", 1, True, b"\x03\x00\x01a", 2_000_000, "p", b"token")
    at_most_once = Message("t", b"payload", 0, False, b"", 0, "p")
    with_properties = Message("t", b"", 0, True, b"\x03\x00\x01a", 0, "p")
    channel = Channel()
    for message in (at_most_once, with_properties, plain):
        channel.add(message)
    channel.add_shared("g/t", plain)
    bursts = Bursts()
    for message in (at_most_once, with_properties, plain):
        bursts.add(message, message.retain, message.token)
    body = ("t", b"payload", b"", 0)
    return [
        inbox_records.pack_runs(channel.runs()),
        inbox_records.pack_bursts(bursts.packed),
        inbox_records.pack_direct([pack_fields(plain, True, b"token"), pack_fields(plain, False, b"")]),
        inbox_records.pack_handover([body], [("c", 1, (1, 1, False, (), 0, 2, 2, True, (5,), 0))]),
        inbox_records.pack_shared("g/t", "c", [("0-0", "1-0", b"entry")]),
        inbox_records.pack_kick("c", 5),
        inbox_records.pack_command("disconnect", b"{}"),
    ]


def smallest(inputs: Iterable[bytes]) -> list[bytes]:
    """Those that are needed to go all the ways, from line to line, that all of them go."""
    known: set[_Way] = set()
    for each in seeds():
        known |= _ways(each)
    found = []
    for each in sorted(set(inputs), key=lambda data: (len(data), data)):
        ways = _ways(each) if HEADER <= len(each) <= LONGEST else set()
        if not ways <= known:
            known |= ways
            found.append(each)
    return found


def _ways(data: bytes) -> set[_Way]:
    found: set[_Way] = set()

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(_SOURCES):
            return None
        last = 0

        def on_line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            line = -frame.f_lineno if event == "exception" else frame.f_lineno
            found.add((name, last, line))
            last = frame.f_lineno
            return on_line

        return on_line

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        one_input(data)
    finally:
        sys.settrace(before)
    return found
