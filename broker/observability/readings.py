"""The numbers that alarms look at: what the counters say now, and how they have grown within some seconds."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from broker.observability.metrics import Counters
from broker.observability.sounding import Soundings

WINDOW_SECONDS: Final = 10.0
LONG_WINDOW_SECONDS: Final = 60.0
CLIENT_CHARACTERS: Final = 200
"""Of a Client Identifier in the text of an alarm."""
TEXT_CHARACTERS: Final = 600
"""Of reasons in the text of an alarm."""


def _dropped(c: Counters) -> int:
    """At QoS 1 and 2."""
    at_qos0 = sum(count for _, count in c.dropped_at_qos0.items())
    return sum(count for _, count in c.messages_dropped.items()) - at_qos0


_TOTALS: Final[Mapping[str, Callable[[Counters], float]]] = {
    "cpu_seconds": lambda _: time.process_time(),
    "lag_seconds": lambda c: c.loop_lag.sum,
    "lags": lambda c: c.loop_lag.count,
    "redis_seconds": lambda c: c.redis_round_trip.sum,
    "redis_round_trips": lambda c: c.redis_round_trip.count,
    "dropped": _dropped,
    "flapping": lambda c: c.bans.automatic["flapping"],
    "delayed_fsync": lambda c: c.soundings.redis_delayed_fsync or 0,
}
"""What only grows."""


class Readings:
    """Of one node. `take` is to be called once a second or so; None where nothing is known (yet)."""

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.time) -> None:
        self._counters = counters
        self._clock = clock
        self._past: deque[tuple[float, dict[str, float]]] = deque()

    def take(self, now: float) -> None:
        """Notes how far everything has grown; `now` in monotonic seconds."""
        self._past.append((now, {name: total(self._counters) for name, total in _TOTALS.items()}))
        while len(self._past) > 2 and now - self._past[1][0] >= LONG_WINDOW_SECONDS:
            self._past.popleft()

    def growth(self, name: str, window_seconds: float) -> tuple[float, float] | None:
        """How much it has grown within the window, and in how many seconds."""
        if len(self._past) < 2:
            return None
        now, newest = self._past[-1]
        then, oldest = next(each for each in self._past if now - each[0] <= window_seconds)
        if then == now:  # nobody has looked for so long
            then, oldest = self._past[-2]
        return newest[name] - oldest[name], now - then

    def per_second(self, name: str, window_seconds: float = WINDOW_SECONDS) -> float | None:
        """How fast it grows."""
        grown = self.growth(name, window_seconds)
        return None if grown is None else grown[0] / grown[1]

    def mean(self, total: str, samples: str) -> float | None:
        """Of the samples within the window."""
        sums, counts = self.growth(total, WINDOW_SECONDS), self.growth(samples, WINDOW_SECONDS)
        return None if sums is None or counts is None or counts[0] <= 0 else sums[0] / counts[0]

    @property
    def soundings(self) -> Soundings:
        """As of the last look."""
        return self._counters.soundings

    @property
    def counters(self) -> Counters:
        """As of now."""
        return self._counters

    def memory(self) -> float | None:
        """Share of the mark."""
        limit = self._counters.memory_limit
        return self._counters.memory_used / limit if limit else None

    def redis_memory(self) -> float | None:
        """Share of maxmemory; 0 if there is no limit (any more)."""
        used, maximum = self.soundings.redis_memory_used, self.soundings.redis_memory_maximum
        if used is None or maximum is None:
            return None
        return used / maximum if maximum else 0.0

    def queue(self) -> float:
        """Share of its limit that the fullest queue has reached, in Redis or in this node."""
        return max(self.soundings.queue_fullest or 0.0, self.soundings.backlog_fullest)

    def whose_queue(self) -> str:
        """Of which client the fullest queue is, if it is in Redis."""
        soundings = self.soundings
        if (soundings.queue_fullest or 0.0) < soundings.backlog_fullest or not soundings.queue_fullest_client:
            return ""
        return f"It is that of client {soundings.queue_fullest_client[:CLIENT_CHARACTERS]}."

    def missing_levels(self) -> str:
        """Which durability levels can't be had, and why."""
        found = [f"{level.name}: {level.trouble}." for level in self._counters.durability if level.trouble]
        return " ".join(found)[:TEXT_CHARACTERS]

    def flapping(self) -> float:
        """Clients that are fought over, and bans for flapping within the long window."""
        grown = self.growth("flapping", LONG_WINDOW_SECONDS)
        return self._counters.fights + (grown[0] if grown is not None else 0.0)

    def days_left(self, expiries: Mapping[tuple[str, str], float]) -> float | None:
        """Until the first of them; None if there are none."""
        return min(((at - self._clock()) / 86_400 for at in expiries.values()), default=None)
