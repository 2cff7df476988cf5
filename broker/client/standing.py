"""Since when something of a client stands still: the oldest message that it has not acknowledged, and the
pause in which nothing is read from it.

Nobody notes that when it begins: it would cost each message. So all clients are looked at in turn, some
thousand a second, and what is found to be as it was at the look before has stood at least since that. With
more clients than that it is noticed later, never too early. What stands for long is told as an event.
"""

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import anyio

from broker.client.client import Client
from broker.client.telling import tell_held_up, tell_went_on

CLIENTS_PER_SECOND: Final = 2500
HELD_UP_SECONDS: Final = 10.0
WINDOW_FULL: Final = "window_full"
READING_PAUSED: Final = "reading_paused"
_AT_A_TIME: Final = 500
_NONE: Final = 0


class Stands(NamedTuple):
    """Of one session, by its epoch: the number of the oldest delivery, and of the oldest in its PUBREL phase;
    monotonic seconds, 0.0 where nothing stands. `told`: why it is held up, if that was told."""

    epoch: int
    oldest: int = _NONE
    oldest_since: float = 0.0
    releasing: int = _NONE
    releasing_since: float = 0.0
    paused_since: float = 0.0
    told: str = ""


class Standing:
    """Of the clients of a node."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        self._clients = clients
        self._stands: dict[str, Stands] = {}

    def find(self, client: Client) -> Stands | None:
        """What is known of its connection."""
        stands = self._stands.get(client.client_id)
        return stands if stands is not None and stands.epoch == client.epoch else None

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look_at_all()

    async def look_at_all(self) -> None:
        """One round, which takes a second or more."""
        found: dict[str, Stands] = {}
        clients = list(self._clients.values())
        pause = 1.0 / max(1, min(len(clients), CLIENTS_PER_SECOND) // _AT_A_TIME)
        for first in range(0, max(1, len(clients)), _AT_A_TIME):
            now = time.monotonic()
            for client in clients[first : first + _AT_A_TIME]:
                stands = self.look(client, now)
                if stands is not None:
                    found[client.client_id] = stands
            await anyio.sleep(pause)
        self._stands = found

    def look(self, client: Client, now: float) -> Stands | None:
        """How it stands, as far as it does."""
        session = client.session
        if session is None or client.is_closed:
            return None
        outbound = session.outbound
        before = self.find(client)
        if not outbound.inflight and not outbound.released and client.is_reading:
            if before is not None and before.told:
                tell_went_on(client, before.told)
            return None
        if before is None:
            before = Stands(client.epoch)
        oldest = next(iter(outbound.inflight.values())) >> 2 if outbound.inflight else _NONE
        releasing = next(iter(outbound.released.values())) if outbound.released else _NONE
        oldest_since = _since(oldest, before.oldest, before.oldest_since, now)
        releasing_since = _since(releasing, before.releasing, before.releasing_since, now)
        paused_since = 0.0 if client.is_reading else before.paused_since or now
        told = before.told
        if outbound.quota <= 0:
            since = min(oldest_since or now, releasing_since or now)
            told = _tell(client, WINDOW_FULL, since, told, now)
        elif paused_since or told:
            told = _tell(client, READING_PAUSED, paused_since or now, told, now)
        return Stands(client.epoch, oldest, oldest_since, releasing, releasing_since, paused_since, told)


def _tell(client: Client, reason: str, since: float, told: str, now: float) -> str:
    """What is told by now, if it stands since then for that reason. Long is HELD_UP_SECONDS."""
    if now - since < HELD_UP_SECONDS:
        reason = ""
    if told and told != reason:
        tell_went_on(client, told)
    if reason and told != reason:
        tell_held_up(client, reason, now - since)
    return reason


def _since(number: int, before: int, since: float, now: float) -> float:
    if number == _NONE:
        return 0.0
    return since if number == before else now
