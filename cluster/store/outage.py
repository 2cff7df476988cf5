"""While Redis is away: since when, who is told, what the log says, how long to wait before the next try."""

import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import anyio

from cluster.store.errors import StoreError

_FIRST_BACKOFF_SECONDS: Final = 0.02
_MAXIMUM_BACKOFF_SECONDS: Final = 1.0
_REPORT_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """`away_since` is a point of time.monotonic(), None while Redis answers. `reason` is for people."""

    away_since: float | None
    reason: str = ""


StatusListener: TypeAlias = Callable[[StoreStatus], None]
"""Told when Redis goes away and when it is back. Must not raise and must not wait."""


class Outage:
    """Of one lane."""

    def __init__(self, on_status: StatusListener) -> None:
        self._on_status = on_status
        self._failures = 0
        self._reported = 0.0
        self.since: float | None = None
        """When Redis was last known to answer, by time.monotonic(); None unless it is away now."""

    def note(self, trouble: StoreError, started: float) -> None:
        """An exchange that began at `started` did not get its answer."""
        # Its frames have the bytes of a batch, and the future that has the error: a cycle of megabytes.
        trouble.__traceback__ = None
        if self.since is None:
            self.since = started
            self._report(trouble)
            self._on_status(StoreStatus(started, str(trouble)))
        elif time.monotonic() - self._reported >= _REPORT_SECONDS:
            self._report(trouble)

    async def pause(self, pause: Callable[[float], Awaitable[None]] = anyio.sleep) -> None:
        """Not the first time: the connection may merely be stale. `pause` waits so many seconds."""
        await pause(backoff_seconds(self._failures, random.random()))
        self._failures += 1

    def end(self) -> None:
        """Redis has answered."""
        self._failures = 0
        if self.since is None:
            return
        away_seconds = time.monotonic() - self.since
        self.since = None
        logger.warning("Redis is back after %.1f s", away_seconds)
        self._on_status(StoreStatus(None))

    def _report(self, trouble: StoreError) -> None:
        self._reported = time.monotonic()
        logger.warning("Redis is away, everything that must be stored is held: %s", trouble)


def backoff_seconds(failures: int, random_share: float) -> float:
    """The pause before the next attempt: none, then up to a second. `random_share` (0..1) spreads nodes."""
    if not failures:
        return 0.0
    ceiling = min(_MAXIMUM_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 16))
    return ceiling * (0.5 + 0.5 * random_share)
