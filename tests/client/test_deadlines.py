"""The wheel: who is asked when."""

import pytest

from broker.client import DeadlineWheel


class Bench:
    """A wheel, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.wheel = DeadlineWheel(lambda: self.now)

    def sweep(self, now: float) -> None:
        """A moment passes."""
        self.now = now
        self.wheel.sweep()


class Connection:
    """Notes when it was asked, and answers with its deadline as long as that has not passed."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.asked: list[float] = []

    def check_deadline(self, now: float) -> float:
        """See Watched."""
        self.asked.append(now)
        return self.deadline if now < self.deadline else 0.0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_connection_is_asked_soon_after_its_deadline(bench: Bench) -> None:
    connection = Connection(103.5)
    bench.wheel.watch_by(connection, 103.5)
    bench.sweep(103.9)
    assert connection.asked == []
    bench.sweep(104.1)
    assert connection.asked == [104.1]
    assert len(bench.wheel) == 0


def test_a_place_is_kept_for_a_later_deadline(bench: Bench) -> None:
    connection = Connection(110.0)
    bench.wheel.watch_by(connection, 102.0)
    bench.wheel.watch_by(connection, 110.0)
    bench.sweep(103.0)
    bench.sweep(110.9)
    bench.sweep(111.0)
    assert connection.asked == [103.0, 111.0]


def test_a_place_is_left_for_an_earlier_deadline(bench: Bench) -> None:
    connection = Connection(102.0)
    bench.wheel.watch_by(connection, 110.0)
    bench.wheel.watch_by(connection, 102.0)
    bench.sweep(103.0)
    bench.sweep(120.0)
    assert connection.asked == [103.0]


def test_who_has_left_is_not_asked(bench: Bench) -> None:
    one, other = Connection(102.0), Connection(102.0)
    for connection in (one, other):
        bench.wheel.watch_by(connection, 102.0)
    bench.wheel.unwatch(one)
    bench.wheel.unwatch(one)
    bench.sweep(105.0)
    assert (one.asked, other.asked) == ([], [105.0])


def test_one_that_fails_harms_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Connection):
        def check_deadline(self, now: float) -> float:
            raise ZeroDivisionError

    connection = Connection(102.0)
    bench.wheel.watch_by(Failing(0.0), 101.0)
    bench.wheel.watch_by(connection, 102.0)
    bench.sweep(103.0)
    assert connection.asked == [103.0]
    assert "ZeroDivisionError" in caplog.text
