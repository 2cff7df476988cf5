"""The normative statements of MQTT 5.0 and 3.1.1, and how a test says which of them it is about.

`ids.tsv` is the list of all ids. `demands.tsv` says of each what it demands, in our own words, and whom it
binds: `server` needs tests; anything else is the reason why there need be none.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
VERSIONS = {"5.0": 5, "3.1.1": 4}
"""Protocol versions by the name of their specification."""
BINDS_SERVER = "server"


@dataclass(frozen=True)
class Statement:
    """One row of `demands.tsv`."""

    mqtt: str
    id: str
    binds: str
    demand: str

    @property
    def needs_tests(self) -> bool:
        """Whether a server has to do something for it."""
        return self.binds == BINDS_SERVER


def v5(*numbers: str) -> pytest.MarkDecorator:
    """The test is about these statements of MQTT 5.0, and runs in that version: `@v5("3.1.0-1")`."""
    return pytest.mark.clause("5.0", *[f"MQTT-{number}" for number in numbers])


def v3(*numbers: str) -> pytest.MarkDecorator:
    """The same for MQTT 3.1.1."""
    return pytest.mark.clause("3.1.1", *[f"MQTT-{number}" for number in numbers])


def statements() -> list[Statement]:
    """All of them, in the order of the list."""
    return [Statement(*row) for row in _rows("demands.tsv")]


def known_ids() -> list[tuple[str, str]]:
    """Version and id of everything in the list."""
    return [(row[0], row[1]) for row in _rows("ids.tsv")]


def _rows(name: str) -> list[list[str]]:
    with (HERE / name).open(newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
