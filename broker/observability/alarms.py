"""What deserves somebody's attention: the rules, and the pure part that decides when an alarm is raised and
cleared. The same rules make the alerts for Prometheus and the headings of docs/runbook.md.

A rule looks at one number. The alarm is raised when that has been at or beyond `raise_at` for
`raise_seconds`, and cleared when it has been on the other side of `clear_at` for `clear_seconds`: in between
nothing changes, so it does not flap. While the number is not known, nothing changes either.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from broker.observability.readings import LONG_WINDOW_SECONDS, Readings

Severity = Literal["warning", "critical"]
Unit = Literal["share", "seconds", "per second", "days", "count"]

_SHOWN: Final[Mapping[Unit, Callable[[float], str]]] = {
    "share": lambda value: f"{value:.0%}",
    "seconds": lambda value: f"{value:.3g} s",
    "per second": lambda value: f"{value:.3g} per second",
    "days": lambda value: f"{value:.1f} days",
    "count": lambda value: f"{value:g}",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Of an alarm. `name`: as operators know it. `text`: a sentence with `{value}`; `detail`: a further one.
    `clear_share`: of `raise_at`. `is_low`: it is too little that is bad. `setting`: the field of the settings
    group `alarms` that has `raise_at`. `expr`: the same number in PromQL."""

    name: str
    severity: Severity
    text: str
    unit: Unit
    raise_at: float
    clear_share: float
    raise_seconds: float
    clear_seconds: float
    read: Callable[[Readings], float | None]
    expr: str
    setting: str = ""
    is_low: bool = False
    detail: Callable[[Readings], str] = lambda _: ""

    @property
    def clear_at(self) -> float:
        """From there on it is well again."""
        return self.raise_at * self.clear_share

    @property
    def title(self) -> str:
        """For headings."""
        return self.name.replace("_", " ").capitalize().replace("Qos", "QoS").replace("Cpu", "CPU")

    def is_bad(self, value: float) -> bool:
        """Whether it is to be raised, if that lasts."""
        return value <= self.raise_at if self.is_low else value >= self.raise_at

    def is_well(self, value: float) -> bool:
        """Whether it is to be cleared, if that lasts."""
        return value > self.clear_at if self.is_low else value < self.clear_at

    def sentence(self, value: float, readings: Readings) -> str:
        """What is the matter."""
        return f"{self.text.format(value=self.shown(value))} {self.detail(readings)}".rstrip()

    def shown(self, value: float) -> str:
        """A number of this rule."""
        return _SHOWN[self.unit](value)


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm was raised or cleared."""

    rule: Rule
    is_raised: bool
    value: float
    text: str


@dataclass(slots=True)
class _State:
    is_raised: bool = False
    since: float | None = None  # when what would change it began


class Evaluator:
    """Of some rules."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._states = {rule.name: _State() for rule in self.rules}

    def look(self, readings: Readings, now: float) -> list[Change]:
        """What has changed; `now` in monotonic seconds. To be called once a second or so."""
        changes = []
        for rule in self.rules:
            value = rule.read(readings)
            state = self._states[rule.name]
            if value is None:
                state.since = None
                continue
            if not (rule.is_well(value) if state.is_raised else rule.is_bad(value)):
                state.since = None
                continue
            if state.since is None:
                state.since = now
            if now - state.since >= (rule.clear_seconds if state.is_raised else rule.raise_seconds):
                state.is_raised = not state.is_raised
                state.since = None
                changes.append(Change(rule, state.is_raised, value, rule.sentence(value, readings)))
        return changes


RULES: Final = (
    Rule(
        "cpu", "warning", "The node uses {value} of a processor core, and can't use more than one.", "share",
        0.9, 0.9, 60.0, 30.0,
        lambda r: r.per_second("cpu_seconds"),
        "rate(process_cpu_seconds_total[3m]) and on (job, instance, worker) moorline_node",
        "cpu_share",
    ),
    Rule(
        "memory", "critical", "{value} of the memory is used beyond which nobody is let in.", "share",
        0.9, 0.95, 10.0, 10.0,
        lambda r: r.memory(),
        "moorline_memory_used_bytes / (moorline_memory_high_water_bytes > 0)",
    ),
    Rule(
        "loop_lag", "warning", "Everything in the node is {value} late.", "seconds",
        0.1, 0.5, 5.0, 10.0,
        lambda r: r.mean("lag_seconds", "lags"),
        "rate(moorline_event_loop_lag_seconds_sum[3m]) / rate(moorline_event_loop_lag_seconds_count[3m])",
        "loop_lag_seconds",
    ),
    Rule(
        "redis_latency", "warning", "Redis takes {value} for a batch.", "seconds",
        0.1, 0.5, 10.0, 10.0,
        lambda r: r.mean("redis_seconds", "redis_round_trips"),
        "rate(moorline_redis_round_trip_seconds_sum[3m]) / rate(moorline_redis_round_trip_seconds_count[3m])",
        "redis_latency_seconds",
    ),
    Rule(
        "redis_away", "critical", "Redis does not answer: nothing is acknowledged.", "count",
        1.0, 1.0, 3.0, 3.0,
        lambda r: r.counters.redis_away,
        "moorline_redis_away",
    ),
    Rule(
        "durability", "critical",
        "A durability level can't be had for {value}: nothing is acknowledged at it.", "seconds",
        2.0, 0.5, 0.0, 1.0,
        lambda r: max((level.unavailable_seconds for level in r.counters.durability), default=None),
        "max without (level) (moorline_durability_unavailable_seconds)",
        detail=lambda r: r.missing_levels(),
    ),
    Rule(
        "redis_memory", "critical", "Redis uses {value} of its memory; when it is full, publishers are held.",
        "share", 0.8, 0.95, 5.0, 5.0,
        lambda r: r.redis_memory(),
        "moorline_redis_memory_used_bytes / (moorline_redis_memory_maximum_bytes > 0)",
        "redis_memory_share",
    ),
    Rule(
        "redis_fsync", "warning", "The disk of Redis is too slow: {value} writes had to wait for it.",
        "per second", 0.02, 0.5, 0.0, 60.0,
        lambda r: r.per_second("delayed_fsync", LONG_WINDOW_SECONDS),
        "rate(moorline_redis_delayed_fsync_total[3m])",
    ),
    Rule(
        "redis_file", "critical", "Redis can't write its append-only file, or not rewrite it.", "count",
        1.0, 1.0, 0.0, 2.0,
        lambda r: r.soundings.redis_file_failed,
        "moorline_redis_file_failed",
    ),
    Rule(
        "queue", "warning", "The fullest queue is {value} full; then messages are dropped.", "share",
        0.8, 0.9, 0.0, 5.0,
        lambda r: r.queue(),
        "moorline_queue_fullest_ratio > moorline_backlog_fullest_ratio or moorline_backlog_fullest_ratio",
        "queue_share",
        detail=lambda r: r.whose_queue(),
    ),
    Rule(
        "drops", "warning", "{value} messages at QoS 1 and 2 are dropped.", "per second",
        1.0, 0.1, 5.0, 30.0,
        lambda r: r.per_second("dropped"),
        'sum without (reason, qos) (rate(moorline_messages_dropped_total{qos="1-2"}[3m]))',
        "drops_per_second",
    ),
    Rule(
        "flapping", "warning", "{value} clients connect again and again, or fight for a client id.", "count",
        1.0, 1.0, 0.0, 60.0,
        lambda r: r.flapping(),
        "moorline_client_id_fights"
        ' + on (job, instance, worker) increase(moorline_automatic_bans_total{reason="flapping"}[3m])',
    ),
    Rule(
        "beat", "critical", "Redis has not taken a life sign of the node for {value}; 5 s, and it is dead.",
        "seconds", 3.0, 0.7, 0.0, 5.0,
        lambda r: r.soundings.beat_age,
        "moorline_beat_age_seconds",
    ),
    Rule(
        "dead_node", "critical", "A node has been dead for {value}, and its sessions are not given back.",
        "seconds", 15.0, 0.8, 0.0, 2.0,
        lambda r: r.soundings.others_beat_age,
        "moorline_others_beat_age_seconds",
    ),
    Rule(
        "certificate", "warning", "A certificate of a listener is valid for {value} more.", "days",
        14.0, 1.05, 0.0, 1.0,
        lambda r: r.days_left(r.counters.certificate_expiries),
        "(moorline_certificate_expiry_seconds - time()) / 86400",
        "certificate_days",
        is_low=True,
    ),
    Rule(
        "revocation_list", "critical", "In {value} a revocation list is too old, and clients are refused.",
        "days", 1.0, 1.05, 0.0, 1.0,
        lambda r: r.days_left(r.counters.crl_expiries),
        "(moorline_crl_expiry_seconds - time()) / 86400",
        is_low=True,
    ),
    Rule(
        "qos2_exchange", "warning", "A QoS 2 exchange of a connected client is open for {value}.", "seconds",
        60.0, 0.9, 0.0, 2.0,
        lambda r: max(r.soundings.oldest_exchange.values()),
        "max without (direction) (moorline_qos2_oldest_seconds)",
        "qos2_exchange_seconds",
    ),
)  # fmt: skip
"""All there are: few, and each of them asks for something to be done (docs/runbook.md)."""


def rules_with(thresholds: Mapping[str, float]) -> tuple[Rule, ...]:
    """All rules, with the thresholds of these settings."""
    return tuple(
        replace(rule, raise_at=thresholds[rule.setting]) if rule.setting in thresholds else rule
        for rule in RULES
    )
