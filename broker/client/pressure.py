"""What a node does when memory is short: it takes no more connections, and lets nothing pile up.

Above its mark it is closed to those who come (`on_change`), reads no more from the clients of whom most waits
for the store, and drops messages at QoS 0 for those who read slowly sooner. Each second it looks for more of
them, until memory is a twentieth below the mark. Clients of whom little waits notice nothing.
"""

import heapq
from collections.abc import Callable
from typing import Final

import anyio
import anyio.lowlevel

from broker.client.client import Client
from broker.client.hub import Hub
from broker.observability.logs import get_logger
from broker.observability.memory import MemoryMark

LOOK_SECONDS: Final = 1.0
LOW_SHARE: Final = 0.95  # of the mark: below it memory is enough again
LITTLE_BYTES: Final = 65_536
"""Of whom no more waits, that one is left alone."""

_CLIENTS_AT_A_TIME: Final = 1000
_HELD_AT_A_TIME: Final = 100

logger = get_logger(__name__)


class Pressure:
    """Of one node. `mark`: None, and nothing is done."""

    def __init__(self, hub: Hub, mark: MemoryMark | None, on_change: Callable[[str], None]) -> None:
        self._hub = hub
        self._mark = mark
        self._on_change = on_change  # why nobody may come in, or nothing
        self.is_high = False
        hub.counters.memory_limit = mark.limit_bytes if mark is not None else 0

    async def run(self) -> None:
        """Looks until cancelled."""
        if self._mark is None:
            return
        while True:
            await self.look(self._mark)
            await anyio.sleep(LOOK_SECONDS)

    async def look(self, mark: MemoryMark) -> None:
        """How much there is now, and what to do about it."""
        try:
            used = mark.used()
        except (OSError, ValueError) as error:
            logger.error("can't tell how much memory is used: %s", error)
            return
        self._hub.counters.memory_used = used
        if used >= mark.limit_bytes:
            if not self.is_high:
                self._change(True, used, mark.limit_bytes)
            await self._relieve()
        elif self.is_high and used < mark.limit_bytes * LOW_SHARE:
            self._change(False, used, mark.limit_bytes)
            await self._let_go()

    def _change(self, is_high: bool, used: int, limit: int) -> None:
        self.is_high = is_high
        extra = {"used_bytes": used, "high_water_bytes": limit}
        if is_high:
            self._on_change(f"memory: {used >> 20} MiB, {limit >> 20} MiB are the mark")
            logger.error("memory is short: no more connections are taken", extra=extra)
        else:
            self._on_change("")
            logger.warning("memory is enough again: connections are taken", extra=extra)

    async def _relieve(self) -> None:
        heaviest: list[tuple[int, int, Client]] = []
        for number, client in enumerate(list(self._hub.clients.values())):
            if client.outbox.size_bytes > LITTLE_BYTES:
                client.outbox.limit_bytes = LITTLE_BYTES
            waiting = client.intake.bytes if client.intake is not None else 0
            if waiting > LITTLE_BYTES and not client.is_held_back and not client.is_closed:
                heapq.heappush(heaviest, (waiting, number, client))
                if len(heaviest) > _HELD_AT_A_TIME:
                    heapq.heappop(heaviest)
            if number % _CLIENTS_AT_A_TIME == _CLIENTS_AT_A_TIME - 1:
                await anyio.lowlevel.checkpoint()
        for _, _, client in heaviest:
            client.is_held_back = True
            client.stop_reading()
            self._hub.offences.slow_down(
                "memory_high_water_bytes", client_id=client.client_id, peer=client.peer
            )

    async def _let_go(self) -> None:
        for number, client in enumerate(list(self._hub.clients.values())):
            client.outbox.limit_bytes = self._hub.settings.outbound_buffer_bytes
            if client.is_held_back:
                client.is_held_back = False
                self._hub.when_sure(client.resume_reading)
            if number % _CLIENTS_AT_A_TIME == _CLIENTS_AT_A_TIME - 1:
                await anyio.lowlevel.checkpoint()
