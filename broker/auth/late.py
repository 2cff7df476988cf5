"""Who was asked and did not answer in time: under attack that may be a thousand times a second."""

import logging
import time
from collections.abc import Callable
from typing import Final

_INTERVAL_SECONDS: Final = 5.0


class Late:
    """One line at once, then one for all that follow within some seconds."""

    __slots__ = ("_clock", "_count", "_logger", "_next_at", "_what")

    def __init__(
        self, logger: logging.Logger, what: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._what = what
        self._clock = clock
        self._count = 0
        self._next_at = 0.0

    def note(self, name: str) -> None:
        """It was the one of this name."""
        self._count += 1
        now = self._clock()
        if now >= self._next_at:
            extra = {self._what: name, "count": self._count}
            self._logger.error("%s did not answer in time", self._what, extra=extra)
            self._count = 0
            self._next_at = now + _INTERVAL_SECONDS
