"""What parent and worker tell each other: settings on standard input, a report on standard output.

Neither is on the command line nor in the environment, which other people may see: the Redis URL may hold a
password.
"""

from dataclasses import dataclass
from pathlib import Path

import orjson

from broker.settings import Settings, dump, restore


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker has to do."""

    settings: Settings
    admin: Path
    """The unix socket at which it answers its parent's questions."""
    parent: int
    """The process with which it ends."""

    def to_bytes(self) -> bytes:
        """For `read_assignment`."""
        return orjson.dumps(
            {"settings": dump(self.settings), "admin": str(self.admin), "parent": self.parent}
        )


def read_assignment(given: bytes) -> Assignment:
    """ValueError if it is none."""
    values = orjson.loads(given)
    if not isinstance(values, dict) or set(values) != {"settings", "admin", "parent"}:
        raise ValueError("not an assignment")
    return Assignment(restore(values["settings"]), Path(values["admin"]), int(values["parent"]))


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
