"""Asks the primary for confirmations of one durability level, one at a time, on a connection of its own: what
is to be acknowledged at that level meanwhile shares the next one.

If nothing is to be confirmed it asks now and then all the same: so everybody knows that the level can't be
had before a publisher finds out. While it can't be had, it asks again and again."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from broker.observability.durability import LevelStatus
from broker.session import Confirmation
from cluster.store.confirm import Asker, Need
from cluster.store.connection import Connection
from cluster.store.errors import StoreError
from cluster.store.identity import Identity

LOOK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.25
_WAIT_MS: Final = 1000

logger = logging.getLogger(__name__)


class Confirmer:
    """`take` gives what is to be confirmed, None for nothing; `keep` is told that it is. `doubt`: the server
    that has answered is not the primary (any more), as far as can be seen here."""

    def __init__(
        self,
        need: Need,
        key: str,
        connect: Callable[[], Awaitable[Connection]],
        take: Callable[[], Confirmation | None],
        keep: Callable[[Confirmation], None],
        doubt: Callable[[], None],
        status: LevelStatus,
        exchange_timeout_seconds: float,
    ) -> None:
        self._need = need
        self._key = key
        self._connect = connect
        self._take = take
        self._keep = keep
        self._doubt = doubt
        self._status = status
        # All that is asked at once has to be answered before the connection is given up.
        self._wait_ms = min(_WAIT_MS, int(exchange_timeout_seconds * 1000 / 3))
        self._wanted = anyio.Event()
        self._asker: Asker | None = None
        self._has_written = False

    def want(self) -> None:
        """There is something to confirm."""
        self._wanted.set()

    async def run(self) -> None:
        """Asks until cancelled."""
        try:
            while True:
                self._wanted = anyio.Event()
                await self._confirm(self._take())
                with anyio.move_on_after(LOOK_SECONDS):
                    await self._wanted.wait()
        finally:
            self._drop("closed")

    async def _confirm(self, confirmation: Confirmation | None) -> None:
        """Until it is confirmed, or void; a look is made once."""
        started = time.monotonic()
        self._has_written = False
        while confirmation is None or not confirmation.is_void:
            try:
                trouble = await self._ask(confirmation)
            except StoreError as error:
                self._drop(str(error))
                trouble = f"Redis does not answer: {error}"
            if trouble is None:  # asked of the wrong one: once more
                continue
            if not trouble:
                self._note_confirmed(time.monotonic() - started if confirmation is not None else None)
                if confirmation is not None and not confirmation.is_void:
                    self._keep(confirmation)
                return
            self._note_trouble(trouble)
            if confirmation is None:
                return
            await anyio.sleep(_PAUSE_SECONDS)

    async def _ask(self, confirmation: Confirmation | None) -> str | None:
        """What stands against it; empty: nothing; None: another server was asked, and that is mended."""
        asker = self._asker
        is_new = asker is None or asker.connection.is_closed
        if asker is None or is_new:
            asker = self._asker = Asker(await self._connect(), self._key, self._need, self._wait_ms)
            self._has_written = False
        # Written once: else what is waited for would move on with each try.
        outcome = await asker.ask(must_write=not self._has_written)
        self._has_written = True
        primary = confirmation.primary if confirmation is not None else None
        if isinstance(primary, Identity):
            here = asker.connection.identity
            run_id = here.run_id if here is not None else ""
            if not primary.is_still(outcome.replication_id, outcome.second_id, run_id=run_id):
                self._drop("another primary")
                if not is_new:
                    return None
                self._doubt()
                return "another primary has taken over: what was not confirmed is stored there once more"
        return outcome.trouble

    def _note_confirmed(self, seconds: float | None) -> None:
        if self._status.trouble:
            logger.warning("durability level can be had again", extra={"durability": self._status.name})
        self._status.note_confirmed(seconds)

    def _note_trouble(self, trouble: str) -> None:
        if not self._status.trouble:
            logger.warning(
                "durability level can't be had, nothing is acknowledged at it: %s",
                trouble,
                extra={"durability": self._status.name},
            )
        self._status.note_trouble(trouble)

    def _drop(self, reason: str) -> None:
        if self._asker is not None:
            self._asker.connection.abort(reason)
            self._asker = None
