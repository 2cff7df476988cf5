"""How far the subscriptions of each persistent session are known to a node: up to which stamp.

What the rows of a session say is all that there is if none of its changes is newer than the newest of them,
or than the newest that the log has told. But a node which has lost the session meanwhile may write a row
late, when the next owner has deleted it already. Such a row is older than what is known, and so is one that
is written again after it was lost. Of a session with such a row nothing is known until the store is asked.
"""

from collections.abc import Iterable

from broker.routing.packed import PackedMap


class Knowledge:
    """Clients are named by the bytes of their identifiers."""

    __slots__ = ("_doubted", "_noted")

    def __init__(self) -> None:
        self._noted = PackedMap()  # client -> nothing -> stamp that the log or the store has told
        self._doubted: set[bytes] = set()

    def up_to(self, client: bytes, stamps: Iterable[int]) -> int:
        """The stamp; `stamps` are those of the client's rows. 0 if nothing is sure."""
        if client in self._doubted:
            return 0
        return max(int(self._noted.get(client, b"") or 0), *stamps, 0)

    def note(self, client: bytes, stamp: int) -> None:
        """Every change up to this one has been taken over."""
        if int(self._noted.get(client, b"") or 0) < stamp:
            self._noted.put(client, b"", b"%d" % stamp)

    def doubt(self, client: bytes) -> None:
        """It has a row that was written late."""
        self._doubted.add(client)

    def trust(self, client: bytes) -> None:
        """The store has told all that there is."""
        self._doubted.discard(client)

    def is_doubted(self, client: bytes) -> bool:
        """Whether the store has to be asked."""
        return client in self._doubted

    def forget(self, client: bytes) -> None:
        """It has no rows any more."""
        self._noted.remove(client, b"")
        self._doubted.discard(client)

    def forget_noted(self, rows: PackedMap) -> None:
        """These are the rows now: client -> filter -> stamp."""
        self._noted = PackedMap()
        self._doubted = {client for client in self._doubted if rows.has(client)}
