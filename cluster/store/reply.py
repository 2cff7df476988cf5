"""Small steps of reading replies: they arrive as nested lists of bytes, integers and booleans.

A reply that is one record may be longer than we know: the library may be that of a newer release, which adds
at the end. So whoever reads one takes what it knows. Flat lists of pairs or triples stay what they are."""

from collections.abc import Iterator, Sequence
from typing import cast

from cluster.store.call import Reply


def as_list(reply: Reply) -> list[object]:
    """A reply that is a list. Raises TypeError for anything else: the library speaks another language."""
    if not isinstance(reply, list):
        raise TypeError(f"not a list: {reply!r}")
    return reply


def as_int(value: object) -> int:
    """Raises TypeError if it is none."""
    if not isinstance(value, int):
        raise TypeError(f"not an integer: {value!r}")
    return value


def as_bytes(value: object) -> bytes:
    """Raises TypeError if it is none."""
    if not isinstance(value, bytes):
        raise TypeError(f"not bytes: {value!r}")
    return value


def as_text(value: object) -> str:
    """Text, which arrives as bytes. Raises TypeError, ValueError."""
    return as_bytes(value).decode()


def in_pairs(flat: object) -> Iterator[tuple[object, object]]:
    """A flat list, two by two."""
    items = iter(as_list(flat))
    return zip(items, items, strict=True)


def in_triples(flat: object) -> Iterator[tuple[object, object, object]]:
    """A flat list, three by three."""
    items = iter(as_list(flat))
    return zip(items, items, items, strict=True)


def as_ints(values: object) -> Sequence[int]:
    """A list of integers."""
    return cast(list[int], as_list(values))
