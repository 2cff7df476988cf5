"""The cases of `make micro` in time, by pyperf: `make micro-time`, `make micro-time ARGS="--fast -o FILE"`.

For what instructions don't show: caches and branches. Takes minutes, and a machine that is quiet.
"""

import time

import pyperf  # type: ignore[import-untyped,import-not-found,unused-ignore]  # it has neither stubs nor a marker

from tests.bench.case import Case, Work
from tests.bench.micro import CASES, build_name

_INHERITED = "MOORLINE_PURE,PYTHONSAFEPATH"  # beside PYTHONPATH: which build a worker imports


def seconds_of(work: Work, loops: int) -> float:
    """What so many calls take."""
    calls = range(loops)
    started = time.perf_counter()
    for _ in calls:
        work()
    return time.perf_counter() - started


def bench(runner: "pyperf.Runner", case: Case) -> None:
    """Adds a case; what it works on is made by the worker that runs it, and again for each of its values."""

    def run(loops: int) -> float:
        return seconds_of(case.make(), loops)

    runner.bench_time_func(f"{case.name} ({build_name()})", run, inner_loops=case.operations)


def main() -> None:
    """Runs all cases, with the options of pyperf."""
    runner = pyperf.Runner(program_args=("-m", "tests.bench.timing"))
    runner.argparser.set_defaults(inherit_environ=_INHERITED.split(","))
    for case in CASES:
        bench(runner, case)


if __name__ == "__main__":
    main()
