"""What is compared: the loads, the figures taken from their reports, and what the figures should be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a report."""

    name: str
    path: tuple[str, ...]  # in the report's JSON
    unit: str = ""
    scale: float = 1.0
    digits: int = 0
    goal: Callable[[float, float], bool] | None = None  # given Moorline's and mosquitto's number
    goal_text: str = ""

    def of(self, report: Json) -> float | None:
        """The number in a report; None if the report has none."""
        for step in self.path:
            if not isinstance(report, dict):
                return None
            report = report.get(step)
        return report * self.scale if isinstance(report, int | float) else None

    def show(self, value: float | None) -> str:
        """The number as people read it."""
        return "-" if value is None else f"{value:,.{self.digits}f}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load and its figures. `{duration}` in the arguments is replaced."""

    key: str
    title: str
    arguments: tuple[str, ...]
    figures: tuple[Figure, ...]


def _at_least(factor: float) -> tuple[Callable[[float, float], bool], str]:
    return (lambda ours, theirs: ours >= factor * theirs), f"≥ {factor:g}x"


def _efficiency(factor: float | None = None) -> Figure:
    check, text = _at_least(factor) if factor is not None else (None, "")
    return Figure("deliveries per CPU-second", ("broker", "per_cpu_second"), goal=check, goal_text=text)


_RATE: Final = Figure("deliveries per second", ("deliveries_per_second",))


def _percentile(name: str, goal: Callable[[float, float], bool] | None = None, text: str = "") -> Figure:
    return Figure(
        f"latency {name.replace('_', '.')}", ("latency_ms", name), "ms", digits=3, goal=goal, goal_text=text
    )


def _messages(key: str, title: str, arguments: str, *figures: Figure) -> Scenario:
    return Scenario(key, title, (*arguments.split(), "--duration", "{duration}"), figures)


def _latency(key: str, title: str, arguments: str, p50: Figure) -> Scenario:
    return _messages(
        key, title, f"pairs -n 10 --rate 1000 {arguments}", p50, _percentile("p99"), _percentile("p99_9")
    )


SCENARIOS: Final = (
    _messages(
        "qos0", "50 pairs, QoS 0, 16 B, window 20", "pairs -n 50 --qos 0 --window 20", _efficiency(3), _RATE
    ),
    _messages(
        "qos1", "50 pairs, QoS 1, clean sessions", "pairs -n 50 --qos 1 --window 20", _efficiency(3), _RATE
    ),
    _messages(
        "qos2", "50 pairs, QoS 2, clean sessions", "pairs -n 50 --qos 2 --window 20", _efficiency(), _RATE
    ),
    _messages(
        "qos1-persistent",
        "50 pairs, QoS 1, persistent sessions",
        "pairs -n 50 --qos 1 --window 20 --persistent",
        _efficiency(0.7),
        _RATE,
    ),
    _messages("fan-out-qos0", "1 to 200, QoS 0", "fan-out -m 200 --qos 0 --window 20", _efficiency(), _RATE),
    _messages("fan-out-qos1", "1 to 200, QoS 1", "fan-out -m 200 --qos 1 --window 20", _efficiency(), _RATE),
    _messages("fan-in-qos1", "50 to 1, QoS 1", "fan-in -n 50 --qos 1 --window 20", _efficiency(), _RATE),
    _latency(
        "latency-direct",
        "1,000 msg/s, QoS 1, clean sessions",
        "--qos 1",
        _percentile("p50", lambda ours, theirs: ours <= 2 * theirs, "≤ 2x"),
    ),
    _latency(
        "latency-persistent",
        "1,000 msg/s, QoS 1, persistent sessions",
        "--qos 1 --persistent",
        _percentile("p50", lambda ours, theirs: ours < 1.0, "< 1 ms"),
    ),
    Scenario(
        "connect",
        "connects and disconnects, 50 at once",
        ("connect", "--at-once", "50", "--duration", "{duration}"),
        (
            Figure(
                "connects per CPU-second",
                ("broker", "per_cpu_second"),
                goal=lambda ours, theirs: ours >= 5000,
                goal_text="≥ 5,000",
            ),
            Figure("connects per second", ("connects_per_second",)),
        ),
    ),
    Scenario(
        "idle",
        "5,000 idle connections",
        ("idle", "--connections", "5000", "--hold", "3"),
        (
            Figure(
                "RSS per connection",
                ("rss_bytes_per_connection",),
                "KiB",
                1 / 1024,
                2,
                goal=lambda ours, theirs: ours <= 10,
                goal_text="≤ 10 KiB",
            ),
            Figure("CPU while idle", ("broker", "cpu_percent"), "% of a core", digits=1),
        ),
    ),
    Scenario(
        "offline",
        "20 sessions away x 5,000 messages, QoS 1",
        ("offline", "--sessions", "20", "--count", "5000", "--qos", "1"),
        (
            Figure("stored per CPU-second", ("stored", "broker", "per_cpu_second")),
            Figure("drained per CPU-second", ("drained", "broker", "per_cpu_second")),
            Figure("drained per second", ("drained", "per_second")),
        ),
    ),
)
