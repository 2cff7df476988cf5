"""Two devices with one Client Identifier take the session from each other for as long as both live. This
notices it, and makes them slower.

Only what this node sees counts: each node that such a connection is taken from, or which takes it, sees its
part."""

from collections import deque
from typing import Final

_WINDOW_SECONDS: Final = 60.0
_FIRST_DELAY_SECONDS: Final = 1.0
_LONGEST_DELAY_SECONDS: Final = 30.0
_CLIENTS: Final = 10_000


class Fights:
    """`limit` open connections of one client may be taken over within a minute; beyond that each further
    CONNECT waits, twice as long each time. 0 for no limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken: dict[str, deque[float]] = {}
        self.delayed = 0
        """CONNECT packets that had to wait."""

    def change(self, limit: int) -> None:
        """From now on, and from nothing: what was noted is as long as it had to be for the limit before."""
        self.limit = limit
        self._taken.clear()

    def __len__(self) -> int:
        """Clients that are fought over, or were a moment ago."""
        return sum(len(times) > self.limit for times in self._taken.values())

    def note(self, client_id: str, now: float) -> bool:
        """An open connection of this client was taken over at `now`, monotonic seconds. True when that begins
        to look like a fight."""
        if not self.limit:
            return False
        times = self._taken.pop(client_id, None)
        if times is None:
            times = deque(maxlen=self.limit + 32)
        self._forget_old(times, now)
        times.append(now)
        self._taken[client_id] = times
        if len(self._taken) > _CLIENTS:
            del self._taken[next(iter(self._taken))]
        return len(times) == self.limit + 1

    def count(self, client_id: str, now: float) -> int:
        """How many open connections of it were taken over within the last minute."""
        return sum(now - taken <= _WINDOW_SECONDS for taken in self._taken.get(client_id, ()))

    def delay(self, client_id: str, now: float) -> float:
        """How many seconds a CONNECT of this client has to wait."""
        times = self._taken.get(client_id)
        if times is None:
            return 0.0
        self._forget_old(times, now)
        if not times:
            del self._taken[client_id]
        excess = len(times) - self.limit
        if excess <= 0:
            return 0.0
        self.delayed += 1
        return min(_FIRST_DELAY_SECONDS * 2.0 ** min(excess - 1, 8), _LONGEST_DELAY_SECONDS)

    @staticmethod
    def _forget_old(times: deque[float], now: float) -> None:
        while times and now - times[0] > _WINDOW_SECONDS:
            times.popleft()
