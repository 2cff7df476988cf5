"""Numbers as people read them."""

from typing import Final

_UNITS: Final = ((86_400, "day"), (3600, "h"), (60, "min"))
_SIZES: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def duration(seconds: float) -> str:
    """43 s, 12 min, 3 h, 2 days: never more than it is."""
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            count = int(seconds // length)
            return f"{number(count)} {unit}{'s' if unit == 'day' else ''}"
    return f"{int(seconds)} s"


def number(count: int) -> str:
    """12,000"""
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """1 message, 2 messages"""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def are(count: int) -> str:
    """So many are, one is."""
    return "is" if count == 1 else "are"


def waits(count: int) -> str:
    """So many wait, one waits."""
    return "waits" if count == 1 else "wait"


def size(count: int) -> str:
    """1.5 MiB"""
    for length, unit in _SIZES:
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"
