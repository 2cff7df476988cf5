"""Two results beside each other."""

from dataclasses import replace

import orjson

from loadtest.diff import compare_results, render_json, render_table
from tests.loadtest.sample_results import result, sample


def test_figures_have_ratios() -> None:
    difference = compare_results(result(), result(deliveries_per_second=750.0, latency_ms=None))
    pairs = {pair.name: pair for pair in difference.pairs}
    assert pairs["deliveries_per_second"].ratio == 1.5
    assert (pairs["lost"].ratio, pairs["lost"].shown_ratio) == (None, "-")
    assert (pairs["latency_ms.p50"].before, pairs["latency_ms.p50"].after) == (0.1, None)
    assert pairs["broker.per_cpu_second"].ratio == 1.0
    assert difference.loads == []


def test_settings_and_timelines_are_no_figures() -> None:
    difference = compare_results(result([sample(1)]), result([sample(2)]))
    names = {pair.name for pair in difference.pairs}
    assert not [
        name for name in names if name.startswith(("timeline", "qos", "window", "faults", "interrupted"))
    ]


def test_different_loads_are_named() -> None:
    difference = compare_results(result(), result(qos=2, persistent=True, window=None, rate_per_second=50.0))
    assert difference.loads == [
        "qos: 1 and 2",
        "persistent: False and True",
        "window: 20 and None",
        "rate_per_second: None and 50.0",
    ]
    text = render_table(difference)
    assert "DIFFERENT LOADS: qos: 1 and 2\n" in text
    other = compare_results(result(), replace(result(), scenario="fan-in"))
    assert other.loads == ["scenario: pairs and fan-in"]


def test_the_table_and_json_have_both() -> None:
    difference = compare_results(result(), result(deliveries_per_second=1000.0))
    text = render_table(difference)
    assert text.startswith("A  pairs 2 -> 2")
    (line,) = (line for line in text.splitlines() if "deliveries_per_second" in line)
    assert line.split() == ["deliveries_per_second", "500", "1,000", "2.00x"]
    answer = orjson.loads(render_json(difference))
    assert answer["same_load"] is True
    assert {"figure": "deliveries_per_second", "a": 500.0, "b": 1000.0, "ratio": 2.0} in answer["figures"]
