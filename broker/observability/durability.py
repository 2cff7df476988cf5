"""How the durability levels of a node are doing: for alarms and `/metrics`."""

import time
from dataclasses import dataclass, field
from typing import Final

from broker.observability.definition import Definition
from broker.observability.metrics import LATENCY_BUCKETS, Counters, Histogram


@dataclass(slots=True)
class LevelStatus:
    """Of one level above `stored` that is in use. `waiting`: acknowledgements, twice a second. `trouble`: why
    it can't be had now, for people; `since`: for how long, monotonic seconds."""

    name: str
    waiting: int = 0
    confirmations: int = 0
    failures: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    trouble: str = ""
    since: float = 0.0

    def note_confirmed(self, seconds: float | None) -> None:
        """It can be had; somebody has waited for it for so long."""
        self.trouble = ""
        if seconds is not None:
            self.confirmations += 1
            self.seconds.observe(seconds)

    def note_trouble(self, trouble: str) -> None:
        """It can't be had."""
        self.failures += 1
        if not self.trouble:
            self.since = time.monotonic()
        self.trouble = trouble

    @property
    def unavailable_seconds(self) -> float:
        """For how long it has been impossible to have it."""
        return time.monotonic() - self.since if self.trouble else 0.0


DEFINITIONS: Final[tuple[Definition[Counters], ...]] = (
    Definition(
        "gauge",
        "moorline_durability_waiting",
        "Acknowledgements that wait until what they stand for is kept as their durability level asks.",
        lambda c: [(level.name, level.waiting) for level in c.durability],
        ("level",),
        "See [durability levels](redis.md#durability-levels).",
    ),
    Definition(
        "gauge",
        "moorline_durability_unavailable_seconds",
        "Seconds for which a durability level could not be had; 0 if it can.",
        lambda c: [(level.name, level.unavailable_seconds) for level in c.durability],
        ("level",),
    ),
    Definition(
        "counter",
        "moorline_durability_failures",
        "Times that replicas or the disk did not confirm a durability level.",
        lambda c: [(level.name, level.failures) for level in c.durability],
        ("level",),
    ),
    Definition(
        "histogram",
        "moorline_durability_confirmation_seconds",
        "Seconds until what had been stored was confirmed, by durability level; its count is how often.",
        lambda c: [(level.name, level.seconds) for level in c.durability],
        ("level",),
    ),
)
