"""Who is asked over the network, and when nobody is."""

import asyncio

import pytest

from broker.auth import Unavailable
from broker.auth.remote import Breaker, Remote, Unreachable
from broker.observability.metrics import Tally


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_is_let_through_after_each_pause() -> None:
    clock = _Clock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.failed()
        assert breaker.lets_through()
    breaker.failed()
    for pause in (1, 2, 4, 8, 16, 30, 30):
        assert not breaker.lets_through()
        clock.now += pause - 0.1
        assert breaker.is_open
        clock.now += 0.2
        assert breaker.lets_through()
        assert not breaker.lets_through()
        breaker.failed()
    breaker.succeeded()
    assert breaker.lets_through()
    for _ in range(5):
        breaker.failed()
    clock.now += 1
    assert breaker.lets_through()


def test_failures_have_to_be_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(4):
            breaker.failed()
        breaker.succeeded()
    assert not breaker.is_open


def test_those_that_wait_are_not_asked_for_when_it_has_opened() -> None:
    count = 0

    async def fail() -> None:
        nonlocal count
        count += 1
        await asyncio.sleep(0)
        raise Unreachable("down")

    async def run() -> None:
        requests = Tally()
        remote = Remote("x", 1, 100, requests)
        asked = await asyncio.gather(*(remote.ask("a", fail) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(error, Unavailable) for error in asked)
        assert count == 5
        assert requests["x_failed"] == 50

    asyncio.run(run())


def test_complaints_are_few(caplog: pytest.LogCaptureFixture) -> None:
    clock = _Clock()

    async def fail() -> None:
        raise Unavailable("nonsense")

    async def run() -> None:
        remote = Remote("x", 1, 1, Tally(), clock)
        for _ in range(100):
            with pytest.raises(Unavailable):
                await remote.ask("a", fail)
            clock.now += 0.5

    asyncio.run(run())
    assert len(caplog.records) == 10


def test_the_place_is_given_back_whatever_happens() -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    async def fine() -> str:
        return "fine"

    async def run() -> None:
        remote = Remote("x", 1, 1, Tally())
        for _ in range(10):
            with pytest.raises(ZeroDivisionError):
                await remote.ask("a", broken)
        assert await remote.ask("a", fine) == "fine"

    asyncio.run(run())
