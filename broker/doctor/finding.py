"""What was found, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    """A node does not start with it, or does not serve."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    level: Level
    about: str
    found: str
    advice: str = ""


def ok(about: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(Level.OK, about, found)


def warn(about: str, found: str, advice: str) -> Finding:
    """It works, and may not for long."""
    return Finding(Level.WARN, about, found, advice)


def fail(about: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(Level.FAIL, about, found, advice)
