"""Which node has a forward: who has the turn at it in Redis, which ends by itself within seconds.

All that is free is taken: of nodes that are there, the first one has all forwards. Who has a turn and does
not hear from Redis keeps it: if it is another's by then, the next answer says so, and the session says so
before.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import anyio

from broker.observability.logs import get_logger
from cluster.control import Control
from cluster.store.errors import StoreError

TURN_SECONDS: Final = 4
"""Within which another node goes on after a kill, and LOOK_SECONDS."""
LOOK_SECONDS: Final = 1.0

logger = get_logger(__name__)


class Turns:
    """At the forwards `names`, for the node of `control`: one question a second for all of them."""

    def __init__(self, control: Control, names: Sequence[str]) -> None:
        self._control = control
        self._names = names
        self._ours: set[str] = set()
        self._working: dict[str, anyio.CancelScope] = {}
        self._changed = anyio.Event()

    async def run(self) -> None:
        """Takes and renews them until cancelled."""
        while True:
            ours = await self._take(self._names, TURN_SECONDS)
            if ours is not None and ours != self._ours:
                for name in self._ours - ours:
                    if name in self._working:
                        self._working[name].cancel()
                self._ours = ours
                self._changed.set()
                self._changed = anyio.Event()
            await anyio.sleep(LOOK_SECONDS)

    async def until_ours(self, name: str) -> None:
        """Waits until this node has it."""
        while name not in self._ours:
            await self._changed.wait()

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Ends what is in it when the turn is another's."""
        with anyio.CancelScope() as scope:
            self._working[name] = scope
            try:
                yield
            finally:
                del self._working[name]

    async def give_back(self) -> None:
        """Nothing is worked at any more. Does not wait for long."""
        with anyio.move_on_after(LOOK_SECONDS, shield=True):
            await self._take(sorted(self._ours), 0)

    async def _take(self, names: Sequence[str], seconds: int) -> set[str] | None:
        """Those that are ours then; None: Redis does not say."""
        chores = [f"forward:{name}" for name in names]
        try:
            taken = await self._control.take_turns(chores, self._control.incarnation, seconds)
        except StoreError as error:
            logger.debug("no turns: %s", error)
            return None
        return {name for name, is_ours in zip(names, taken, strict=True) if is_ours}
