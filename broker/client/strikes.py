"""What clients do too often: counted in bounded memory, by the clock of whoever asks. No I/O."""

from typing import Final

KEYS_MAXIMUM: Final = 10_000


class Strikes:
    """Counts by key, from the first one on for so many seconds; then a key begins anew. When there are too
    many keys, the one that was quiet for the longest is forgotten."""

    __slots__ = ("_counts", "_limit", "_window_seconds")

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_seconds = window_seconds
        self._counts: dict[str, tuple[float, int]] = {}  # key -> since when, how many

    def change(self, limit: int, window_seconds: float) -> None:
        """From now on, and from nothing."""
        self._limit = limit
        self._window_seconds = window_seconds
        self._counts.clear()

    def __len__(self) -> int:
        return len(self._counts)

    def note(self, key: str, now: float) -> bool:
        """One more. True when that is one too many; never if the limit is 0."""
        if not self._limit:
            return False
        since, count = self._counts.pop(key, (now, 0))
        if now - since > self._window_seconds:
            since, count = now, 0
        self._counts[key] = since, count + 1
        if len(self._counts) > KEYS_MAXIMUM:
            del self._counts[next(iter(self._counts))]
        return count == self._limit

    def excess(self, key: str, now: float) -> int:
        """How many too many there were; 0 if there were not."""
        since, count = self._counts.get(key, (now, 0))
        return 0 if now - since > self._window_seconds else max(0, count - self._limit)

    def forget(self, key: str) -> None:
        """It was dealt with."""
        self._counts.pop(key, None)
