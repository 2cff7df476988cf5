"""What parent and worker tell each other: settings on standard input, a report on standard output.

Neither is on the command line nor in the environment, which other people may see: the Redis URL may hold a
password.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from broker.flags import Sources
from broker.settings import Settings, dump, restore

_KEYS: Final = {"settings", "admin", "parent", "given", "flags", "config"}


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker has to do."""

    settings: Settings
    admin: Path
    """The unix socket at which it answers its parent's questions."""
    parent: int
    """The process with which it ends."""
    given: Settings
    """What the command was given, which the parent has made the settings of."""
    sources: Sources
    """From where, to be read again."""

    def to_bytes(self) -> bytes:
        """For `read_assignment`."""
        return orjson.dumps(
            {
                "settings": dump(self.settings),
                "admin": str(self.admin),
                "parent": self.parent,
                "given": dump(self.given),
                "flags": self.sources.flags,
                "config": None if self.sources.config is None else str(self.sources.config),
            },
            default=str,  # a path
        )


def read_assignment(given: bytes) -> Assignment:
    """ValueError if it is none."""
    values = orjson.loads(given)
    if not isinstance(values, dict) or set(values) != _KEYS:
        raise ValueError("not an assignment")
    config = None if values["config"] is None else Path(values["config"])
    return Assignment(
        restore(values["settings"]),
        Path(values["admin"]),
        int(values["parent"]),
        restore(values["given"]),
        Sources(values["flags"], config),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """A line from a worker: clients can connect, or why they never will (one or more lines of text)."""

    refusal: str | None = None

    @property
    def is_up(self) -> bool:
        """Whether it serves."""
        return self.refusal is None

    def to_line(self) -> str:
        """For `read_report`; without the line's end."""
        return orjson.dumps({"refusal": self.refusal}).decode()


def read_report(line: bytes) -> Report | None:
    """None for a line that is something else."""
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return Report(values["refusal"]) if isinstance(values, dict) and "refusal" in values else None
