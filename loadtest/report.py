"""What a run has shown: the figures, and whether the broker kept its promises."""

from dataclasses import dataclass, field
from typing import Final, Protocol

from loadtest.cost import Usage
from loadtest.histogram import Latency
from loadtest.timeline import Timeline

_BUSY_PERCENT: Final = 90.0
_FAULTS_SHOWN: Final = 5

Row = tuple[str, str]


class Report(Protocol):
    """What all scenarios' reports have."""

    @property
    def title(self) -> str:
        """What was run, in one line."""

    def rows(self) -> list[Row]:
        """The figures with their names."""

    def problems(self) -> list[str]:
        """What the broker promised and didn't keep; the run fails if there is any."""

    def remarks(self) -> list[str]:
        """What the reader should know before using the figures."""


class Part(Protocol):
    """What only some shapes have to tell."""

    def rows(self) -> list[Row]:
        """See Report."""

    def problems(self) -> list[str]:
        """See Report."""


@dataclass(frozen=True, slots=True)
class RedisCost:
    """The part of it that Redis used."""

    cpu_seconds: float
    cpu_percent: float
    rss_bytes: int  # at the end


@dataclass(frozen=True, slots=True)
class BrokerCost:
    """What the broker's processes, Redis among them, used for the measured part of a run."""

    cpu_seconds: float
    cpu_percent: float  # of one core
    per_cpu_second: float | None  # deliveries (or connects); None if too little was used to tell
    rss_bytes: int  # the highest seen
    redis: RedisCost | None = None

    @classmethod
    def of(
        cls, before: Usage, after: Usage, rss_bytes: int, events: int, seconds: float
    ) -> "BrokerCost | None":
        """The cost of `events` between two measurements; None if no process was named."""
        if not after.cpu_seconds:
            return None
        used = after.cpu_seconds_since(before)
        return cls(
            cpu_seconds=used,
            cpu_percent=100 * used / seconds if seconds else 0.0,
            per_cpu_second=events / used if used > 0 else None,
            rss_bytes=max(before.rss_bytes, rss_bytes, after.rss_bytes),
            redis=cls._of_redis(before, after, seconds),
        )

    @staticmethod
    def _of_redis(before: Usage, after: Usage, seconds: float) -> RedisCost | None:
        if after.redis is None:
            return None
        used = after.redis.cpu_seconds_since(before)
        return RedisCost(used, 100 * used / seconds if seconds else 0.0, after.redis.rss_bytes)

    def rows(self, what: str) -> list[Row]:
        """The figures with their names; `what` was counted."""
        rate = "too little to tell" if self.per_cpu_second is None else f"{self.per_cpu_second:,.0f}"
        of_redis = ("", "")
        if self.redis is not None:
            of_redis = (
                f", {self.redis.cpu_seconds:.2f} s of them Redis",
                f", {self.redis.rss_bytes / 2**20:.1f} MiB of them Redis",
            )
        return [
            ("broker CPU", f"{self.cpu_seconds:.2f} s ({self.cpu_percent:.0f} % of a core){of_redis[0]}"),
            (f"{what} per CPU-second of the broker", rate),
            ("broker RSS", f"{self.rss_bytes / 2**20:.1f} MiB{of_redis[1]}"),
        ]


@dataclass(frozen=True, slots=True)
class GeneratorCost:
    """What the load generator itself used for the measured part of a run."""

    cpu_seconds: float
    busiest_percent: float  # of one core, by the busiest worker
    cpu_us_per_delivery: float


@dataclass(frozen=True, slots=True)
class Accounts:
    """What became of the messages of a run."""

    qos: int
    lost: int  # of those the broker was answerable for: at QoS 1 and 2, the acknowledged ones
    duplicates: int
    order_errors: int
    corrupt: int
    faults: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Which promises of this QoS were broken [MQTT-4.3]."""
        found = []
        if self.qos > 0 and self.lost:
            found.append(f"{self.lost:,} acknowledged messages were lost")
        if self.qos != 1 and self.duplicates:
            found.append(f"{self.duplicates:,} messages were delivered again, which QoS {self.qos} forbids")
        if self.qos > 0 and self.order_errors:
            found.append(f"{self.order_errors:,} messages came out of order")
        if self.corrupt:
            found.append(f"{self.corrupt:,} payloads were not what was sent")
        if self.faults:
            more = (
                f" and {len(self.faults) - _FAULTS_SHOWN:,} more" if len(self.faults) > _FAULTS_SHOWN else ""
            )
            found.append("; ".join(self.faults[:_FAULTS_SHOWN]) + more)
        return found


def latency_rows(latency: Latency | None) -> list[Row]:
    """The percentiles in milliseconds."""
    if latency is None:
        return [("latency", "nothing was delivered")]
    figures = (
        f"{latency.p50:.3f} / {latency.p90:.3f} / {latency.p99:.3f} / {latency.p99_9:.3f} / {latency.max:.3f}"
    )
    return [("latency p50 / p90 / p99 / p99.9 / max", f"{figures} ms")]


@dataclass(frozen=True, slots=True)
class MessageReport:
    """The report of all that publish. Rates and latencies are of the time after the warm-up."""

    shape: str
    qos: int
    persistent: bool
    mqtt_version: int
    publishers: int
    subscribers: int
    payload_bytes: int
    window: int | None
    rate_per_second: float | None
    processes: int
    seconds: float
    sent: int
    deliveries: int
    sent_per_second: float
    deliveries_per_second: float
    lost: int
    duplicates: int
    order_errors: int
    corrupt: int
    refused: int
    unacknowledged: int
    written_off: int
    faults: list[str]
    latency_ms: Latency | None
    broker: BrokerCost | None
    generator: GeneratorCost
    interrupted: bool
    persistent_publishers: bool = False
    timeline: Timeline | None = None
    stored_ms: Latency | None = None  # what was sent while its subscriber was away: from its return
    returns: Part | None = None
    views: Part | None = None
    machine: Part | None = None

    @property
    def title(self) -> str:
        """See Report."""
        sessions = "persistent" if self.persistent else "clean"
        publishers = ", persistent publishers" if self.persistent_publishers else ""
        pace = f"window {self.window}" if self.window is not None else f"{self.rate_per_second:,.0f} msg/s"
        return (
            f"{self.shape} {self.publishers} -> {self.subscribers}, QoS {self.qos},"
            f" {sessions} sessions{publishers}, {self.payload_bytes} B, {pace},"
            f" MQTT level {self.mqtt_version}"
        )

    def rows(self) -> list[Row]:
        """See Report."""
        rows = [
            ("measured for", f"{self.seconds:.2f} s"),
            ("sent", f"{self.sent:,} ({self.sent_per_second:,.0f}/s)"),
            ("delivered", f"{self.deliveries:,} ({self.deliveries_per_second:,.0f}/s)"),
            ("lost", f"{self.lost:,}"),
            ("duplicates", f"{self.duplicates:,}"),
            ("order errors", f"{self.order_errors:,}"),
            *latency_rows(self.latency_ms),
        ]
        if self.stored_ms is not None:
            rows += [("stored messages, " + name, value) for name, value in latency_rows(self.stored_ms)]
        for part in self._parts():
            rows += part.rows()
        rows += [
            (name, f"{count:,}")
            for name, count in (
                ("refused by the broker", self.refused),
                ("never acknowledged", self.unacknowledged),
                ("given up, to go on", self.written_off),
            )
            if count
        ]
        if self.broker is not None:
            rows += self.broker.rows("deliveries")
        generator = self.generator
        share = (
            f"{generator.cpu_us_per_delivery:.2f} us a delivery, {generator.busiest_percent:.0f} % of a core"
        )
        return [*rows, ("this generator's CPU", share)]

    def problems(self) -> list[str]:
        """See Report."""
        accounts = Accounts(
            self.qos, self.lost, self.duplicates, self.order_errors, self.corrupt, self.faults
        )
        return accounts.problems() + [problem for part in self._parts() for problem in part.problems()]

    def _parts(self) -> list[Part]:
        return [part for part in (self.returns, self.views, self.machine) if part is not None]

    def remarks(self) -> list[str]:
        """See Report."""
        notes = ["interrupted: this is what was seen until then"] if self.interrupted else []
        if self.generator.busiest_percent > _BUSY_PERCENT:
            notes.append(
                "the generator itself was busy: the broker may be faster than this (see --processes)"
            )
        return notes
