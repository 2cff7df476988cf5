"""Inputs that no client may send, as tables: what is wrong, and how the connection has to end."""

from tests.conformance.malformed import connects, flags, packets, props, strings, vectors
from tests.conformance.malformed.case import Case

TABLES: dict[str, list[Case]] = {
    "flags": flags.CASES,
    "strings": strings.CASES,
    "properties": props.CASES,
    "connects": connects.CASES,
    "packets": packets.CASES,
    "vectors": vectors.CASES,
}
CASES: list[Case] = [case for cases in TABLES.values() for case in cases]
