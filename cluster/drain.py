"""How a node is emptied: when it is to stop, and how fast its clients are told to go.

Told all in one moment, the clients of a node would all connect to the others in one moment. So they are told
one after the other, at a pace; but early enough that what is left can be closed, stored and given back before
the node's deadline. Nothing here knows what a client is.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

import anyio

TELLING_SHARE: Final = 0.6
"""Of the time for a stop: until then every client has been told."""
CLOSING_SHARE: Final = 0.8
"""Of the time for a stop: until then clients may take what is still on its way to them. The rest is for the
store and for leaving the membership."""

_STEP_SECONDS: Final = 0.05

logger = logging.getLogger(__name__)


class Departure:
    """Whether this node is to stop, by a signal or because somebody has asked for it. It never comes back."""

    __slots__ = ("_begun", "_hurried", "_is_pausing", "moved")

    def __init__(self) -> None:
        self._begun = anyio.Event()
        self._hurried = anyio.Event()
        self._is_pausing = False
        self.moved = False
        """Clients are told that they need not come back here (0x9D)."""

    def begin(self, reason: str, *, moved: bool = False) -> None:
        """May be called again; it changes nothing then."""
        if not self._begun.is_set():
            logger.info("stopping", extra={"reason": reason})
            self.moved = moved
            self._begun.set()

    def is_set(self) -> bool:
        """Whether it has begun."""
        return self._begun.is_set()

    async def wait(self) -> None:
        """Until it begins."""
        await self._begun.wait()

    async def pause(self, seconds: float) -> bool:
        """Between saying that the node is about to stop and doing so: whoever sends clients here looks only
        now and then. Whether it lasted to its end."""
        if not seconds:
            return True
        logger.info("pausing before the drain", extra={"seconds": seconds})
        self._is_pausing = True
        with anyio.move_on_after(seconds):
            await self._hurried.wait()
        self._is_pausing = False
        return not self._hurried.is_set()

    def hurry(self) -> bool:
        """Ends the pause; whether there was one."""
        if not self._is_pausing or self._hurried.is_set():
            return False
        logger.info("the pause before the drain is cut short")
        self._hurried.set()
        return True


def rate_within(count: int, clients_per_second: float, seconds: float) -> float:
    """The pace, raised if `count` clients would not be told within `seconds` otherwise."""
    return max(clients_per_second, count / seconds)


def told_by(elapsed_seconds: float, rate: float, count: int) -> int:
    """How many of `count` should have been told so long after the start; the first one at once."""
    return min(count, 1 + int(elapsed_seconds * rate))


async def shed(count: int, rate: float, tell: Callable[[int], None]) -> None:
    """Calls `tell` with how many are to be told next, until that makes `count`. A step that comes late is
    made up for by the next one."""
    started = time.monotonic()
    told = 0
    while told < count:
        due = told_by(time.monotonic() - started, rate, count)
        if due > told:
            tell(due - told)
            told = due
        if told < count:
            await anyio.sleep(max(_STEP_SECONDS, started + told / rate - time.monotonic()))
