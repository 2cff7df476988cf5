"""What is compared: the loads, and the figures taken from their reports."""

from dataclasses import dataclass
from typing import Final

from loadtest.result import Json


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a report."""

    name: str
    path: tuple[str, ...]  # in the report's JSON
    unit: str = ""
    scale: float = 1.0
    digits: int = 0
    adds_up: bool = False  # over the runs; else their median counts

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


EFFICIENCY: Final = Figure("deliveries per CPU-second", ("broker", "per_cpu_second"))
RATE: Final = Figure("deliveries per second", ("deliveries_per_second",))
LOST: Final = Figure("lost", ("lost",), adds_up=True)


def _percentile(name: str) -> Figure:
    return Figure(f"latency {name.replace('_', '.')}", ("latency_ms", name), "ms", digits=3)


P50: Final = _percentile("p50")
P99: Final = _percentile("p99")
P99_9: Final = _percentile("p99_9")
STEADY_P99: Final = Figure("latency p99, machine steady", ("machine", "latency_ms", "p99"), "ms", digits=3)
CONNECT_EFFICIENCY: Final = Figure("connects per CPU-second", ("broker", "per_cpu_second"))
IDLE_MEMORY: Final = Figure("RSS per connection", ("rss_bytes_per_connection",), "KiB", 1 / 1024, 2)
STORED: Final = Figure("stored per second", ("stored", "per_second"))
DRAINED: Final = Figure("drained per second", ("drained", "per_second"))


def _messages(key: str, title: str, arguments: str, *figures: Figure) -> Scenario:
    timed = (*arguments.split(), "--duration", "{duration}")
    return Scenario(key, title, timed, (*(figures or (EFFICIENCY, RATE)), LOST))


def _pairs(key: str, title: str, arguments: str) -> Scenario:
    return _messages(key, f"50 pairs, {title}", f"pairs -n 50 {arguments}")


def _paced(key: str, title: str, arguments: str) -> Scenario:
    load = f"pairs -n 10 --rate 1000 --watch-machine --sample 0.1 {arguments}"
    return _messages(key, f"1,000 msg/s, {title}", load, P50, P99, STEADY_P99, P99_9)


SCENARIOS: Final = (
    _pairs("qos0", "QoS 0, 16 B", "--qos 0"),
    _pairs("qos0-256", "QoS 0, 256 B", "--qos 0 --payload 256"),
    _pairs("qos0-window-1", "QoS 0, one packet at a time", "--qos 0 --window 1"),
    _pairs("qos1", "QoS 1, clean sessions", "--qos 1"),
    _pairs("qos2", "QoS 2, clean sessions", "--qos 2"),
    _messages("fan-out-qos0", "1 to 200, QoS 0", "fan-out -m 200 --qos 0"),
    _messages("fan-out-qos1", "1 to 200, QoS 1", "fan-out -m 200 --qos 1"),
    _messages("fan-in-qos1", "50 to 1, QoS 1", "fan-in -n 50 --qos 1"),
    _pairs("qos1-persistent", "QoS 1, persistent sessions", "--qos 1 --persistent"),
    _pairs(
        "qos2-persistent",
        "QoS 2, persistent sessions on both sides",
        "--qos 2 --persistent --persistent-publishers",
    ),
    _paced("latency-direct", "QoS 1, clean sessions", "--qos 1"),
    _paced("latency-persistent", "QoS 1, persistent sessions", "--qos 1 --persistent"),
    Scenario(
        "offline",
        "20 sessions away x 5,000 messages, QoS 1",
        ("offline", "--sessions", "20", "--count", "5000", "--qos", "1"),
        (
            STORED,
            DRAINED,
            Figure("stored per CPU-second", ("stored", "broker", "per_cpu_second")),
            Figure("drained per CPU-second", ("drained", "broker", "per_cpu_second")),
            LOST,
        ),
    ),
    Scenario(
        "connect",
        "connects and disconnects, 50 at once",
        ("connect", "--at-once", "50", "--duration", "{duration}"),
        (CONNECT_EFFICIENCY, Figure("connects per second", ("connects_per_second",))),
    ),
    Scenario(
        "idle",
        "5,000 idle connections",
        ("idle", "--connections", "5000", "--hold", "3"),
        (IDLE_MEMORY, Figure("CPU while idle", ("broker", "cpu_percent"), "% of a core", digits=1)),
    ),
)
