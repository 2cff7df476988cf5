"""Cuts bytes at the places that the fuzzer wants."""

from itertools import cycle


def cut(sizes: bytes, data: bytes) -> list[bytes]:
    """In turn as long as `sizes` say, and one byte more."""
    found: list[bytes] = []
    position = 0
    for size in cycle(sizes):
        if position >= len(data):
            break
        found.append(data[position : position + size + 1])
        position += size + 1
    return found
