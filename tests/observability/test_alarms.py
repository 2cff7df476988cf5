"""Each alarm is raised and cleared by what it looks at, when that has lasted, and by nothing else."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.observability.alarms import RULES, Change, Evaluator, Rule, rules_with
from broker.observability.durability import LevelStatus
from broker.observability.metrics import Counters
from broker.observability.readings import CLIENT_CHARACTERS, Readings
from broker.settings import AlarmSettings

DAY = 86_400.0
NOW = 1_000 * DAY


class Site:
    """A node's counters, looked at once a second."""

    def __init__(self, *rules: Rule) -> None:
        self.counters = Counters("node", "1")
        self.readings = Readings(self.counters, lambda: NOW)
        self.evaluator = Evaluator(rules)
        self.now = 0.0

    def look(self, seconds: float = 1.0, each: Callable[[Counters], object] = lambda _: None) -> list[Change]:
        """Goes on for so long; what has changed."""
        changes = []
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            each(self.counters)
            self.readings.take(self.now)
            changes += self.evaluator.look(self.readings, self.now)
        return changes


def _redis_memory(c: Counters, used: int) -> None:
    c.soundings.redis_memory_maximum = 100
    c.soundings.redis_memory_used = used


def _durability(c: Counters, seconds: float) -> None:
    trouble = "no replica" if seconds else ""
    c.durability = [LevelStatus("fsynced"), LevelStatus("replicated(1)", trouble=trouble)]
    c.durability[1].since = time.monotonic() - seconds


def _dropped(c: Counters, count: int) -> None:
    c.messages_dropped.add("queue_full", count)


BAD_AND_WELL: dict[str, tuple[Callable[[Counters], object], Callable[[Counters], object]]] = {
    "memory": (lambda c: _memory(c, 91), lambda c: _memory(c, 80)),
    "loop_lag": (lambda c: c.loop_lag.observe(0.2), lambda c: c.loop_lag.observe(0.001)),
    "redis_latency": (lambda c: c.redis_round_trip.observe(0.2), lambda c: c.redis_round_trip.observe(0.001)),
    "redis_away": (lambda c: setattr(c, "redis_away", 1), lambda c: setattr(c, "redis_away", 0)),
    "durability": (lambda c: _durability(c, 3.0), lambda c: _durability(c, 0.0)),
    "redis_memory": (lambda c: _redis_memory(c, 81), lambda c: _redis_memory(c, 70)),
    "redis_fsync": (lambda c: _fsync(c, 1), lambda c: _fsync(c, 0)),
    "redis_file": (
        lambda c: setattr(c.soundings, "redis_file_failed", 1),
        lambda c: setattr(c.soundings, "redis_file_failed", 0),
    ),
    "queue": (
        lambda c: setattr(c.soundings, "queue_fullest", 0.8),
        lambda c: setattr(c.soundings, "queue_fullest", 0.7),
    ),
    "drops": (lambda c: _dropped(c, 2), lambda c: _dropped(c, 0)),
    "flapping": (lambda c: setattr(c, "fights", 1), lambda c: setattr(c, "fights", 0)),
    "beat": (
        lambda c: setattr(c.soundings, "beat_age", 3.5),
        lambda c: setattr(c.soundings, "beat_age", 0.5),
    ),
    "dead_node": (
        lambda c: setattr(c.soundings, "others_beat_age", 20),
        lambda c: setattr(c.soundings, "others_beat_age", 1),
    ),
    "certificate": (
        lambda c: c.certificate_expiries.update({("tls", "crt"): NOW + 3 * DAY}),
        lambda c: c.certificate_expiries.update({("tls", "crt"): NOW + 90 * DAY}),
    ),
    "revocation_list": (
        lambda c: c.crl_expiries.update({("tls", "crl"): NOW + 0.5 * DAY}),
        lambda c: c.crl_expiries.update({("tls", "crl"): NOW + 7 * DAY}),
    ),
    "qos2_exchange": (
        lambda c: c.soundings.oldest_exchange.update({"in": 61.0}),
        lambda c: c.soundings.oldest_exchange.update({"in": 0.0}),
    ),
}


def _memory(c: Counters, used: int) -> None:
    c.memory_limit, c.memory_used = 100, used


def _fsync(c: Counters, growth: int) -> None:
    c.soundings.redis_delayed_fsync = (c.soundings.redis_delayed_fsync or 0) + growth


def test_each_rule_is_tried() -> None:
    assert {rule.name for rule in RULES} == {*BAD_AND_WELL, "cpu"}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.name != "cpu"], ids=lambda rule: rule.name)
def test_each_alarm_is_raised_and_cleared(rule: Rule) -> None:
    bad, well = BAD_AND_WELL[rule.name]
    site = Site(*RULES)
    assert site.look(30, well) == []
    raised = site.look(rule.raise_seconds + 30, bad)
    assert [(change.rule.name, change.is_raised) for change in raised] == [(rule.name, True)]
    assert "{" not in raised[0].text
    assert raised[0].text
    cleared = site.look(rule.clear_seconds + 150, well)
    assert [(change.rule.name, change.is_raised) for change in cleared] == [(rule.name, False)]


def test_the_processor_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    used = 0.0
    monkeypatch.setattr("time.process_time", lambda: used)
    site = Site(*RULES)

    def use(share: float) -> None:
        nonlocal used
        used += share

    assert site.look(30, lambda _: use(0.5)) == []
    raised = site.look(75, lambda _: use(0.95))
    assert [(change.rule.name, change.is_raised) for change in raised] == [("cpu", True)]
    cleared = site.look(45, lambda _: use(0.2))
    assert [(change.rule.name, change.is_raised) for change in cleared] == [("cpu", False)]


def _rule(**changes: object) -> Rule:
    plain = Rule(
        "plain", "warning", "It is {value}.", "count", 10.0, 0.5, 3.0, 2.0, lambda r: r.counters.fights, ""
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields of Rule


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        ([10, 10, 10], []),  # not long enough
        ([10, 10, 10, 10], [(4, True)]),
        ([10, 10, 9, 10, 10, 10], []),  # it has to last
        ([99, 99, 99, 99, 5, 5, 5, 5], [(4, True)]),  # 5 is neither bad nor well
        ([10, 10, 10, 10, 4, 4, 4], [(4, True), (7, False)]),
        ([10, 10, 10, 10, 4, 4, 9, 4, 4, 4], [(4, True), (10, False)]),
        ([10, 10, 10, 10, 4, 4, 4, 10, 10, 10, 10], [(4, True), (7, False), (11, True)]),
    ],
)
def test_it_does_not_flap(values: list[int], changes: list[tuple[int, bool]]) -> None:
    site = Site(_rule())
    found = []
    for second, value in enumerate(values, 1):
        site.counters.fights = value
        found += [(second, change.is_raised) for change in site.look()]
    assert found == changes


def test_what_is_not_known_changes_nothing() -> None:
    known: list[float | None] = [None]
    site = Site(_rule(read=lambda _: known[0]))
    assert site.look(10) == []
    known[0] = 10.0
    assert [change.is_raised for change in site.look(4)] == [True]
    known[0] = None
    assert site.look(10) == []
    known[0] = 1.0
    assert site.look(2) == []
    known[0] = None
    site.look(1)
    known[0] = 1.0
    assert site.look(2) == []  # it begins anew
    assert [change.is_raised for change in site.look(1)] == [False]


def test_too_little_may_be_bad() -> None:
    site = Site(_rule(is_low=True, clear_share=1.5, raise_seconds=0.0, clear_seconds=0.0))
    site.counters.fights = 11
    assert site.look(3) == []
    site.counters.fights = 10
    assert [change.is_raised for change in site.look(3)] == [True]
    site.counters.fights = 15
    assert site.look(3) == []
    site.counters.fights = 16
    assert [change.is_raised for change in site.look(3)] == [False]


def test_settings_have_the_thresholds() -> None:
    thresholds = AlarmSettings(redis_memory_share=0.5).model_dump()
    assert {rule.setting for rule in RULES if rule.setting} == set(thresholds)
    assert {rule.name: rule.raise_at for rule in rules_with(thresholds)} == {
        rule.name: rule.raise_at for rule in RULES
    } | {"redis_memory": 0.5}
    assert {rule.setting: rule.raise_at for rule in RULES if rule.setting} == AlarmSettings().model_dump()


def test_nothing_is_known_before_the_second_look() -> None:
    readings = Readings(Counters())
    assert readings.per_second("dropped") is None
    assert readings.mean("lag_seconds", "lags") is None
    assert (readings.memory(), readings.redis_memory(), readings.days_left({})) == (None, None, None)
    readings.take(1.0)
    assert readings.per_second("dropped") is None
    assert readings.flapping() == 0


def test_growth_is_that_of_the_window() -> None:
    site = Site()
    site.look(100, lambda c: _dropped(c, 5))
    site.look(20)
    assert site.readings.per_second("dropped") == 0
    site.look(5, lambda c: _dropped(c, 4))
    assert site.readings.per_second("dropped") == 2
    site.now += 300  # nobody has looked for so long
    site.look(1, lambda c: _dropped(c, 301))
    assert site.readings.per_second("dropped") == 1


def test_redis_without_a_limit_is_never_full() -> None:
    """Somebody takes it away while the alarm is raised."""
    site = Site(*RULES)
    site.look(10, lambda c: _redis_memory(c, 90))
    site.counters.soundings.redis_memory_maximum = 0
    assert [change.is_raised for change in site.look(10)] == [False]


def test_drops_at_qos_0_are_not_counted() -> None:
    site = Site()

    def drop(c: Counters) -> None:
        _dropped(c, 3)
        c.dropped_at_qos0.add("queue_full", 3)

    site.look(10, drop)
    assert site.readings.per_second("dropped") == 0


def test_an_alarm_says_whose_queue_it_is() -> None:
    site = Site(*RULES)
    site.counters.soundings.queue_fullest = 0.9
    site.counters.soundings.queue_fullest_client = "lamp" + "x" * 1000
    (raised,) = site.look(2)
    assert "90% full" in raised.text
    assert "It is that of client lampx" in raised.text
    assert len(raised.text) < CLIENT_CHARACTERS + 100
    site.counters.soundings.backlog_fullest = 1.0  # in this node's memory
    assert site.readings.whose_queue() == ""


def test_the_alarm_says_which_level_is_missing_and_why() -> None:
    site = Site(*(rule for rule in RULES if rule.name == "durability"))
    (change,) = site.look(each=lambda c: _durability(c, 3.0))
    assert change.text.startswith("A durability level can't be had for 3 s: nothing is acknowledged at it.")
    assert change.text.endswith(" replicated(1): no replica.")
