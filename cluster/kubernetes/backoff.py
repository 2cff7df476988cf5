"""How long to wait after a request that failed."""

import random
from typing import Final

FIRST_SECONDS: Final = 0.5
LONGEST_SECONDS: Final = 30.0
_JITTER: Final = 0.5  # of the time: so that the pods of a deployment don't come back in one moment


class Backoff:
    """Doubles from FIRST_SECONDS to LONGEST_SECONDS while requests keep failing."""

    def __init__(self, longest_seconds: float = LONGEST_SECONDS) -> None:
        self._longest_seconds = longest_seconds
        self._next_seconds = FIRST_SECONDS

    def after_failure(self, retry_after_seconds: float = 0.0) -> float:
        """Seconds to wait; never less than the server asks for."""
        seconds = self._next_seconds * (1 - _JITTER * random.random())
        self._next_seconds = min(2 * self._next_seconds, self._longest_seconds)
        return max(seconds, retry_after_seconds)

    def reset(self) -> None:
        """It works again."""
        self._next_seconds = FIRST_SECONDS
