"""Slow moments of the machine: found, and the steps without them told apart."""

import uvloop

from loadtest.cost import Pids
from loadtest.hiccups import Pace, Steadiness, metering
from loadtest.histogram import Histogram
from loadtest.timeline import Lap, Recorder

SECOND = 1_000_000_000


def at_microseconds(*latencies: int) -> Histogram:
    histogram = Histogram()
    for each in latencies:
        histogram.record(each)
    return histogram


def test_slow_is_what_takes_several_times_as_long_as_usual() -> None:
    pace = Pace.of([1, 2, 3, 4, 5], [10, 11, 31, 9, 35])
    assert pace.slow_ns == [5]
    assert pace.worst == 35 / 11


def test_a_machine_that_was_not_measured_was_not_slow() -> None:
    assert Pace.of([], []) == Pace([], 0.0)


def test_a_slow_moment_spoils_its_step_and_what_piles_up_after_it() -> None:
    pace = Pace([2 * SECOND], 5.0)
    assert pace.was_steady(0, 2 * SECOND - 1)
    assert not pace.was_steady(0, 2 * SECOND)
    assert not pace.was_steady(2 * SECOND, 3 * SECOND)
    assert not pace.was_steady(2 * SECOND + SECOND // 50, 3 * SECOND)
    assert pace.was_steady(2 * SECOND + SECOND // 10, 3 * SECOND)


def test_latencies_of_steady_steps_are_told_apart() -> None:
    steps = [
        (0, SECOND, at_microseconds(100, 200)),
        (SECOND, 2 * SECOND, at_microseconds(90_000)),
        (2 * SECOND, 3 * SECOND, at_microseconds(120)),
    ]
    found = Steadiness.of(Pace([SECOND + SECOND // 2], 12.04), steps)
    assert (found.steps, found.slow_steps, found.worst) == (3, 1, 12.0)
    assert found.latency_ms is not None
    assert (found.latency_ms.p50, found.latency_ms.max) == (0.12, 0.2)
    rows = dict(found.rows())
    assert rows["the machine was slow"] == "in 33 % of the steps, up to 12.0 times slower"
    assert rows["without these steps, latency p50 / p90 / p99 / p99.9 / max"].startswith("0.120 / ")


def test_a_machine_that_is_always_slow_leaves_nothing() -> None:
    found = Steadiness.of(Pace([SECOND], 4.0), [(0, SECOND, at_microseconds(100))])
    assert [name for name, _ in found.rows()] == ["the machine was slow"]


def test_the_warm_up_is_not_among_the_steps() -> None:
    recorder = Recorder(1.0, 1.5, Pids())
    for number in range(5):
        recorder.take(0, Lap(number, (10 + number) * SECOND, {}, {}, at_microseconds(number), 0.0))
    steps = recorder.measured_steps()
    assert [(begin // SECOND, end // SECOND, latency.maximum) for begin, end, latency in steps] == [
        (12, 13, 3),
        (13, 14, 4),
    ]


def test_the_meter_ends_with_its_block() -> None:
    async def measure() -> tuple[Pace, int | None]:
        async with metering() as meter:
            pace = await meter.pace()
        async with metering() as cut_short:
            pass
        return pace, cut_short.exit_code

    pace, exit_code = uvloop.run(measure())
    assert pace.worst >= 1.0
    assert exit_code is not None
