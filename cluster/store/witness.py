"""A primary as the witness of what it has answered: asked over a connection of its own (`confirm`).

On a Redis Cluster there are several. There a slot may go to another primary with all that it has, of which
the replicas of neither may know. So behind the wait each is asked for a key that is not there, in each of its
slots: a server which has given a slot away, or is about to, refuses that.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cluster.store.call import Slot
from cluster.store.confirm import Asker, Need
from cluster.store.connection import Connection
from cluster.store.identity import Identity


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a primary is. `slots`: those of ours that it serves, at least one. `absent`: keys that are never
    there, one for each of them; none if there is one primary for all."""

    name: str
    slots: tuple[Slot, ...]
    absent: tuple[str, ...]
    connect: Callable[[], Awaitable[Connection]] = field(compare=False)


class Witness:
    """`doubt` is called if it is not the server that has answered, as far as can be seen here."""

    def __init__(self, seat: Seat, key: str, need: Need, wait_ms: int, doubt: Callable[[], None]) -> None:
        self.seat = seat
        self._key = key
        self._need = need
        self._wait_ms = wait_ms
        self._doubt = doubt
        self._asker: Asker | None = None
        self._has_written = False

    def begin(self) -> None:
        """What is asked from now on is to cover all that was answered by now."""
        self._has_written = False

    async def ask(self, known: Sequence[Identity]) -> str | None:
        """What stands against it; empty: nothing; None: another server was asked, and that is mended. Raises
        StoreError. `known` have answered."""
        asker = self._asker
        is_new = asker is None or asker.connection.is_closed
        if asker is None or is_new:
            connection = await self.seat.connect()
            asker = self._asker = Asker(connection, self._key, self._need, self._wait_ms, self.seat.absent)
            self._has_written = False
        # Written once: else what is waited for would move on with each try.
        outcome = await asker.ask(must_write=not self._has_written)
        self._has_written = True
        here = asker.connection.identity
        run_id = here.run_id if here is not None else ""
        if not all(each.is_still(outcome.replication_id, outcome.second_id, run_id=run_id) for each in known):
            self.drop("another primary")
            if not is_new:
                return None
            self._doubt()
            return "another primary has taken over: what was not confirmed is stored there once more"
        return outcome.trouble

    def drop(self, reason: str) -> None:
        """The next question connects again."""
        if self._asker is not None:
            self._asker.connection.abort(reason)
            self._asker = None
