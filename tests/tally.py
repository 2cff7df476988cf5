"""Lets the summary of one run count the results of an earlier one: `-p tests.tally`.

CI runs the conformance suite and the browser by themselves, within their own time, and then the rest.
`--write-tally FILE` writes how many tests came out how; `--add-tally FILE` adds that to the last line of a
run, which so is the summary of the whole suite. A run that fails ends CI, so only runs without failures are
ever added.
"""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

_COUNTED = ("passed", "skipped", "xfailed")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tally")
    group.addoption("--write-tally", type=Path, help="write how many tests came out how")
    group.addoption(
        "--add-tally",
        type=Path,
        action="append",
        default=[],
        help="count the tests of an earlier run in the last line too; may be given several times",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None]:
    yield
    stats = terminalreporter.stats
    written: Path | None = config.getoption("--write-tally")
    if written is not None:
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps({each: len(stats[each]) for each in _COUNTED if each in stats}))
    tallies: list[Path] = config.getoption("--add-tally")
    for added in tallies:
        earlier: dict[str, int] = json.loads(added.read_text())
        for outcome, count in earlier.items():
            stats.setdefault(outcome, []).extend([added] * count)
        shown = ", ".join(f"{count} {outcome}" for outcome, count in earlier.items())
        terminalreporter.write_line(f"The last line counts those of {added} too: {shown}.")
