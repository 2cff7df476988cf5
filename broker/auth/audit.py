"""What the audit log says of things that were denied: so few a second that who is denied can't fill a disk
with them. The log itself: `broker.observability.audit`."""

import time
from collections.abc import Callable
from typing import Final

from broker.observability.audit import Allowance, audit_logger, shortened

_RECORDS_PER_SECOND: Final = 20.0
_BURST: Final = 100.0


class Audit:
    """Records what is denied; `suppressed` in a record says how many before it were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowance = Allowance(_RECORDS_PER_SECOND, _BURST, clock)

    def denied(self, event: str, **fields: object) -> None:
        """`event`: what somebody wanted to do."""
        suppressed = self._allowance.take()
        if suppressed is None:
            return
        if suppressed:
            fields["suppressed"] = suppressed
        shown = {name: shortened(value) for name, value in fields.items()}
        audit_logger.warning("denied", extra={"event": event, **shown})
