"""Asks the primary for confirmations of one durability level, one at a time, on a connection of its own: what
is to be acknowledged at that level meanwhile shares the next one. On a Redis Cluster all primaries are asked
at once, and each has to confirm.

If nothing is to be confirmed it asks now and then all the same: so everybody knows that the level can't be
had before a publisher finds out. While it can't be had, it asks again and again."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio

from broker.observability.durability import LevelStatus
from broker.session import Confirmation
from cluster.store.call import Slot
from cluster.store.confirm import Need
from cluster.store.errors import SlotMoved, SlotMoving, StoreError
from cluster.store.identity import Identities, Identity
from cluster.store.witness import Seat, Witness

LOOK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.25
_WAIT_MS: Final = 1000

logger = logging.getLogger(__name__)


class Confirmer:
    """`seats` are the primaries, `look_again` finds out whether they still are; `key_of` tells which key is
    written in a slot. `take` gives what is to be confirmed, None for nothing; `keep` is told that it is.
    `doubt`: a server that has answered is not the primary (any more), as far as can be seen here."""

    def __init__(
        self,
        need: Need,
        key_of: Callable[[Slot], str],
        seats: Callable[[], Sequence[Seat]],
        look_again: Callable[[StoreError], Awaitable[None]],
        take: Callable[[], Confirmation | None],
        keep: Callable[[Confirmation], None],
        doubt: Callable[[], None],
        status: LevelStatus,
        exchange_timeout_seconds: float,
    ) -> None:
        self._need = need
        self._key_of = key_of
        self._seats = seats
        self._look_again = look_again
        self._take = take
        self._keep = keep
        self._doubt = doubt
        self._status = status
        # All that is asked at once has to be answered before the connection is given up.
        self._wait_ms = min(_WAIT_MS, int(exchange_timeout_seconds * 1000 / 3))
        self._wanted = anyio.Event()
        self._witnesses: dict[str, Witness] = {}

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
            for witness in self._witnesses.values():
                witness.drop("closed")

    async def _confirm(self, confirmation: Confirmation | None) -> None:
        """Until it is confirmed, or void; a look is made once."""
        started = time.monotonic()
        for witness in self._witnesses.values():
            witness.begin()
        while confirmation is None or not confirmation.is_void:
            trouble = await self._ask(confirmation)
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
        """What stands against it, anywhere; empty: nothing; None: another server was asked, and that is
        mended."""
        try:
            witnesses = self._summon(self._seats())
        except StoreError as error:
            await self._look_again(error)
            return f"Redis does not answer: {error}"
        primary = confirmation.primary if confirmation is not None else None
        if len(witnesses) == 1:
            return await self._ask_one(witnesses[0], primary)
        troubles: list[str | None] = []

        async def ask(witness: Witness) -> None:
            troubles.append(await self._ask_one(witness, primary))

        async with anyio.create_task_group() as tasks:
            for witness in witnesses:
                tasks.start_soon(ask, witness)
        if None in troubles:
            return None
        return "; ".join(sorted(trouble for trouble in troubles if trouble))

    def _summon(self, seats: Sequence[Seat]) -> list[Witness]:
        """Those who have to be asked now; the others are left."""
        before, self._witnesses = self._witnesses, {}
        for seat in seats:
            witness = before.get(seat.name)
            if witness is None or witness.seat != seat:
                key = self._key_of(seat.slots[0])
                witness = Witness(seat, key, self._need, self._wait_ms, self._doubt)
            self._witnesses[seat.name] = witness
        for name, witness in before.items():
            if self._witnesses.get(name) is not witness:
                witness.drop("other slots")
        return list(self._witnesses.values())

    async def _ask_one(self, witness: Witness, primary: object) -> str | None:
        known = primary.of(witness.seat.slots) if isinstance(primary, Identities) else []
        if isinstance(primary, Identity):
            known = [primary]
        try:
            trouble = await witness.ask(known)
        except (SlotMoved, SlotMoving) as error:
            witness.begin()  # what comes back with a slot is to be covered, too
            await self._look_again(error)
            if isinstance(error, SlotMoving):
                return f"{witness.seat.name}: a slot is on its way to another primary: {error}"
            await anyio.sleep(_PAUSE_SECONDS)  # not all may know yet
            return None
        except StoreError as error:
            witness.drop(str(error))
            await self._look_again(error)
            return f"Redis does not answer: {error}"
        return f"{witness.seat.name}: {trouble}" if trouble and witness.seat.name else trouble

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
