"""Keeps in Redis what has happened to each client of late, for a person who asks later.

Beside the lane, once a second, and bounded in every way: events of a client in a second, clients whose events
wait, clients written in a second, new clients in a day. What is beyond that, or comes while Redis is away, is
left out and counted: nobody's connection waits for it.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.lowlevel

from broker.client.recent import RecentEvents
from broker.observability.events import CONNECTED, DISCONNECTED, REFUSED, SUBSCRIBED, Event
from broker.observability.logs import get_logger
from broker.observability.token_bucket import TokenBucket
from cluster.store.call import Reply, Request
from cluster.store.errors import NodeGone, StoreError
from cluster.store.events import BEGAN, WENT_ON, note_events, pack_event

INTERVAL_SECONDS: Final = 1.0
CLIENTS_AT_A_TIME: Final = 2_000
"""Written in a second, in calls of"""
_REQUESTS: Final = 100

_EVENT_BYTES: Final = 100
_LONG_BYTES: Final = 250
_TEXT: Final = 200
IN_ORDER: Final = "client disconnected"
_FILTERS: Final = 5
_STRANGERS: Final = 100  # of so many that may begin one may be a client that was only refused

logger = get_logger(__name__)

Write = Callable[[Sequence[Request]], Awaitable[Sequence[Reply]]]


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """See `broker.settings.history`."""

    events: int
    seconds: int
    clients: int


class History:
    """Of one node. `recent.take` is a taker of `hub.events`; `write` carries requests to the store."""

    def __init__(
        self, write: Write, limits: HistoryLimits, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._bytes_maximum = limits.events * _EVENT_BYTES
        self._ttl_ms = limits.seconds * 1000
        self._now = now
        rate = limits.clients / limits.seconds
        self._new = TokenBucket(rate, limits.clients, now())
        self._strangers = TokenBucket(rate / _STRANGERS, max(1, limits.clients // _STRANGERS), now())
        self.recent = RecentEvents()
        self._unwritten = 0

    @property
    def lost(self) -> int:
        """Events that are not in Redis."""
        return self.recent.lost + self._unwritten

    async def run(self) -> None:
        """Writes once a second, until cancelled. Raises NodeGone."""
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Writes what waits, or some of it."""
        written = 0
        while self.recent and written < CLIENTS_AT_A_TIME:
            some = [events for events in self.recent.pop(_REQUESTS) if not _is_passing(events)]
            written += len(some)
            if some and not await self._store(some):
                return
            await anyio.lowlevel.checkpoint()

    async def _store(self, some: Sequence[list[Event]]) -> bool:
        """False if Redis does not take it."""
        now = self._now()
        budgets = [self._strangers if _is_stranger(events) else self._new for events in some]
        has_room = {budget: budget.take(0, now) == 0.0 for budget in (self._new, self._strangers)}
        requests = [
            note_events(
                events[0].client_id, _packed(events), self._bytes_maximum, self._ttl_ms, has_room[budget]
            )
            for events, budget in zip(some, budgets, strict=True)
        ]
        try:
            replies = await self._write(requests)
        except NodeGone:
            raise
        except StoreError as error:
            self._unwritten += sum(map(len, some))
            logger.debug("events of clients are not kept: %s", error)
            return False
        for events, budget, reply in zip(some, budgets, replies, strict=True):
            if reply == BEGAN:
                budget.take(1, now)
            elif reply != WENT_ON:
                self._unwritten += len(events)
        return True


def _is_passing(events: Sequence[Event]) -> bool:
    """A client that came and went in order at once, with a session that has ended: most of those who only
    publish something, often under an identifier that nobody will ever ask for."""
    if len(events) != 2:
        return False
    first, last = events
    return (
        last.kind == DISCONNECTED
        and first.kind == CONNECTED
        and not first.fields.get("persistent")
        and last.fields.get("reason") == IN_ORDER
    )


def _is_stranger(events: Sequence[Event]) -> bool:
    """Who was only refused may be anybody."""
    return events[0].kind == REFUSED and all(event.kind == REFUSED for event in events)


def _packed(events: Sequence[Event]) -> bytes:
    parts = []
    for event in reversed(events):
        packed = pack_event(event.at_ms, event.kind, event.fields)
        if event.kind == SUBSCRIBED or len(packed) > _LONG_BYTES:
            packed = pack_event(event.at_ms, event.kind, brief(event.fields))
        parts.append(packed)
    return b"".join(parts)


def brief(fields: Mapping[str, object]) -> dict[str, object]:
    """Nothing at length."""
    return {name: _brief_value(value) for name, value in fields.items()}


def _brief_value(value: object) -> object:
    if isinstance(value, str):
        return value[:_TEXT]
    if isinstance(value, list):
        shown = [_brief_item(item) for item in value[:_FILTERS]]
        return [*shown, f"and {len(value) - _FILTERS} more"] if len(value) > _FILTERS else shown
    return value


def _brief_item(item: object) -> str:
    """Of a list: a filter, or a filter with its QoS."""
    if isinstance(item, Mapping):
        return f"{str(item.get('filter'))[:_TEXT]} (QoS {item.get('qos')})"
    return str(item)[:_TEXT]
