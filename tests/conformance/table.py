"""Writes docs/conformance.md: `python -m tests.conformance.table`.

Every test it names has to pass in CI, and one that is expected to fail may not pass (`xfail_strict`). So what
the marks say is what a run of the suite shows.
"""

import importlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.conformance.clauses import HERE, VERSIONS, Statement, statements
from tests.conformance.malformed import CASES

PAGE = HERE.parent.parent / "docs" / "conformance.md"
ON_NODES = {"cluster", "flow", "strict_flow", "asking_flow"}
"""Fixtures that run a test on one node and on two."""

HEAD = """\
<!-- Written by `python -m tests.conformance.table`. Change the tests, or demands.tsv beside them. -->
# Conformance

Every normative statement of MQTT 5.0 and 3.1.1 by its id, what it demands in our own words, and the tests
that hold Moorline to it (`tests/conformance`). Each runs on raw bytes or a minimal client, on one node, and
on two where the halves of the flow (publisher and subscriber, the old connection and the new one) are on
different nodes. `make conformance` runs them all; `pytest tests/conformance -k MQTT-3.1.0-1` those of one
statement.

*passes*: every test does, in each run of CI. *open*: a test shows that the broker does not do this yet; the
suite fails as soon as it does, so that it is noticed. *inputs*: malformed packets and violations of the
protocol, which must end their own connection with the right code and no other.
"""


@dataclass(frozen=True)
class Reference:
    """A test, or how many of the malformed inputs, for one statement."""

    name: str
    is_on_nodes: bool
    is_open: bool = False


def references() -> dict[tuple[str, str], list[Reference]]:
    """By version and id."""
    found: dict[tuple[str, str], list[Reference]] = {}
    for module in _modules():
        for function in _tests(module):
            for mqtt, id in _clauses(function):
                found.setdefault((mqtt, id), []).append(_reference(module, function))
    inputs = Counter((case.mqtt, id) for case in CASES for id in case.ids)
    for key, count in inputs.items():
        found.setdefault(key, []).append(Reference(f"{count} input{'s' * (count > 1)}", True))
    return found


def page() -> str:
    """The whole page."""
    found = references()
    parts = [HEAD]
    for mqtt in VERSIONS:
        rows = [statement for statement in statements() if statement.mqtt == mqtt]
        parts.append(f"\n## MQTT {mqtt}\n\n{_summary(rows, found)}\n\n")
        parts.append("| Id | Demands | Tests | On one node | On two |\n|---|---|---|---|---|\n")
        parts.extend(_row(statement, found.get((mqtt, statement.id), [])) for statement in rows)
    return "".join(parts)


def _summary(rows: list[Statement], found: dict[tuple[str, str], list[Reference]]) -> str:
    bound = [row for row in rows if row.needs_tests]
    is_open = [row for row in bound if any(each.is_open for each in found.get((row.mqtt, row.id), []))]
    return (
        f"{len(rows)} statements; {len(bound)} bind the server: {len(bound) - len(is_open)} pass,"
        f" {len(is_open)} open."
    )


def _row(statement: Statement, tests: list[Reference]) -> str:
    cells = [test.name if test.name.endswith(("input", "inputs")) else f"`{test.name}`" for test in tests]
    if not statement.needs_tests:
        cells.insert(0, _reason(statement))
    status = _status(tests)
    demand = statement.demand.replace("|", "\\|").replace("#", "\\#")
    return f"| {statement.id} | {demand} | {', '.join(cells)} | {status} | {status} |\n"


def _status(tests: list[Reference]) -> str:
    """On one node and on two, as each test runs on both."""
    if not any(test.is_on_nodes for test in tests):
        return ""
    return "open" if any(test.is_open for test in tests) else "passes"


def _reason(statement: Statement) -> str:
    if statement.binds == "client":
        return "binds the client"
    return f"`{statement.binds}`" if statement.binds.startswith("tests/") else statement.binds


def _modules() -> list[str]:
    return [path.stem for path in sorted(HERE.glob("test_*.py"))]


def _tests(module: str) -> Iterator[Callable[..., object]]:
    loaded = importlib.import_module(f"tests.conformance.{module}")
    for name, function in vars(loaded).items():
        if name.startswith("test_") and inspect.isfunction(function):
            yield function


def _marks(function: Callable[..., object]) -> list[pytest.Mark]:
    marks: list[pytest.Mark] = getattr(function, "pytestmark", [])
    return marks


def _clauses(function: Callable[..., object]) -> Iterator[tuple[str, str]]:
    for mark in _marks(function):
        if mark.name == "clause":
            for id in mark.args[1:]:
                yield mark.args[0], id


def _reference(module: str, function: Callable[..., object]) -> Reference:
    names = {mark.name for mark in _marks(function)}
    return Reference(
        f"{module.removeprefix('test_')}.{function.__name__.removeprefix('test_')}",
        bool(ON_NODES & set(inspect.signature(function).parameters)),
        "xfail" in names,
    )


if __name__ == "__main__":
    PAGE.write_text(page())
