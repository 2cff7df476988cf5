"""What came out of a long run: counts, and a page for docs/."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from tests.cluster.checker import KINDS, Violations
from tests.cluster.record import Acknowledged, Connected, Delivered, Event, Published, WillSet
from tests.cluster.timing import Timings, percentile, timings

MEANING: Final = {
    "lost": "acknowledged messages lost",
    "duplicate": "duplicates at QoS 2",
    "reordered": "reordered",
    "repeated": "repeated at QoS 1 otherwise than MQTT 4.6 allows",
    "unsubscribed": "delivered without a subscription",
    "will": "wills lost, sent twice, or sent after DISCONNECT",
    "session": "wrong about the session in CONNACK",
    "protocol": "other",
}


@dataclass(slots=True)
class Summary:
    """Of all scenes that were judged."""

    scenes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    published: int = 0
    acknowledged: int = 0
    delivered: int = 0
    wills: int = 0
    connections: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    times: Timings = field(default_factory=Timings)

    def struck(self, name: str, count: int) -> None:
        """So many faults of a kind were injected."""
        self.faults[name] += count

    def add(self, record: Sequence[Event], violations: Violations) -> None:
        """One more scene."""
        self.scenes += 1
        wills = {event.message for event in record if isinstance(event, WillSet)}
        self.published += len({event.message for event in record if isinstance(event, Published)})
        self.acknowledged += sum(isinstance(event, Acknowledged) for event in record)
        got = [event.message for event in record if isinstance(event, Delivered)]
        self.delivered += len(got)
        self.wills += len(wills.intersection(got))
        self.connections += sum(isinstance(event, Connected) for event in record)
        self.violations.update(violation.kind for violation in violations.found)
        self.times.add(timings(record))


def progress(summary: Summary, seconds: float, of_seconds: float) -> str:
    """One line."""
    return (
        f"{int(seconds) // 60}:{int(seconds) % 60:02} of {of_seconds / 60:g} min:"
        f" {summary.faults.total()} faults, {summary.scenes} scenes judged,"
        f" {summary.acknowledged:,} acknowledged, {summary.delivered:,} delivered,"
        f" {summary.violations.total()} violations"
    )


def page(summary: Summary, seed: str, nodes: int, minutes: float) -> str:
    """docs/failover.md."""
    return "\n".join(
        [
            "# Faults, and what they did",
            "",
            f"Written by `make chaos`: {minutes:g} minutes, {nodes} nodes on one Redis, seed `{seed}`;",
            f"{_machine()}.",
            "Persistent sessions at QoS 1 and 2 in both roles, sessions that end with their connection, and",
            "clients with wills, MQTT 5 and 3.1.1, under traffic all the time. Each client goes to any",
            "living node. What is checked, and by which rules, says `tests/cluster/checker.py`.",
            "What Redis does under faults of its own, in each shape: [redis.md](redis.md#faults-measured).",
            "",
            *_results(summary),
            "",
            *_times(summary.times),
            "",
            *_faults(summary),
            "",
        ]
    )


def _machine() -> str:
    cores = f"{psutil.cpu_count()} {platform.machine()} cores"
    return f"{cores} for nodes, Redis and clients together, Python {platform.python_version()}"


def _results(summary: Summary) -> list[str]:
    rows = [
        ("faults", summary.faults.total()),
        ("messages published", summary.published),
        ("acknowledged", summary.acknowledged),
        ("delivered", summary.delivered),
        ("wills delivered", summary.wills),
        ("connections", summary.connections),
        *[(f"**{MEANING[kind]}**", summary.violations[kind]) for kind in KINDS],
    ]
    return ["| | |", "|---|---:|", *[f"| {name} | {count:,} |" for name, count in rows]]


def _times(times: Timings) -> list[str]:
    rows = [
        ("fail-over: from kill -9 to the first message on the next connection", times.fail_over),
        ("of that: from CONNECT to CONNACK", times.connack),
        ("of that: from CONNECT to the first message", times.resumed),
        ("takeover: from CONNECT to CONNACK, the old connection still open", times.takeover),
    ]
    return [
        "| Milliseconds | count | p50 | p99 |",
        "|---|---:|---:|---:|",
        *[
            f"| {name} | {len(values):,} | {_ms(values, 0.5)} | {_ms(values, 0.99)} |"
            for name, values in rows
        ],
    ]


def _ms(values: list[float], share: float) -> str:
    return f"{1000 * percentile(values, share):.1f}"


def _faults(summary: Summary) -> list[str]:
    rows = sorted(summary.faults.items())
    return ["| Fault | times |", "|---|---:|", *[f"| {name} | {count} |" for name, count in rows]]
