"""Durability levels: how well a message is to be kept before anybody is told that it is.

A level is a number: how many replicas have it, times two, and one more if the disk of the primary has it.
What Redis has answered is `STORED`, and nothing more is asked for that."""

from typing import Final

STORED: Final = 0


def make_level(replicas: int, is_fsynced: bool) -> int:
    """So many replicas have it; the disk of the primary, too."""
    return replicas << 1 | int(is_fsynced)


def replicas_of(level: int) -> int:
    """How many replicas are to have it."""
    return level >> 1


def is_fsynced(level: int) -> bool:
    """Whether the disk of the primary is to have it."""
    return level & 1 == 1


def stronger(one: int, other: int) -> int:
    """What promises all that each of them does."""
    return max(one >> 1, other >> 1) << 1 | (one | other) & 1


def level_name(level: int) -> str:
    """As it is written in settings."""
    names = []
    if level & 1:
        names.append("fsynced")
    if level >> 1:
        names.append(f"replicated({level >> 1})")
    return "+".join(names) or "stored"
