"""What the clients connected to this node want, so that the other nodes send it here."""


class Interest:
    """Counts subscriptions by field (`<kind>:<filter>`, see `broker.routing.index`), and knows of which
    fields the store has been told.

    Fields that nobody has any more are withdrawn lazily, by `take_unused`: clients come and go with the same
    filters, and a message too many does no harm.
    """

    __slots__ = ("_counts", "_idle", "_long_idle", "_stored")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._stored: set[str] = set()
        self._idle: set[str] = set()
        self._long_idle: set[str] = set()

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, field: str) -> bool:
        """One more subscription. True if the store must be told (again) before it counts."""
        self._counts[field] = self._counts.get(field, 0) + 1
        return not self.is_stored(field)

    def is_stored(self, field: str) -> bool:
        """Whether the store knows of this field; not while it is being told."""
        return field in self._stored

    def stored(self) -> list[str]:
        """All that the store knows of, or should."""
        return list(self._stored)

    def confirm(self, field: str) -> None:
        """The store knows of this field."""
        self._stored.add(field)
        if field not in self._counts:
            self._idle.add(field)

    def remove(self, field: str) -> None:
        """One subscription less."""
        count = self._counts.pop(field) - 1
        if count:
            self._counts[field] = count
        else:
            self._idle.add(field)

    def take_unused(self) -> list[str]:
        """Fields that the store is to forget: nobody has had them since the last time. The store must be told
        in the order in which this and `add` have said so."""
        unused = [field for field in self._long_idle if field in self._stored and field not in self._counts]
        self._stored.difference_update(unused)
        self._long_idle = self._idle
        self._idle = set()
        return sorted(unused)
