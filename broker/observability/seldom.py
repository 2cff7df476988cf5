"""An error that under attack, or while another server is down, may come a thousand times a second."""

import logging
import time
from collections.abc import Callable
from typing import Final

_INTERVAL_SECONDS: Final = 5.0


class Seldom:
    """One line at once, then one for all that follow within some seconds; it is about the latest of them."""

    __slots__ = ("_clock", "_count", "_logger", "_next_at")

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._count = 0
        self._next_at = float("-inf")

    def error(self, message: str, fields: dict[str, object]) -> None:
        """It has come again. The line has `times`, too: how often since the last one."""
        self._count += 1
        now = self._clock()
        if now >= self._next_at:
            self._logger.error(message, extra={**fields, "times": self._count})
            self._count = 0
            self._next_at = now + _INTERVAL_SECONDS
