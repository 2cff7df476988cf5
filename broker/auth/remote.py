"""Somebody who is asked over the network: an HTTP server, a database.

A bounded number of questions is under way; others wait in a bounded queue, in which addresses have their
turns. While nobody answers, nobody is asked but for one question now and then: a storm of clients neither
piles up here nor keeps the other side from getting up.

Only what shows that the other side is down counts for that (`Unreachable`). An answer that makes no sense
doesn't: who can provoke one must not keep everybody else out with it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from broker.auth.access import Unavailable
from broker.auth.gate import Busy, Gate
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally
from broker.observability.seldom import Seldom

_FAILURES_MAXIMUM: Final = 5
_PAUSE_SECONDS: Final = 1.0
_PAUSE_SECONDS_MAXIMUM: Final = 30.0

Answer = TypeVar("Answer")

logger = get_logger(__name__)


class Unreachable(Unavailable):
    """The other side can't be reached, or says that it can't."""


class Breaker:
    """Opens after failures in a row; then lets one through, each time after a longer pause."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pause_seconds = _PAUSE_SECONDS
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it is of no use to ask now."""
        return self._failures >= _FAILURES_MAXIMUM and self._clock() < self._open_until

    def lets_through(self) -> bool:
        """To be asked just before a question; of an open breaker the answer is yes once for each pause."""
        if self._failures < _FAILURES_MAXIMUM:
            return True
        if self.is_open:
            return False
        self._pause()
        return True

    def succeeded(self) -> None:
        """An answer has come."""
        self._failures = 0
        self._pause_seconds = _PAUSE_SECONDS

    def failed(self) -> None:
        """None has."""
        self._failures += 1
        if self._failures == _FAILURES_MAXIMUM:
            self._pause()

    def _pause(self) -> None:
        self._open_until = self._clock() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _PAUSE_SECONDS_MAXIMUM)


class Remote:
    """`places` questions at a time, `queue_limit` wait. `requests` counts `<name>`, and with `_failed` and
    `_busy` those that got no answer."""

    def __init__(
        self,
        name: str,
        places: int,
        queue_limit: int,
        requests: Tally,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._gate = Gate(places, queue_limit)
        self._breaker = Breaker(clock)
        self._requests = requests
        self._complaints = Seldom(logger, clock)

    async def ask(self, address: str, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """For a client at this address. Raises Unavailable or Busy."""
        if self._breaker.is_open:
            self._give_up()
        try:
            await self._gate.enter(address)
        except Busy:
            self._requests.add(f"{self._name}_busy")
            raise
        try:
            if not self._breaker.lets_through():  # it was not open before the wait
                self._give_up()
            return await self._ask(question)
        finally:
            self._gate.leave()

    async def _ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            answer = await question()
        except Unavailable as error:
            if isinstance(error, Unreachable):
                self._breaker.failed()
            else:
                self._breaker.succeeded()
            self._requests.add(f"{self._name}_failed")
            self._complaints.error(f"could not be asked: {error}", {"asked": self._name})
            raise
        except asyncio.CancelledError:  # it took too long
            self._breaker.failed()
            self._requests.add(f"{self._name}_failed")
            raise
        self._breaker.succeeded()
        self._requests.add(self._name)
        return answer

    def _give_up(self) -> None:
        self._requests.add(f"{self._name}_failed")
        raise Unreachable("is not asked for a while")
