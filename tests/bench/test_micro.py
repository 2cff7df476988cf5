"""The arithmetic of the micro-benchmarks, and that their cases do what they say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.case import Case
from tests.bench.micro import (
    BASELINE,
    CASES,
    MicroFailed,
    compare,
    per_operation,
    read_baseline,
    save,
    total_of,
)
from tests.bench.routing import Bench
from tests.bench.timing import seconds_of

ONE = Case("one", 1, lambda: list)
TWENTY = Case("twenty", 20, lambda: list)


def test_what_a_run_costs_beside_its_operations_cancels() -> None:
    beside, warming = 5_000, 77_777
    totals = [warming, beside + 400 * 10, beside + 1200 * 10, warming, beside + 400 * 7, beside + 1200 * 7]
    assert per_operation([ONE, TWENTY], 400, totals) == {"one": 10.0, "twenty": 7.0}


def test_operations_that_are_done_in_whole_calls_are_counted_as_such() -> None:
    # 30 operations are two calls of 20, 90 are five.
    assert per_operation([TWENTY], 30, [0, 2 * 600, 5 * 600]) == {"twenty": 30.0}


def test_a_case_is_repeated_in_whole_calls() -> None:
    calls: list[int] = []
    TWENTY.repeat(lambda: calls.append(1), 30)
    assert len(calls) == 2


def test_marks_that_are_not_ours_are_noticed() -> None:
    with pytest.raises(MicroFailed, match="2 counts of 1 cases"):
        per_operation([ONE], 400, [1, 2])


def test_the_total_of_a_file_of_callgrind() -> None:
    assert total_of(b"# callgrind format\nevents: Ir\nfn=(1) main\n1 5\n\ntotals: 1234\n") == 1234
    with pytest.raises(MicroFailed):
        total_of(b"events: Ir\n")


def test_the_difference_has_what_is_new_and_what_is_gone() -> None:
    lines = compare({"same": 1000.0, "old": 5.0}, {"same": 1100.0, "young": 20.4})[1:]
    assert [line.split() for line in lines] == [
        ["same", "1,000", "1,100", "1.100"],
        ["young", "new", "20"],
        ["old", "is", "gone"],
    ]


def test_a_baseline_is_stored_build_by_build(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert read_baseline(path) == {}
    save(path, "pure", "Python 3", {"one": 1.0})
    save(path, "compiled", "Python 3", {"one": 2.0})
    save(path, "pure", "Python 4", {"two": 3.5})
    assert read_baseline(path) == {
        "compiled": {"tools": "Python 3", "instructions": {"one": 2.0}},
        "pure": {"tools": "Python 4", "instructions": {"two": 3.5}},
    }


@pytest.mark.parametrize("build", ["compiled", "pure"])
def test_the_baseline_knows_every_case(build: str) -> None:
    instructions = read_baseline(BASELINE)[build]["instructions"]
    assert isinstance(instructions, dict)
    assert set(instructions) == {case.name for case in CASES}
    assert len(instructions) == len(CASES)


def test_every_case_can_be_repeated() -> None:
    for case in CASES:
        assert seconds_of(case.make(), 3) > 0


@pytest.mark.parametrize(
    ("bench", "tick"),
    [
        (Bench(0), Bench.at_most_once),
        (Bench(0, topic_aliases=8), Bench.at_most_once),
        (Bench(1), Bench.at_least_once),
        (Bench(1, subscriber=True), Bench.at_least_once),
        (Bench(2, publisher=True, subscriber=True), Bench.exactly_once),
    ],
)
def test_nothing_is_left_over_after_each_tick(bench: Bench, tick: Callable[[Bench], None]) -> None:
    for _ in range(20):  # more than a window
        tick(bench)
        bench.check()
