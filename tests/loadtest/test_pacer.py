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


async def _ticks(step_ns: int, count: int) -> None:
    """Until there were so many: none is early, few are left out, and none comes once it is stopped."""
    seen: list[int] = []
    enough = asyncio.Event()

    def tick() -> None:
        seen.append(time.monotonic_ns() - start)
        if len(seen) >= count:
            enough.set()

    start = time.monotonic_ns()
    ticker = Ticker(step_ns, start + step_ns, tick)
    await enough.wait()
    ticker.stop()
    until_stop = list(seen)
    await asyncio.sleep(3 * step_ns / 1e9)
    assert seen == until_stop
    assert all(moment > number * step_ns - 1_000_000 for number, moment in enumerate(seen, 1))
    assert seen[-1] <= 4 * count * step_ns  # the machine may be busy


def test_the_clock_ticks_until_it_is_stopped() -> None:
    asyncio.run(_ticks(5_000_000, 60))


def test_where_there_is_no_timerfd_the_loop_is_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    asyncio.run(_ticks(5_000_000, 60))
