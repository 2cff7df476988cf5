"""How long messages take through a node, by samples: of some batches the oldest message, and of these batches
a message whose acknowledgement is waited for.

The committer tells what happens; nothing here is done for each message. A batch is timed from when the first
of what it carries woke the committer, which is when a message came, unless something else had woken it a
moment before.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from broker.session import Drops, Outbox

INTERVAL_SECONDS: Final = 0.01
"""Between two batches that are timed."""


class Timing:
    """Of one committer. `delivered_direct`, `delivered_stored` and `acknowledged` get what was measured, in
    seconds; `probe` gets the outboxes that are about to be written, of a batch that is timed."""

    __slots__ = (
        "_acknowledged",
        "_began",
        "_delivered_direct",
        "_delivered_stored",
        "_drops",
        "_next",
        "_probe",
        "_sent",
        "_woken",
    )

    def __init__(
        self,
        drops: Drops,
        delivered_direct: Callable[[float], None],
        delivered_stored: Callable[[float], None],
        acknowledged: Callable[[float], None],
        probe: Callable[[Sequence[Outbox]], None],
    ) -> None:
        self._drops = drops
        self._delivered_direct = delivered_direct
        self._delivered_stored = delivered_stored
        self._acknowledged = acknowledged
        self._probe = probe
        self._next = 0.0
        self._woken = 0.0
        self._began = 0.0  # the batch under way; 0: it is not timed
        self._sent = 0

    def woken(self) -> None:
        """The committer has something to do."""
        now = time.monotonic()
        if now >= self._next:
            self._woken = self._woken or now

    def begin(self) -> None:
        """A batch leaves, or what is left of one."""
        if not self._began and self._woken:
            self._began = self._woken
            self._next = time.monotonic() + INTERVAL_SECONDS
        self._woken = 0.0
        if self._began:
            self._sent = self._count()

    def delivered(self, ready: Sequence[Outbox], is_stored: bool) -> None:
        """What is ready is about to be handed to the sockets: what needed no store, or what did."""
        if not self._began:
            return
        count = self._count()
        if count == self._sent:
            return
        self._sent = count
        self._probe(ready)
        observe = self._delivered_stored if is_stored else self._delivered_direct
        observe(time.monotonic() - self._began)

    def exchanged(self) -> None:
        """The store has answered: what was sent meanwhile was of others."""
        if self._began:
            self._sent = self._count()

    def end(self, is_settled: bool, has_more: bool) -> None:
        """All is written that could be. `is_settled`: the batch is acknowledged. `has_more`: there are
        messages of which `woken` has told."""
        if is_settled and self._began:
            self._acknowledged(time.monotonic() - self._began)
            self._began = 0.0
        if not has_more:
            self._woken = 0.0

    def _count(self) -> int:
        sent = self._drops.sent
        return sent[1] + sent[2]
