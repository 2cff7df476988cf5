"""How long a worker that ended waits for its next start."""

from typing import Final

FIRST_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 10.0
"""Whoever ran so long starts again as if for the first time."""


class Backoff:
    """Doubles from FIRST_SECONDS to LONGEST_SECONDS while starts keep failing."""

    def __init__(self) -> None:
        self._next_seconds = FIRST_SECONDS

    def after(self, ran_seconds: float) -> float:
        """Seconds to wait, after a process that ran for so long."""
        if ran_seconds >= STEADY_SECONDS:
            self._next_seconds = FIRST_SECONDS
        seconds = self._next_seconds
        self._next_seconds = min(2 * seconds, LONGEST_SECONDS)
        return seconds
