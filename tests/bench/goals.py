"""What the figures of `make bench` should be: beside mosquitto's, beside those of aedes, or by themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from loadtest.compare import Line
from loadtest.matrix import (
    CONNECT_EFFICIENCY,
    DRAINED,
    EFFICIENCY,
    IDLE_MEMORY,
    LOST,
    P50,
    P99,
    STEADY_P99,
    STORED,
    Figure,
)
from loadtest.peers import MOORLINE


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for Moorline's number: a multiple of a peer's, or a number of its own."""

    bound: float
    at_least: bool
    peer: str | None = None
    unit: str = ""

    def text(self) -> str:
        """As it stands in the table."""
        sign = "≥" if self.at_least else "≤"
        if self.peer is None:
            return f"{sign} {self.bound:,g}{self.unit}"
        of_whom = "" if self.peer == MOSQUITTO else f" of {self.peer}"
        return f"{sign} {self.bound:g}x{of_whom}"

    def is_met(self, line: Line) -> bool | None:
        """None if there are no numbers for it."""
        number = line.value(MOORLINE) if self.peer is None else line.ratio(self.peer)
        if number is None:
            return None
        return number >= self.bound if self.at_least else number <= self.bound


MOSQUITTO: Final = "mosquitto"
AEDES: Final = "aedes-redis"


def _times(factor: float, peer: str = MOSQUITTO) -> Goal:
    return Goal(factor, True, peer)


def _at_most_times(factor: float) -> Goal:
    return Goal(factor, False, MOSQUITTO)


def _at_least(number: float) -> Goal:
    return Goal(number, True)


def _at_most(number: float, unit: str = "") -> Goal:
    return Goal(number, False, unit=unit)


GOALS: Final[Mapping[tuple[str, Figure], tuple[Goal, ...]]] = {
    ("qos0", EFFICIENCY): (_times(6),),
    ("qos0-256", EFFICIENCY): (_times(6),),
    ("qos0-window-1", EFFICIENCY): (_times(1),),
    ("qos1", EFFICIENCY): (_times(6),),
    ("qos2", EFFICIENCY): (_times(4),),
    ("fan-out-qos0", EFFICIENCY): (_times(5),),
    ("fan-out-qos1", EFFICIENCY): (_times(4),),
    ("fan-in-qos1", EFFICIENCY): (_times(5),),
    ("qos1-persistent", EFFICIENCY): (_times(1), _times(10, AEDES)),
    ("qos2-persistent", EFFICIENCY): (_times(0.8),),
    ("latency-direct", P50): (_at_most_times(1.3),),
    ("latency-direct", P99): (_at_most_times(3),),
    ("latency-direct", STEADY_P99): (_at_most_times(3),),
    ("latency-persistent", P50): (_at_most(0.6, " ms"),),
    ("latency-persistent", P99): (_at_most(3, " ms"),),
    ("latency-persistent", STEADY_P99): (_at_most(3, " ms"),),
    ("offline", STORED): (_at_least(60_000),),
    ("offline", DRAINED): (_at_least(60_000),),
    ("offline", LOST): (_at_most(0),),
    ("connect", CONNECT_EFFICIENCY): (_at_least(10_000),),
    ("idle", IDLE_MEMORY): (_at_most(8, " KiB"),),
}


def verdict(line: Line) -> str:
    """The goals of a line, and whether they are met."""
    told = []
    for goal in GOALS.get((line.scenario.key, line.figure), ()):
        met = goal.is_met(line)
        if met is not None:
            told.append(f"{goal.text()} {'met' if met else 'MISSED'}")
        elif goal.peer != AEDES:  # which is rarely asked for
            told.append(goal.text())
    return ", ".join(told)
