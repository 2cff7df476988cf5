"""What clients noticed of each thing that was done, from a record; and the page of the long form.

*Reconnects* of a client are the CONNACKs that it got. It is *away* from the end of a connection, or from
giving up one that is silent, to its next CONNACK. The *longest silence* is what clients saw of it all: the
longest time from PUBLISH to the delivery to a subscriber, whichever of the two, or both, were cut off.
"""

import platform
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from tests.cluster.checker import KINDS, Violations
from tests.cluster.record import (
    Acknowledged,
    Connected,
    Delivered,
    Event,
    FaultBegan,
    FaultEnded,
    Left,
    Lost,
    Message,
    Published,
)
from tests.cluster.report import MEANING

_CIRCUMSTANCES: Final = """\
One client in twenty publishes, at QoS 1 and 2; each other one gets a message about every two seconds. Nodes
drain on SIGTERM, in the order of a Deployment with `maxSurge: 1` and `maxUnavailable: 0`, with a
`cluster.drain_pause_seconds` of 3. What is struck is always the node with the most clients. A killed node is
replaced at once; its address is gone with it, and HAProxy tries that for 3 s (`timeout connect`) until its
checks have noticed. Clients ask with PINGREQ every 2 s, and give a node up that does not answer for 4 s: that
is most of the silence of a paused node. A node that is cut off from Redis keeps its clients for
`redis.away_limit_seconds`, and answers their PINGREQ; what was sent meanwhile comes when it tells them to go,
or is back."""


@dataclass(slots=True)
class Phase:
    """From one FaultBegan to its end. `reconnects` has those clients only that had any."""

    kind: str
    began: float
    ended: float = 0.0
    reconnects: Counter[str] = field(default_factory=Counter)
    away: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it took, with the time in which all were watched afterwards."""
        return self.ended - self.began

    def median_reconnects(self, clients: int) -> float:
        """Over all clients."""
        return statistics.median([*self.reconnects.values(), *[0] * (clients - len(self.reconnects))])

    @property
    def most_reconnects(self) -> int:
        """Of any client."""
        return max(self.reconnects.values(), default=0)


@dataclass(slots=True)
class Figures:
    """Of a whole run."""

    clients: int
    phases: list[Phase]
    connected: int
    published: int
    acknowledged: int
    delivered: int


def figures(record: Sequence[Event]) -> Figures:
    """Reads it once. What happens between phases counts for none."""
    phases: list[Phase] = []
    phase: Phase | None = None
    lost: dict[str, float] = {}
    published: dict[Message, float] = {}
    seen: Counter[type[Event]] = Counter(type(event) for event in record)
    clients: set[str] = set()
    for event in record:
        if isinstance(event, FaultBegan):
            phase = Phase(event.kind, event.at)
            phases.append(phase)
        elif isinstance(event, FaultEnded) and phase is not None:
            phase.ended = event.at
            phase = None
        elif isinstance(event, Published):
            published.setdefault(event.message, event.at)
        elif isinstance(event, Lost | Left):
            lost[event.client] = event.at
        elif isinstance(event, Connected):
            clients.add(event.client)
            at = lost.pop(event.client, None)
            if phase is not None and at is not None:
                phase.reconnects[event.client] += 1
                phase.away.append(event.at - at)
        elif isinstance(event, Delivered) and phase is not None:
            phase.delays.append(event.at - published[event.message])
    return Figures(
        len(clients),
        phases,
        seen[Connected],
        len(published),
        seen[Acknowledged],
        seen[Delivered],
    )


def table(found: Figures) -> list[str]:
    """One row for each phase."""
    return [
        "| What was done | took | clients that reconnected | reconnects per client, median / most"
        " | longest without connection | longest silence |",
        "|---|---:|---:|---:|---:|---:|",
        *[
            f"| {phase.kind} | {phase.seconds:.0f} s | {len(phase.reconnects):,}"
            f" | {phase.median_reconnects(found.clients):g} / {phase.most_reconnects}"
            f" | {max(phase.away, default=0.0):.2f} s | {max(phase.delays, default=0.0):.2f} s |"
            for phase in found.phases
        ],
    ]


def results(found: Figures, violations: Violations) -> list[str]:
    """One row for each count."""
    rows = [
        ("connections", found.connected),
        ("messages published", found.published),
        ("acknowledged", found.acknowledged),
        ("delivered", found.delivered),
        *[(f"**{MEANING[kind]}**", violations.count(kind)) for kind in KINDS if kind != "will"],
    ]
    return ["| | |", "|---|---:|", *[f"| {name} | {count:,} |" for name, count in rows]]


def page(found: Figures, violations: Violations, seed: str, image: str) -> str:
    """docs/rolling.md."""
    cores = f"{psutil.cpu_count()} {platform.machine()} cores"
    return "\n".join(
        [
            "# Scaling, rolling, failing: what clients notice",
            "",
            f"Written by `make rolling`: {found.clients:,} clients with persistent sessions in steady",
            f"traffic, brokers in containers ({image}) on one Valkey, behind HAProxy as",
            "[sticky routing](sticky-routing.md) has it. All of that, the clients too, shares",
            f"{cores}; seed `{seed}`.",
            "",
            _CIRCUMSTANCES,
            "",
            *table(found),
            "",
            "*Longest silence*: from a publisher's PUBLISH to a subscriber's delivery, whoever of them was",
            "cut off. What is checked, and by which rules, says `tests/cluster/checker.py`.",
            "",
            *results(found, violations),
            "",
        ]
    )
