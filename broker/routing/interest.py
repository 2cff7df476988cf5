"""What direct subscribers of this node want at QoS 1 and 2, so that other nodes send it here."""


class Interest:
    """Counts direct subscriptions by filter, and knows which filters the store has been told of."""

    __slots__ = ("_confirmed", "_counts")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._confirmed: set[str] = set()

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, filter: str) -> bool:
        """One more subscription. True if the store must be told (again) before it counts."""
        self._counts[filter] = self._counts.get(filter, 0) + 1
        return filter not in self._confirmed

    def confirm(self, filter: str) -> None:
        """The store knows of this filter."""
        if filter in self._counts:
            self._confirmed.add(filter)

    def remove(self, filter: str) -> bool:
        """One subscription less. True if it was the last: the store is to forget the filter."""
        count = self._counts.get(filter, 0)
        if count > 1:
            self._counts[filter] = count - 1
            return False
        self._confirmed.discard(filter)
        return self._counts.pop(filter, 0) > 0
