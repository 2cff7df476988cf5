"""Many offences are few lines."""

import logging

import pytest

from broker.observability.metrics import Counters
from broker.observability.offences import INTERVAL_SECONDS, Offences


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _times(caplog: pytest.LogCaptureFixture) -> list[tuple[object, ...]]:
    told: list[tuple[object, ...]] = [
        (vars(each)["limit"], vars(each)["times"], vars(each)["who"]) for each in caplog.records
    ]
    caplog.clear()
    return told


def test_each_is_counted_and_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    counters, clock = Counters(), _Clock()
    offences = Offences(counters, clock)
    for number in range(1000):
        offences.refuse("few", who=number)
        offences.slow_down("slow", who=number)
    offences.flush()
    assert _times(caplog) == [("few", 1, 0), ("slow", 1, 0)]
    clock.now += INTERVAL_SECONDS
    offences.flush()
    offences.flush()
    assert _times(caplog) == [("few", 999, 999), ("slow", 999, 999)]
    clock.now += INTERVAL_SECONDS
    offences.flush()
    assert _times(caplog) == []
    offences.refuse("few", who="again")
    assert _times(caplog) == [("few", 1, "again")]
    assert counters.refused["few"] == 1001
    assert counters.throttled["slow"] == 1000
