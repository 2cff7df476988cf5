"""The result of a run as it is kept in a file: the report with all that a reader of it wants to know.

It carries its figures twice, as data and as lines for people: so a release can show it that does not know
the scenario.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import orjson

from loadtest.report import Report, Row

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_STRANGE: Final = "not a result of moorline loadtest"


class ResultError(ValueError):
    """A file is no result; the message says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was run, where, and what it has shown. `report` is JSON: the dataclass of the scenario."""

    scenario: str
    report: dict[str, Json]
    problems: list[str]
    title: str
    rows: list[Row]
    remarks: list[str]
    facts: dict[str, str]  # command, versions, machine

    @classmethod
    def of(cls, scenario: str, report: Report, facts: dict[str, str]) -> "Result":
        """Of a run that has just ended."""
        data: dict[str, Json] = orjson.loads(orjson.dumps(report))
        return cls(scenario, data, report.problems(), report.title, report.rows(), report.remarks(), facts)

    @classmethod
    def parse(cls, data: bytes) -> "Result":
        """What `json` wrote. Raises ResultError."""
        try:
            read: Json = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise ResultError(f"no JSON: {error}") from error
        kept = _object(read)
        return cls(
            scenario=_text(kept.get("scenario")),
            report=_object(kept.get("report")),
            problems=_texts(kept.get("problems")),
            title=_text(kept.get("title")),
            rows=[_row(row) for row in _list(kept.get("rows"))],
            remarks=_texts(kept.get("remarks")),
            facts={name: _text(value) for name, value in _object(kept.get("facts")).items()},
        )

    @classmethod
    def load(cls, path: Path) -> "Result":
        """From a file. Raises ResultError."""
        try:
            return cls.parse(path.read_bytes())
        except (OSError, ResultError) as error:
            raise ResultError(f"{path}: {error}") from error

    def json(self) -> bytes:
        """One line for programs."""
        return orjson.dumps(self) + b"\n"

    def table(self) -> str:
        """Text for people."""
        lines = [self.title, *aligned(self.rows)]
        return "\n".join([*lines, *(f"  note: {remark}" for remark in self.remarks)])


def _object(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise ResultError(_STRANGE)
    return value


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise ResultError(_STRANGE)
    return value


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise ResultError(_STRANGE)
    return value


def _texts(value: Json) -> list[str]:
    return [_text(each) for each in _list(value)]


def _row(value: Json) -> Row:
    row = _texts(value)
    if len(row) != 2:
        raise ResultError(_STRANGE)
    return row[0], row[1]


def aligned(rows: Sequence[Row]) -> list[str]:
    """Lines with the values below each other."""
    width = max((len(name) for name, _ in rows), default=0)
    return [f"  {name:<{width}}  {value}" for name, value in rows]
