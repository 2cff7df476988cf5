"""One sweeping wheel for all deadlines of connections: connect timeout, keep-alive, slow closing.

A timer per connection would cost a heap operation per packet. Here a connection sits in the slot of the
second at which its deadline may have passed; when the sweep comes to it, it says whether it really has or
when to look again. So who has a place need not leave it for a later deadline: most connections that come and
go again take one place, once.
"""

from collections.abc import Callable
from typing import Protocol

from broker.observability.logs import get_logger

logger = get_logger(__name__)


class Watched(Protocol):
    """Something with a deadline."""

    def check_deadline(self, now: float) -> float:
        """What to do at `now`, monotonic seconds; answers when to look again, 0.0 for never."""


class DeadlineWheel:
    """Watches connections with a resolution of one second. It may ask early; who is asked has to look."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._slots: dict[int, set[Watched]] = {}
        self._slot_of: dict[Watched, int] = {}
        self._swept = int(now())

    def __len__(self) -> int:
        return len(self._slot_of)

    def watch_by(self, watched: Watched, deadline: float) -> None:
        """Asks `watched` soon after `deadline`, or before."""
        slot = max(int(deadline) + 1, self._swept + 1)
        place = self._slot_of.get(watched)
        if place is not None:
            if place <= slot:
                return
            self.unwatch(watched)
        members = self._slots.get(slot)
        if members is None:
            self._slots[slot] = {watched}
        else:
            members.add(watched)
        self._slot_of[watched] = slot

    def unwatch(self, watched: Watched) -> None:
        """Forgets it."""
        slot = self._slot_of.pop(watched, None)
        if slot is None:
            return
        members = self._slots.get(slot)
        if members is not None:  # None while that very slot is being swept
            members.discard(watched)
            if not members:
                del self._slots[slot]

    def sweep(self) -> None:
        """Asks everything whose slot has passed; to be called about once a second."""
        now = self._now()
        while self._swept < int(now):
            self._swept += 1
            for watched in self._slots.pop(self._swept, ()):
                if self._slot_of.pop(watched, None) is None:
                    continue  # unwatched by one that came before it
                self._check(watched, now)

    def _check(self, watched: Watched, now: float) -> None:
        try:
            next_deadline = watched.check_deadline(now)
        except Exception:  # the boundary of this connection: our bug must not harm the others
            logger.exception("deadline of %r", watched)
            return
        if next_deadline:
            self.watch_by(watched, next_deadline)
