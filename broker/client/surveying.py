"""Looks through the connected clients, some at a time, for what would cost too much to count message by
message: QoS 2 exchanges that are open, and the age of the oldest; messages that wait for direct sessions.

When an exchange began is not known, and need not be: the first look that finds it open notes the time. Then
it is watched, with each step, until it is not the same one any more. At most `WATCHED` are: most of them end
within a moment and give their place to others, so one that is stuck gets a place soon, and keeps it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from broker.client.client import Client
from broker.client.hub import Hub
from broker.observability.sounding import PHASES, Soundings
from broker.session import Outbox, Session

STEP_SECONDS: Final = 0.05
CLIENTS_PER_STEP: Final = 500
INTERVAL_SECONDS: Final = 2.0
WATCHED: Final = 200
_IN_FLIGHT_PER_CLIENT: Final = 10
"""So many messages in flight are as much work as a client that has none."""
_PROBED_OUTBOXES: Final = 4

_Key = tuple[str, str, int, int]
"""Client, direction, Packet Identifier, and what tells this exchange from the next one with that identifier:
its number, or, as clients choose their identifiers, its phase."""


@dataclass(slots=True)
class _Found:
    """What one pass has found so far."""

    exchanges: dict[tuple[str, str], int]
    backlog_messages: int = 0
    longest_backlog: int = 0


class Survey:
    """Of one node."""

    def __init__(self, hub: Hub, soundings: Soundings, now: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._soundings = soundings
        self._now = now
        self._watched: dict[_Key, float] = {}

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            started = self._now()
            await self.look()
            while (rest := started + INTERVAL_SECONDS - self._now()) > 0:
                await anyio.sleep(min(rest, 10 * STEP_SECONDS))
                self._watch()

    async def look(self) -> None:
        """One pass through all who are connected now."""
        found = _Found(dict.fromkeys(self._soundings.exchanges, 0))
        work = 0
        for client in list(self._hub.clients.values()):
            session = client.session
            if session is not None and not client.is_closed:
                self._look_at(session, found)
                work += 1 + len(session.outbound.inflight) // _IN_FLIGHT_PER_CLIENT
            if work >= CLIENTS_PER_STEP:
                work = 0
                await anyio.sleep(STEP_SECONDS)
                self._watch()
        self._soundings.exchanges.update(found.exchanges)
        self._soundings.backlog_messages = found.backlog_messages
        limit = self._hub.settings.direct_queue_limit
        self._soundings.backlog_fullest = found.longest_backlog / limit if limit else 0.0
        self._watch()

    def _look_at(self, session: Session, found: _Found) -> None:
        direct = session.direct
        if direct is not None and direct.waiting:
            found.backlog_messages += direct.waiting
            found.longest_backlog = max(found.longest_backlog, direct.waiting)
        outbound = session.outbound
        if outbound.inflight or outbound.released:
            seen: set[int] = set()
            for phase, packet_id, n in outbound.exchanges():
                found.exchanges["out", PHASES["out"][phase]] += 1
                if phase not in seen:  # the oldest in it
                    seen.add(phase)
                    self._note((session.client_id, "out", packet_id, n))
        if session.inbound.has_exchanges():
            inbound = session.inbound.exchanges()
            for phase, _ in inbound:
                found.exchanges["in", PHASES["in"][phase]] += 1
            phase, packet_id = inbound[0]
            self._note((session.client_id, "in", packet_id, phase))

    def _note(self, key: _Key) -> None:
        if key not in self._watched and len(self._watched) < WATCHED:
            self._watched[key] = self._now()

    def _watch(self) -> None:
        """Forgets those that are over, and says how old the oldest is."""
        clients = self._hub.clients
        self._watched = {key: since for key, since in self._watched.items() if _is_open(key, clients)}
        now = self._now()
        for direction in PHASES:
            times = [since for key, since in self._watched.items() if key[1] == direction]
            self._soundings.oldest_exchange[direction] = now - min(times, default=now)


def _is_open(key: _Key, clients: dict[str, Client]) -> bool:
    client_id, direction, packet_id, mark = key
    client = clients.get(client_id)
    session = client.session if client is not None else None
    if session is None:
        return False
    half = session.outbound if direction == "out" else session.inbound
    return half.has_exchange(packet_id, mark)


def probe(hub: Hub, ready: Sequence[Outbox]) -> None:
    """Of those who are about to be sent something: has one whose acknowledgement will be timed."""
    hub.tick()
    for outbox in ready[:_PROBED_OUTBOXES]:
        client = outbox.sink
        if isinstance(client, Client) and client.session is not None and client.session.outbound.probe():
            return
