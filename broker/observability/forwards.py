"""How the forwards of a node are: for the admin API and `/metrics`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import Metric

from broker.observability.definition import Definition

ELSEWHERE: Final = "elsewhere"
"""Another node has it, or will."""
STARTING: Final = "starting"
RUNNING: Final = "running"
WAITING: Final = "waiting"
"""For the target, or for our own Redis."""

ERROR_CHARACTERS: Final = 300


@dataclass(slots=True)
class ForwardStatus:
    """Of one forward, in this node. `waiting`: messages that the target had not taken a second ago. Counts
    are since the start of the node. Times are seconds since 1970."""

    name: str
    kind: str
    state: str = ELSEWHERE
    since: float = field(default_factory=time.time)
    waiting: int = 0
    sent: int = 0
    received: int = 0  # from another broker
    failed: int = 0  # tries
    refused: int = 0  # messages that were given up
    dropped: int = 0  # at QoS 0, while the target was away
    skipped: int = 0  # that had passed this bridge before, or that nobody wants any more
    last_error: str = ""
    last_error_at: float = 0.0
    last_sent_at: float = 0.0

    def turn(self, state: str) -> None:
        """It is now so."""
        if state != self.state:
            self.state = state
            self.since = time.time()

    def leave(self) -> None:
        """It is another node's."""
        self.waiting = 0
        self.turn(ELSEWHERE)

    def note_error(self, reason: str) -> None:
        """Something went wrong."""
        self.last_error = reason[:ERROR_CHARACTERS]
        self.last_error_at = time.time()

    def note_failure(self, reason: str) -> None:
        """A try failed: the target is away, or has no time, or does not want it."""
        self.failed += 1
        self.note_error(reason)
        self.turn(WAITING)

    def note_sent(self, count: int) -> None:
        """The target has taken messages."""
        self.sent += count
        self.last_sent_at = time.time()
        self.turn(RUNNING)

    def shown(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "kind": self.kind,
            "state": self.state,
            "since": self.since,
            "waiting": self.waiting,
            "sent": self.sent,
            "received": self.received,
            "failed": self.failed,
            "refused": self.refused,
            "dropped": self.dropped,
            "skipped": self.skipped,
            "last_error": self.last_error or None,
            "last_error_at": self.last_error_at or None,
            "last_sent_at": self.last_sent_at or None,
        }


_COUNTED: Final = ("sent", "received", "refused", "dropped", "skipped")

DEFINITIONS: Final[tuple[Definition[Sequence[ForwardStatus]], ...]] = (
    Definition(
        "counter",
        "moorline_forward_messages",
        "Messages of a forward, by what became of them: sent, received (from another broker), refused,"
        " dropped (QoS 0, while the target was away), skipped.",
        lambda forwards: [((f.name, result), getattr(f, result)) for f in forwards for result in _COUNTED],
        ("forward", "result"),
        "See [forwards](forwards.md).",
    ),
    Definition(
        "counter",
        "moorline_forward_failures",
        "Tries of a forward that failed.",
        lambda forwards: [(forward.name, forward.failed) for forward in forwards],
        ("forward",),
    ),
    Definition(
        "gauge",
        "moorline_forward_waiting",
        "Messages that the target of a forward has not taken.",
        lambda forwards: [(forward.name, forward.waiting) for forward in forwards],
        ("forward",),
    ),
    Definition(
        "gauge",
        "moorline_forward_up",
        "1 if this node has the forward, and its target answers.",
        lambda forwards: [(forward.name, int(forward.state == RUNNING)) for forward in forwards],
        ("forward",),
    ),
)


def forward_metrics(forwards: Sequence[ForwardStatus]) -> Iterator[Metric]:
    """As Prometheus has them."""
    return (definition.family(forwards) for definition in DEFINITIONS)
