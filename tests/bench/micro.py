"""What the hot path costs in instructions, and whether that has changed: `make micro`.

All cases run in one process under valgrind (`--tool=callgrind`), which counts every instruction of the
interpreter and of compiled code. Times differ from run to run by 10 %, these counts by 1 % at most,
however busy the machine is; they don't see caches, branches and the kernel.

Each case is done OPERATIONS times to warm up, then as often again, then three times as often. The difference
of the last two is the cost of twice OPERATIONS: what a run costs beside its operations cancels. The worker
marks the runs by a call of getppid(), at which callgrind writes down what it has counted since the last one.
"""

import argparse
import gc
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import orjson

import broker.routing.router
from tests.bench import codec, matching, packing, routing, transit
from tests.bench.case import Case
from tests.tools import find_tool

CASES: Final[tuple[Case, ...]] = (
    *codec.CASES,
    *matching.CASES,
    *packing.CASES,
    *routing.CASES,
    *transit.CASES,
)
OPERATIONS: Final = 400
BASELINE: Final = Path(__file__).with_name("baseline.json")
_RUNS: Final = 3  # per case, each ended by a mark; one more mark begins the first
_TOTAL: Final = re.compile(rb"^totals: (\d+)$", re.MULTILINE)

Counts = Mapping[str, float]
"""Instructions per operation, by the name of the case."""
Baseline = dict[str, dict[str, object]]
"""By build (compiled or pure): what it was measured with, and its counts."""


class MicroFailed(Exception):
    """Nothing could be measured; the message says why."""


def work_through(cases: Sequence[Case], operations: int) -> None:
    """What the worker does: all runs of all cases, marked."""
    gc.collect()
    gc.disable()
    os.getppid()
    for case in cases:
        work = case.make()
        for times in (1, 1, 3):
            case.repeat(work, times * operations)
            os.getppid()


def per_operation(cases: Sequence[Case], operations: int, totals: Sequence[int]) -> Counts:
    """From the instructions between the marks. Raises MicroFailed if there are not as many as there should
    be."""
    if len(totals) != len(cases) * _RUNS:
        raise MicroFailed(f"{len(totals)} counts of {len(cases)} cases: callgrind saw other marks than ours")
    counts: dict[str, float] = {}
    for i, case in enumerate(cases):
        _, once, thrice = totals[i * _RUNS : (i + 1) * _RUNS]
        done = [case.operations * -(-times * operations // case.operations) for times in (1, 3)]
        counts[case.name] = round((thrice - once) / (done[1] - done[0]), 1)
    return counts


def total_of(dump: bytes) -> int:
    """The instructions in a file of callgrind. Raises MicroFailed."""
    found = _TOTAL.search(dump)
    if found is None:
        raise MicroFailed("a file of callgrind without a total")
    return int(found[1])


def measure(cases: Sequence[Case], operations: int) -> Counts:
    """Runs the worker under valgrind. Raises MicroFailed."""
    valgrind = find_tool("valgrind")
    if valgrind is None:
        raise MicroFailed("valgrind is not installed (apt-get install valgrind)")
    with tempfile.TemporaryDirectory(prefix="moorline-micro-") as directory:
        out = Path(directory, "dump")
        command = [
            valgrind, "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}",
            sys.executable, "-m", "tests.bench.micro", "--worker",
        ]  # fmt: skip
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise MicroFailed(done.stderr[-2000:])
        # The first ends at the first mark, the one without a number has what follows the last.
        dumps = sorted(out.parent.glob("dump.*"), key=lambda path: int(path.suffix[1:]))[1:]
        return per_operation(cases, operations, [total_of(path.read_bytes()) for path in dumps])


def build_name() -> str:
    """Of the packages that are imported here."""
    return "pure" if broker.routing.router.__file__.endswith(".py") else "compiled"


def describe_tools(build: str) -> str:
    """What else decides how many instructions there are."""
    python = f"Python {platform.python_version()} on {platform.machine()}"
    return f"{python}, mypyc {version('mypy')}" if build == "compiled" else python


def compare(baseline: Mapping[str, object], counts: Counts) -> list[str]:
    """A line for each case, and for what only the baseline has."""
    lines = [f"{'instructions per operation':<56}{'baseline':>10}{'now':>10}{'ratio':>8}"]
    for name, now in counts.items():
        was = baseline.get(name)
        known = was if isinstance(was, int | float) and was else None
        shown = f"{known:>10,.0f}{now:>10,.0f}{now / known:>8.3f}" if known else f"{'new':>10}{now:>10,.0f}"
        lines.append(f"{name:<56}{shown}")
    lines += [f"{name:<56}{'is gone':>10}" for name in baseline if name not in counts]
    return lines


def read_baseline(path: Path) -> Baseline:
    """Empty if there is none yet."""
    if not path.exists():
        return {}
    baseline: Baseline = orjson.loads(path.read_bytes())
    return baseline


def save(path: Path, build: str, tools: str, counts: Counts) -> None:
    """Replaces one build's part of the baseline."""
    baseline = read_baseline(path)
    baseline[build] = {"tools": tools, "instructions": dict(counts)}
    path.write_bytes(orjson.dumps(baseline, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def main(arguments: Sequence[str]) -> int:
    """Measures the build that is imported here, and shows the difference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--save", action="store_true", help="make this the baseline")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work_through(CASES, OPERATIONS)
        return 0
    try:
        counts = measure(CASES, OPERATIONS)
    except MicroFailed as error:
        print(f"micro: {error}", file=sys.stderr)
        return 2
    build = build_name()
    tools = describe_tools(build)
    stored = read_baseline(BASELINE).get(build, {})
    instructions = stored.get("instructions", {})
    print(f"\n{build}, {tools}" + (f" (the baseline: {stored['tools']})" if stored else ""))
    print("\n".join(compare(instructions if isinstance(instructions, dict) else {}, counts)))
    if options.save:
        save(BASELINE, build, tools, counts)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
