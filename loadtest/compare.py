"""Brokers beside each other on this machine: the same loads in turn, each run with a freshly started broker.

What a broker costs is counted with its Redis. Medians of the runs, and Moorline's number to each peer's.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

import orjson

from loadtest.matrix import Figure, Scenario
from loadtest.page import facts as facts_section
from loadtest.page import page, table_of_cells, verdict
from loadtest.peers import MOORLINE, PEERS, BrokerFailed, RunningBroker, allow_many_files
from loadtest.plot import bars
from loadtest.result import Json

_RUN_SECONDS: Final = 300.0
"""More than the longest load takes besides its duration."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is compared. Moorline is among the brokers, or there are no ratios."""

    scenarios: tuple[Scenario, ...]
    brokers: tuple[str, ...]
    runs: int
    duration_seconds: float

    @property
    def peers(self) -> tuple[str, ...]:
        """The others."""
        return tuple(name for name in self.brokers if name != MOORLINE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a figure with its numbers from all runs."""

    scenario: Scenario
    figure: Figure
    numbers: dict[str, list[float]]

    def value(self, broker: str) -> float | None:
        """The median of a broker's runs, or their sum; None if it has no number."""
        numbers = self.numbers.get(broker)
        if not numbers:
            return None
        return sum(numbers) if self.figure.adds_up else statistics.median(numbers)

    def ratio(self, peer: str) -> float | None:
        """Moorline's number to that of a peer: the median over the rounds, in each of which their runs follow
        one another, as a machine may be another one some minutes later; of sums it is that of the sums."""
        ours, theirs = self.numbers.get(MOORLINE, []), self.numbers.get(peer, [])
        if not self.figure.adds_up and len(ours) == len(theirs):
            ratios = [one / other for one, other in zip(ours, theirs, strict=True) if other]
            return statistics.median(ratios) if ratios else None
        value, its_value = self.value(MOORLINE), self.value(peer)
        return value / its_value if value is not None and its_value else None

    def shown_ratio(self, peer: str) -> str:
        """As people read it."""
        ratio = self.ratio(peer)
        return "-" if ratio is None else f"{ratio:.2f}x"


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that couldn't be made, or in which a broker broke a promise."""

    scenario: str
    broker: str
    text: str

    def __str__(self) -> str:
        return f"{self.scenario}, {self.broker}: {self.text}"


@dataclass(slots=True)
class Comparison:
    """The runs of a comparison, and what they have shown."""

    options: Options
    tell: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)
    runs: list[Json] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def measure(self) -> None:
        """Run all scenarios, the brokers alternately. A failed run is noted, and the next one made."""
        allow_many_files()
        brokers = self.options.brokers
        for scenario in self.options.scenarios:
            lines = [Line(scenario, figure, {name: [] for name in brokers}) for figure in scenario.figures]
            for number in range(self.options.runs):
                for name in brokers:
                    self._measure_once(lines, scenario, name, number)
            self.lines += lines
            for line in lines:
                self.tell("  ".join(cells(line, self.options)))

    def _measure_once(self, lines: Sequence[Line], scenario: Scenario, name: str, number: int) -> None:
        try:
            with (
                tempfile.TemporaryDirectory(prefix="moorline-compare-") as directory,
                PEERS[name].start(Path(directory)) as broker,
            ):
                result = run_load(scenario, broker, self.options.duration_seconds)
        except BrokerFailed as error:
            self._fail(scenario, name, str(error))
            return
        self.runs.append({"scenario": scenario.key, "broker": name, "run": number, **result})
        problems = result["problems"]
        if isinstance(problems, list) and problems:
            self._fail(scenario, name, "; ".join(map(str, problems)))
        for line in lines:
            if (value := line.figure.of(result["report"])) is not None:
                line.numbers[name].append(value)

    def _fail(self, scenario: Scenario, name: str, text: str) -> None:
        self.failures.append(Failure(scenario.key, name, text))
        self.tell(f"FAILED: {self.failures[-1]}")


def run_load(scenario: Scenario, broker: RunningBroker, duration_seconds: float) -> dict[str, Json]:
    """One run of the load generator: its report, and which promises were broken. Raises BrokerFailed."""
    arguments = [argument.format(duration=duration_seconds) for argument in scenario.arguments]
    command = [
        sys.executable, "-m", "loadtest", *arguments,
        "--broker", broker.address, "--pid", str(broker.pid), "--json", "-",
    ]  # fmt: skip
    if broker.redis_pid is not None:
        command += ["--redis-pid", str(broker.redis_pid)]
    limit = _RUN_SECONDS + duration_seconds
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        raise BrokerFailed(f"the load was not over after {limit:.0f} s") from error
    if done.returncode not in (0, 1):
        raise BrokerFailed(done.stderr.strip() or done.stdout)
    answer: dict[str, Json] = orjson.loads(done.stdout)
    return {"report": answer["report"], "problems": answer["problems"]}


def notes_on(versions: dict[str, str]) -> list[str]:
    """What the reader should know before using the figures."""
    if "(pure)" in versions.get(MOORLINE, ""):
        return ["this Moorline runs as pure Python; compiled it is several times as fast (see README.md)"]
    return []


def versions_of(brokers: Iterable[str]) -> dict[str, str]:
    """What the brokers are. Raises BrokerFailed if one of them is not installed."""
    return {name: PEERS[name].version() for name in brokers}


def cells(line: Line, options: Options) -> list[str]:
    """A line of the table: every broker's number, and the ratio after each peer's."""
    shown = [line.scenario.title, line.figure.name]
    for name in options.brokers:
        shown.append(line.figure.show(line.value(name)))
        if name != MOORLINE and MOORLINE in options.brokers:
            shown.append(line.shown_ratio(name))
    return shown


def headings(options: Options, titles: dict[str, str]) -> list[str]:
    """Above the cells. Brokers are called by their titles."""
    head = ["load", "figure"]
    for name in options.brokers:
        head.append(titles.get(name, name))
        if name != MOORLINE and MOORLINE in options.brokers:
            head.append("ratio")
    return head


def render_table(comparison: Comparison, notes: Sequence[str] = ()) -> str:
    """Text for people."""
    options = comparison.options
    rows = [headings(options, {}), *(cells(line, options) for line in comparison.lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def aligned(row: list[str]) -> str:
        texts = [f"{cell:<{width}}" for cell, width in zip(row[:2], widths, strict=False)]
        numbers = [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        return "  ".join([*texts, *numbers]).rstrip()

    return "\n".join([*map(aligned, rows), *(f"note: {note}" for note in notes)])


def render_json(comparison: Comparison, facts: dict[str, str]) -> bytes:
    """All numbers of all runs, for programs."""
    options = comparison.options
    figures = [
        {
            "scenario": line.scenario.key,
            "figure": line.figure.name,
            "unit": line.figure.unit,
            "numbers": line.numbers,
            "values": {name: line.value(name) for name in options.brokers},
            "ratios": {name: line.ratio(name) for name in options.peers},
        }
        for line in comparison.lines
    ]
    whole = {
        "scenario": "compare",
        "brokers": options.brokers,
        "runs_each": options.runs,
        "duration_seconds": options.duration_seconds,
        "facts": facts,
        "figures": figures,
        "failures": [str(failure) for failure in comparison.failures],
        "runs": comparison.runs,
    }
    return orjson.dumps(whole) + b"\n"


def render_html(comparison: Comparison, facts: dict[str, str], notes: Sequence[str] = ()) -> str:
    """The table with a bar for each broker."""
    options = comparison.options
    rows = [
        [*(f"<td>{escape(cell)}</td>" for cell in row[:2]), f"<td>{bars(_values(line, options))}</td>"]
        + [f'<td class="number">{escape(cell)}</td>' for cell in row[2:]]
        for line, row in ((line, cells(line, options)) for line in comparison.lines)
    ]
    head = headings(options, {})
    keys = "".join(
        f'<span class="key"><svg viewBox="0 0 24 8"><rect class="bar s{place}" width="24" height="8"/></svg>'
        f"{escape(name)}</span>"
        for place, name in enumerate(options.brokers)
    )
    about = (
        f"Medians of {options.runs} runs of {options.duration_seconds:g} s, each with a freshly started"
        " broker; what was lost is the sum. CPU and memory are those of the broker and its Redis together."
        " A ratio is Moorline's number to that of the column before: the median of those of the rounds."
    )
    return page(
        f"Moorline beside {', '.join(options.peers) or 'nobody'}",
        verdict([str(failure) for failure in comparison.failures], "Every broker kept its promises."),
        "".join(f'<p class="faint">{escape(note)}</p>' for note in [about, *notes]),
        f'<p class="legend">{keys}</p>',
        table_of_cells([*head[:2], "", *head[2:]], rows),
        facts_section(facts),
    )


def _values(line: Line, options: Options) -> list[float | None]:
    return [line.value(name) for name in options.brokers]
