"""Laps of workers, and the timeline that is made of them."""

import asyncio
import os
import time

import pytest

from loadtest.board import Board
from loadtest.cost import Pids, measure_usage
from loadtest.histogram import Histogram
from loadtest.timeline import Lap, Recorder, Timeline, recording, telling_laps

SECOND = 1_000_000_000


def lap(number: int, sent: int, *, missing: int = 0, at: float | None = None, latency: int = 1000) -> Lap:
    """At the end of its step, if nothing else is said; with 10 ms of processor time per step."""
    histogram = Histogram()
    histogram.record(latency)
    at_ns = int((number if at is None else at) * SECOND)
    return Lap(number, at_ns, {"sent": sent}, {"missing": missing}, histogram, number / 100)


def timeline_of(*laps: tuple[int, Lap]) -> Timeline:
    recorder = Recorder(1.0, 0.0, Pids())
    for worker, each in laps:
        recorder.take(worker, each)
    timeline = recorder.timeline()
    assert timeline is not None
    return timeline


def test_rates_are_made_of_two_laps() -> None:
    samples = timeline_of((0, lap(0, 0)), (0, lap(1, 100)), (0, lap(2, 400, missing=3))).samples
    assert [sample.at_seconds for sample in samples] == [1.0, 2.0]
    assert [sample.per_second for sample in samples] == [{"sent": 100.0}, {"sent": 300.0}]
    assert [sample.so_far for sample in samples] == [{"missing": 0}, {"missing": 3}]
    assert [sample.generator_cores for sample in samples] == [0.01, 0.01]
    assert samples[0].broker is None


def test_workers_add_up() -> None:
    samples = timeline_of(
        *((0, lap(0, 0)), (1, lap(0, 0))),
        *((1, lap(1, 50, missing=1, latency=9000)), (0, lap(1, 100, missing=2))),
    ).samples
    assert samples[0].per_second == {"sent": 150.0}
    assert samples[0].so_far == {"missing": 3}
    assert samples[0].latency_ms is not None
    assert (samples[0].latency_ms.p50, samples[0].latency_ms.max) == (1.003, 9.0)


def test_a_late_lap_counts_with_the_time_it_took() -> None:
    samples = timeline_of((0, lap(0, 0)), (0, lap(1, 300, at=1.5)), (0, lap(2, 400))).samples
    assert [sample.per_second["sent"] for sample in samples] == [200.0, 200.0]


def test_a_worker_that_has_ended_stays_as_it_was() -> None:
    samples = timeline_of(
        *((0, lap(0, 0)), (1, lap(0, 0)), (0, lap(1, 100, missing=5)), (1, lap(1, 100))),
        (1, lap(2, 150)),
    ).samples
    assert samples[1].per_second == {"sent": 50.0}
    assert samples[1].so_far == {"missing": 5}


def test_nothing_counts_twice_when_workers_end_at_different_times() -> None:
    (sample,) = timeline_of(
        *((0, lap(0, 0)), (1, lap(0, 0))), *((0, lap(1, 400, at=0.1)), (1, lap(1, 400, at=0.5)))
    ).samples
    assert sample.at_seconds * sample.per_second["sent"] == 800.0


def test_a_rest_belongs_to_the_step_before() -> None:
    (sample,) = timeline_of((0, lap(0, 0)), (0, lap(1, 100)), (0, lap(1, 100, missing=1, at=1.25))).samples
    assert sample.per_second == {"sent": 80.0}
    assert sample.so_far == {"missing": 1}


def test_many_steps_become_fewer_and_keep_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.timeline.STEPS_LIMIT", 8)
    count = 24
    timeline = timeline_of((0, lap(0, 0)), *((0, lap(number, 10 * number)) for number in range(1, count + 1)))
    assert timeline.step_seconds == 4.0
    assert len(timeline.samples) == count / 4
    assert {sample.per_second["sent"] for sample in timeline.samples} == {10.0}
    assert timeline.samples[-1].at_seconds == count


def test_steps_that_nobody_told_of_do_not_harm_those_that_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.timeline.STEPS_LIMIT", 4)
    told = [lap(number, 10 * number) for number in (0, 1, 3, 7, 8)]
    samples = timeline_of(*((0, each) for each in told)).samples
    assert [sample.at_seconds for sample in samples] == [1.0, 3.0, 8.0]
    assert {sample.per_second["sent"] for sample in samples} == {10.0}


def test_nothing_told_is_no_timeline() -> None:
    assert Recorder(1.0, 0.0, Pids()).timeline() is None


async def _laps(step_seconds: float, run_seconds: float) -> list[Lap]:
    told: list[Lap] = []
    board = Board()
    async with telling_laps(step_seconds, time.monotonic_ns(), board, told.append):
        board.sent = 7
        board.latency.record(5)
        await asyncio.sleep(run_seconds)
    return told


def test_laps_are_told_from_the_beginning_to_the_end() -> None:
    told = asyncio.run(_laps(0.2, 0.5))
    numbers = [each.number for each in told]
    assert numbers[0] == 0
    assert numbers == sorted(numbers)
    assert told[-1].flow == {"sent": 7, "delivered": 0}
    assert sum(each.latency.total for each in told) == 1


def test_a_run_shorter_than_a_step_has_one() -> None:
    assert [each.number for each in asyncio.run(_laps(10.0, 0.05))] == [0, 1]


def test_no_step_no_laps() -> None:
    assert asyncio.run(_laps(0.0, 0.01)) == []


def test_steps_that_the_process_was_too_busy_for_are_one() -> None:
    async def busy() -> list[int]:
        told: list[Lap] = []
        async with telling_laps(0.1, time.monotonic_ns(), Board(), told.append):
            await asyncio.sleep(0.01)
            time.sleep(0.35)  # noqa: ASYNC251  # the event loop is to be held up
            await asyncio.sleep(0.01)
        return [each.number for each in told]

    numbers = asyncio.run(busy())
    assert len(numbers) <= 3
    assert numbers[1] >= 3


def test_what_processes_cost_is_in_each_sample() -> None:
    async def run() -> Timeline | None:
        async with recording(0.1, Board(), Pids.of([os.getpid()])) as recorder:
            deadline = time.process_time() + 0.15
            while time.process_time() < deadline:  # noqa: ASYNC110  # it is to use the processor
                await asyncio.sleep(0)
        return recorder.timeline()

    timeline = asyncio.run(run())
    assert timeline is not None
    broker = [sample.broker for sample in timeline.samples]
    assert all(load is not None and load.rss_bytes > 2**20 for load in broker)
    assert any(load is not None and load.cores > 0 for load in broker)
    usage = measure_usage(Pids.of([os.getpid()]))  # other tests in this process may have their servers
    assert usage is not None
    assert (timeline.samples[-1].redis is None) == (usage.redis is None)


def test_a_board_knows_latencies_of_a_lap_and_of_the_measurement() -> None:
    board = Board()
    board.latency.record(1)
    board.begin_measuring()
    board.latency.record(2)
    assert board.lap().total == 2
    board.latency.record(3)
    assert board.measured().total == 2
    assert board.lap().total == 1
    assert board.measured().total == 2


@pytest.mark.parametrize("gone", [True, False])
def test_a_broker_that_is_gone_costs_nothing_that_is_known(gone: bool) -> None:
    pid = 999_999_999 if gone else os.getpid()
    recorder = Recorder(1.0, 0.0, Pids.of([pid]))
    recorder.take(0, lap(0, 0))
    recorder.take(0, lap(1, 1))
    timeline = recorder.timeline()
    assert timeline is not None
    assert (timeline.samples[0].broker is None) is gone
