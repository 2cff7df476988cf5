"""The schedule of an open loop, and the clock that keeps it."""

import asyncio
import time

import pytest

from loadtest.pacer import Schedule, Ticker

SECOND = 1_000_000_000


def test_each_message_is_due_once_at_its_time() -> None:
    schedule = Schedule(1000, start_ns=0)
    assert schedule.due(-1) == []
    assert schedule.due(0) == [0]
    assert schedule.due(999_999) == []
    assert schedule.due(1_000_000) == [1_000_000]
    assert schedule.due(3_500_000) == [2_000_000, 3_000_000]


def test_a_late_caller_gets_the_times_that_were_meant() -> None:
    assert Schedule(100, start_ns=0).due(SECOND)[-3:] == [980_000_000, 990_000_000, SECOND]


@pytest.mark.parametrize("rate", [0.5, 3, 999, 1000, 4999, 7777, 250_000])
def test_the_rate_is_kept_and_no_message_is_early(rate: float) -> None:
    schedule = Schedule(rate, start_ns=5)
    times: list[int] = []
    now = 5
    while now <= 5 + 2 * SECOND:
        due = schedule.due(now)
        assert all(intended <= now for intended in due)
        times += due
        now += max(schedule.step_ns // 3, 100_000)
    assert times == sorted(times)
    assert abs(len(times) - 2 * rate) <= max(2, rate * 0.001)


def test_fast_rates_go_in_steps() -> None:
    schedule = Schedule(100_000, start_ns=0)
    assert schedule.step_ns == 200_000
    assert len(schedule.due(200_000)) == 21
    assert set(schedule.due(400_000)) == {400_000}


async def _ticks(step_ns: int, seconds: float) -> list[int]:
    seen: list[int] = []
    start = time.monotonic_ns()
    ticker = Ticker(step_ns, start + step_ns, lambda: seen.append(time.monotonic_ns() - start))
    await asyncio.sleep(seconds)
    ticker.stop()
    count = len(seen)
    await asyncio.sleep(3 * step_ns / 1e9)
    assert len(seen) == count
    return seen


def test_the_clock_ticks_until_it_is_stopped() -> None:
    seen = asyncio.run(_ticks(5_000_000, 0.2))
    assert 10 <= len(seen) <= 41
    assert seen[0] >= 5_000_000


def test_where_there_is_no_timerfd_the_loop_is_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    seen = asyncio.run(_ticks(5_000_000, 0.2))
    assert 10 <= len(seen) <= 41
