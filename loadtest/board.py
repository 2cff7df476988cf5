"""The running counts of one worker, which all its clients write on."""

import asyncio
import time
from dataclasses import dataclass, field

from loadtest.histogram import Histogram


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts at one moment."""

    at_ns: int
    sent: int
    delivered: int
    cpu_seconds: float  # of this worker


@dataclass(slots=True)
class Board:
    """The counts of a worker. `delivered` counts each PUBLISH that came, repeated ones too."""

    sent: int = 0
    delivered: int = 0
    duplicates: int = 0
    missing: int = 0  # jumped over, and not come since
    order_errors: int = 0
    corrupt: int = 0  # payloads that no publisher of this run has sent in that form
    refused: int = 0  # publishes the broker answered with a Reason Code of 0x80 or above
    acknowledged: int = 0
    last_delivery_ns: int = 0
    latency: Histogram = field(default_factory=Histogram)  # since `lap`, `begin_measuring` or `measured`
    stored: Histogram = field(default_factory=Histogram)
    """Of what was sent while its subscriber was away: from the moment it came (back)."""
    away: int = 0  # subscribers that are not connected
    faults: list[str] = field(default_factory=list)  # connections that were lost, in words
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _wanted: tuple[int, int, int] | None = None
    _lap: Histogram = field(default_factory=Histogram)
    _measured: Histogram = field(default_factory=Histogram)

    def snapshot(self) -> Snapshot:
        """The counts now."""
        return Snapshot(time.monotonic_ns(), self.sent, self.delivered, time.process_time())

    @property
    def flow(self) -> dict[str, int]:
        """See timeline.Lap."""
        return {"sent": self.sent, "delivered": self.delivered}

    @property
    def so_far(self) -> dict[str, int]:
        """See timeline.Lap."""
        return {
            "missing": self.missing,
            "duplicates": self.duplicates,
            "order_errors": self.order_errors,
            "corrupt": self.corrupt,
            "refused": self.refused,
            "connections_lost": len(self.faults),
        }

    def lap(self) -> Histogram:
        """The latencies since the last lap."""
        self._collect()
        lap, self._lap = self._lap, Histogram()
        return lap

    def begin_measuring(self) -> None:
        """Forget the latencies up to now, but for those of this lap."""
        self._collect()
        self._measured = Histogram()

    def measured(self) -> Histogram:
        """The latencies since measuring began."""
        self._collect()
        return self._measured

    def _collect(self) -> None:
        latest, self.latency = self.latency, Histogram()
        self._lap.add(latest)
        self._measured.add(latest)

    def expect(self, *, sent: int = 0, acknowledged: int = 0, received: int = 0) -> None:
        """From now on `changed` is set once there are this many messages sent, acknowledged and
        (different) received.
        """
        self._wanted = (sent, acknowledged, received)
        self.changed.clear()
        self.check()

    def expect_more(self, received: int) -> None:
        """From now on `changed` is set once `received` different messages more have come."""
        self.expect(received=self.delivered - self.duplicates + received)

    def check(self) -> None:
        """Called by the clients after each chunk that changed a count."""
        if self._wanted is not None:
            sent, acknowledged, received = self._wanted
            if (
                self.sent >= sent
                and self.acknowledged >= acknowledged
                and self.delivered - self.duplicates >= received
            ):
                self.changed.set()

    async def reached(self, quiet_seconds: float) -> bool:
        """Wait until what was expected is there. False if nothing has come or gone for `quiet_seconds`."""
        while True:
            before = (self.sent, self.acknowledged, self.delivered)
            try:
                async with asyncio.timeout(quiet_seconds):
                    await self.changed.wait()
            except TimeoutError:
                if before == (self.sent, self.acknowledged, self.delivered):
                    return False
            else:
                return True
