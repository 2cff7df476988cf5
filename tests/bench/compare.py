"""Compare Moorline with mosquitto on this machine: `make bench`.

Both brokers get the same loads in turn, each run with a freshly started broker; the table shows medians. The
cost of Moorline is that of the node and its Redis or Valkey together. A whole run (no --only, --broker or
--quick) writes the table to docs/benchmarks.md and the report of each run to docs/benchmarks.json.
"""

import argparse
import datetime
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from tests.bench.brokers import (
    BrokerFailed,
    RunningBroker,
    moorline_version,
    mosquitto_version,
    running_moorline,
    running_mosquitto,
)
from tests.bench.scenario import SCENARIOS, Figure, Json, Scenario

Starter = Callable[[Path], AbstractContextManager[RunningBroker]]

BROKERS: Final[dict[str, Starter]] = {"moorline": running_moorline, "mosquitto": running_mosquitto}
_ROOT: Final = Path(__file__).resolve().parents[2]
_RUN_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    scenarios: tuple[Scenario, ...]
    brokers: tuple[str, ...]
    runs: int
    duration_seconds: float
    write_to: Path | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a figure with its numbers from all runs."""

    scenario: Scenario
    figure: Figure
    numbers: dict[str, list[float]]

    def median(self, broker: str) -> float | None:
        """The median of a broker's runs; None if it has no number."""
        numbers = self.numbers.get(broker)
        return statistics.median(numbers) if numbers else None

    @property
    def ratio(self) -> str:
        """Moorline's number to mosquitto's."""
        ours, theirs = self.median("moorline"), self.median("mosquitto")
        return f"{ours / theirs:.2f}x" if ours is not None and theirs else "-"

    @property
    def verdict(self) -> str:
        """The goal, and whether it is met."""
        ours, theirs = self.median("moorline"), self.median("mosquitto")
        if self.figure.goal is None or ours is None or theirs is None:
            return self.figure.goal_text
        return f"{self.figure.goal_text} {'met' if self.figure.goal(ours, theirs) else 'MISSED'}"


def run_load(scenario: Scenario, broker: RunningBroker, duration_seconds: float) -> Json:
    """One run of the load generator. Raises BrokerFailed, also if the broker broke a promise."""
    arguments = [argument.format(duration=duration_seconds) for argument in scenario.arguments]
    command = [
        sys.executable, "-m", "loadtest", *arguments,
        "--broker", broker.address, "--pid", str(broker.pid), "--json", "-",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_RUN_SECONDS, check=False, cwd=_ROOT
    )
    if done.returncode != 0:
        raise BrokerFailed(f"{scenario.key} on {broker.name}: {done.stderr.strip() or done.stdout}")
    answer: Json = orjson.loads(done.stdout)
    return answer["report"] if isinstance(answer, dict) else None


class Comparison:
    """The runs of a comparison, and what they have shown."""

    def __init__(self, options: Options, tell: Callable[[str], None]) -> None:
        self._options = options
        self._tell = tell
        self.lines: list[Line] = []
        self.reports: list[Json] = []
        self.failures: list[str] = []

    def measure(self) -> None:
        """Run all scenarios, the brokers alternately. A failed run is noted, and the next one made."""
        brokers = self._options.brokers
        for scenario in self._options.scenarios:
            lines = [Line(scenario, figure, {name: [] for name in brokers}) for figure in scenario.figures]
            for number in range(self._options.runs):
                for name in brokers:
                    self._measure_once(lines, scenario, name, number)
            self.lines += lines
            for line in lines:
                self._tell("  ".join(_cells(line, brokers)))

    def _measure_once(self, lines: Sequence[Line], scenario: Scenario, name: str, number: int) -> None:
        try:
            with (
                tempfile.TemporaryDirectory(prefix="moorline-bench-") as directory,
                BROKERS[name](Path(directory)) as broker,
            ):
                report = run_load(scenario, broker, self._options.duration_seconds)
        except BrokerFailed as error:
            self.failures.append(f"{scenario.key}, {name}: {error}")
            self._tell(f"FAILED: {self.failures[-1]}")
            return
        self.reports.append({"scenario": scenario.key, "broker": name, "run": number, "report": report})
        for line in lines:
            if (value := line.figure.of(report)) is not None:
                line.numbers[name].append(value)


def _cells(line: Line, brokers: Sequence[str]) -> list[str]:
    shown = [line.figure.show(line.median(name)) for name in brokers]
    return [line.scenario.title, line.figure.name, *shown, line.ratio, line.verdict]


def describe_machine() -> str:
    """Processor, cores, memory and system of this machine in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()},"
        f" Python {platform.python_version()}"
    )


def render_markdown(comparison: Comparison, options: Options, command: str, versions: tuple[str, str]) -> str:
    """The page with the table; the versions are Moorline's and mosquitto's."""
    ours, theirs = versions
    headings = [
        "load",
        "figure",
        *(theirs if name == "mosquitto" else "Moorline" for name in options.brokers),
    ]
    rows = [[*headings, "ratio", "goal"], ["---"] * (len(headings) + 2)]
    rows += [_cells(line, options.brokers) for line in comparison.lines]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    failures = "".join(f"\n- Failed: {failure}" for failure in comparison.failures)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"""\
# Benchmarks

{ours} beside {theirs} on one machine, by `moorline loadtest` over the loopback, MQTT 3.1.1,
payloads of 16 bytes. Medians of {options.runs} runs of {options.duration_seconds:g} s, each with a freshly
started broker.

CPU-seconds and memory of Moorline are those of the node *and* its private Valkey or Redis. mosquitto keeps
everything in memory (no persistence); Moorline's persistent sessions are stored with an append-only file.

- Machine: {describe_machine()}
- Date: {today}
- Command: `{command}`{failures}

{table}
"""


def parse_options(arguments: Sequence[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    keys = [scenario.key for scenario in SCENARIOS]
    parser.add_argument("--only", action="append", choices=keys, help="one scenario; repeatable")
    parser.add_argument("--broker", action="append", choices=list(BROKERS), help="one broker; repeatable")
    parser.add_argument("--quick", action="store_true", help="one short run each: a look, not a measurement")
    parser.add_argument("--runs", type=int, help="runs per broker and scenario (3)")
    parser.add_argument("--duration", type=float, help="seconds per run (5)")
    parser.add_argument(
        "--output", type=Path, help="directory for benchmarks.md and .json (docs, for a whole run)"
    )
    chosen = parser.parse_args(arguments)
    whole = not (chosen.only or chosen.broker or chosen.quick)
    return Options(
        scenarios=tuple(s for s in SCENARIOS if not chosen.only or s.key in chosen.only),
        brokers=tuple(name for name in BROKERS if not chosen.broker or name in chosen.broker),
        runs=chosen.runs or (1 if chosen.quick else 3),
        duration_seconds=chosen.duration or (2.0 if chosen.quick else 5.0),
        write_to=chosen.output or (_ROOT / "docs" if whole else None),
    )


def main(arguments: Sequence[str]) -> int:
    """Run the comparison; 1 if a broker failed."""
    options = parse_options(arguments)
    command = shlex.join([".venv/bin/python", "-m", "tests.bench.compare", *arguments])
    try:
        versions = (moorline_version(), mosquitto_version())
    except BrokerFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    comparison = Comparison(options, lambda text: print(text, flush=True))
    comparison.measure()
    page = render_markdown(comparison, options, command, versions)
    print("\n" + page)
    if options.write_to is not None:
        options.write_to.mkdir(exist_ok=True)
        (options.write_to / "benchmarks.md").write_text(page)
        facts = {
            "machine": describe_machine(),
            "command": command,
            "versions": versions,
            "runs": comparison.reports,
            "failures": comparison.failures,
        }
        (options.write_to / "benchmarks.json").write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
    return 1 if comparison.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
