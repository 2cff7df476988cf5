"""What becomes of clients, told to whoever wants to know: the history of a client, streams of the admin API,
forwards. Nothing is kept in here, and nothing is told where nobody asks."""

from collections.abc import Callable
from typing import Final

from broker.observability.logs import get_logger

CONNECTED: Final = "connected"
DISCONNECTED: Final = "disconnected"
HELD_UP: Final = "held_up"
REFUSED: Final = "refused"
SESSION_ENDED: Final = "session_ended"
SUBSCRIBED: Final = "subscribed"
TAKEN_OVER: Final = "taken_over"
UNSUBSCRIBED: Final = "unsubscribed"
WENT_ON: Final = "went_on"

logger = get_logger(__name__)


class Event:
    """Something that has happened to a client at `at_ms`, Redis time as the node knows it. `fields` are
    what JSON can hold; never passwords or payloads. Nobody changes one. (No dataclass, whose making is not
    compiled: each connection makes two.)"""

    __slots__ = ("at_ms", "client_id", "fields", "kind")

    def __init__(self, kind: str, client_id: str, at_ms: int, fields: dict[str, object]) -> None:
        self.kind = kind
        self.client_id = client_id
        self.at_ms = at_ms
        self.fields = fields

    def __repr__(self) -> str:
        return f"Event({self.kind!r}, {self.client_id!r}, {self.at_ms}, {self.fields!r})"


Taker = Callable[[Event], None]
"""Must not wait and must not raise: it is called in the middle of a connection's work."""


class Events:
    """Of one node. `is_wanted` is looked at before an event is made."""

    __slots__ = ("_takers", "is_wanted")

    def __init__(self) -> None:
        self._takers: tuple[Taker, ...] = ()
        self.is_wanted = False

    def __repr__(self) -> str:
        return f"Events({len(self._takers)} takers)"

    def add(self, taker: Taker) -> Callable[[], None]:
        """From now on `taker` is told; until what is returned is called."""
        self._takers = (*self._takers, taker)
        self.is_wanted = True

        def remove() -> None:
            self._takers = tuple(each for each in self._takers if each is not taker)
            self.is_wanted = bool(self._takers)

        return remove

    def tell(self, kind: str, client_id: str, at_ms: int, fields: dict[str, object]) -> None:
        """An event has happened."""
        event = Event(kind, client_id, at_ms, fields)
        for taker in self._takers:
            try:
                taker(event)
            except Exception:  # a bug of ours, which must not end the connection that it is about
                logger.exception("an event could not be taken", extra={"kind": kind, "client_id": client_id})
