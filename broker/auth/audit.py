"""The audit log: one structured record for each thing that was denied. No payloads, no passwords; and so few
a second that who is denied can't fill a disk with them."""

import time
from collections.abc import Callable
from typing import Final

from broker.observability.logs import get_logger

_RECORDS_PER_SECOND: Final = 20.0
_BURST: Final = 100.0

logger = get_logger("moorline.audit")


class Audit:
    """Records what is denied; `suppressed` in a record says how many before it were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = _BURST
        self._at = clock()
        self._suppressed = 0

    def denied(self, event: str, **fields: object) -> None:
        """`event`: what somebody wanted to do."""
        now = self._clock()
        self._left = min(_BURST, self._left + (now - self._at) * _RECORDS_PER_SECOND)
        self._at = now
        if self._left < 1:
            self._suppressed += 1
            return
        self._left -= 1
        if self._suppressed:
            fields["suppressed"] = self._suppressed
            self._suppressed = 0
        logger.warning("denied", extra={"event": event, **fields})
