"""What a limit has refused or slowed down: each time is counted, and told in a few lines.

Who meets a limit can do so again a thousand times a second: the first time is a line at once, what follows is
one line for each limit in `INTERVAL_SECONDS`, which says how many there were. It names the latest of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from broker.observability.logs import get_logger
from broker.observability.metrics import Counters

INTERVAL_SECONDS: Final = 5.0

logger = get_logger(__name__)


@dataclass(slots=True)
class _Told:
    """The lines about one limit. `fields`: of the latest offence that no line tells of."""

    next_at: float = 0.0
    untold: int = 0
    fields: dict[str, object] = field(default_factory=dict)


class Offences:
    """Of one node. Limits are named by their settings."""

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def refuse(self, limit: str, **fields: object) -> None:
        """Somebody does not get what is beyond a limit; `fields` say who."""
        self._counters.refused.add(limit)
        self._note(limit, fields)

    def slow_down(self, limit: str, **fields: object) -> None:
        """Somebody has to wait, as what comes is more than a limit."""
        self._counters.throttled.add(limit)
        self._note(limit, fields)

    def _note(self, limit: str, fields: dict[str, object]) -> None:
        told = self._told.setdefault(limit, _Told())
        told.untold += 1
        told.fields = fields
        now = self._clock()
        if now >= told.next_at:
            self._tell(limit, told, now)

    def flush(self) -> None:
        """Tells what has not been told yet, if its time has come; to be called now and then."""
        now = self._clock()
        for limit, told in self._told.items():
            if told.untold and now >= told.next_at:
                self._tell(limit, told, now)

    def _tell(self, limit: str, told: _Told, now: float) -> None:
        logger.warning("limit reached", extra={"limit": limit, "times": told.untold, **told.fields})
        told.untold = 0
        told.fields = {}
        told.next_at = now + INTERVAL_SECONDS
