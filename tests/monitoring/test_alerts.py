"""Alert rules as Prometheus takes them: each fires when it should, and else is silent."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from broker.observability.alarms import RULES
from broker.observability.definitions import SECTIONS
from broker.observability.merged import DEFINITIONS as OF_PARENT
from docs import alerting, dashboard
from docs.alerting import ALERTS, Alert
from tests.tools import require_tool

NODE = 'job="mqtt", instance="a:8080"'
STEPS = 20
"""Of a minute."""
AT = "18m"


def _series(name: str, values: str, labels: str = NODE) -> dict[str, str]:
    return {"series": f"{name}{{{labels}}}", "values": values}


def _flat(value: float) -> str:
    return f"{value}x{STEPS}"


def _growing(per_minute: float) -> str:
    return f"0+{per_minute}x{STEPS}"


def _mean(metric: str, seconds: float) -> list[dict[str, str]]:
    return [_series(f"{metric}_sum", _growing(seconds * 120)), _series(f"{metric}_count", _growing(120))]


def _share(used: str, maximum: str, share: float) -> list[dict[str, str]]:
    return [_series(used, _flat(share * 100)), _series(maximum, _flat(100))]


def _gauge(metric: str, value: float, *labels: str) -> list[dict[str, str]]:
    return [_series(metric, _flat(value), ", ".join((NODE, *labels)))]


def _cpu(share: float) -> list[dict[str, str]]:
    """A process that is no node may use what it likes."""
    return [
        _series("process_cpu_seconds_total", _growing(share * 60)),
        _series("process_cpu_seconds_total", _growing(6000), 'job="other", instance="b:1"'),
        *_gauge("moorline_node", 1, 'name="a"'),
    ]


def _queue(in_redis: float, in_node: float) -> list[dict[str, str]]:
    return [
        *_gauge("moorline_queue_fullest_ratio", in_redis),
        *_gauge("moorline_backlog_fullest_ratio", in_node),
    ]


def _dropped(at_qos0: float, above: float) -> list[dict[str, str]]:
    return [
        _series("moorline_messages_dropped_total", _growing(count), f'{NODE}, reason="expired", qos="{qos}"')
        for qos, count in (("0", at_qos0), ("1-2", above))
    ]


def _flapping(fights: float, bans: float) -> list[dict[str, str]]:
    labels = f'{NODE}, reason="flapping"'
    return [
        *_gauge("moorline_client_id_fights", fights),
        _series("moorline_automatic_bans_total", _growing(bans), labels),
    ]


def _expiry(metric: str, days: float) -> list[dict[str, str]]:
    """Prometheus' tests begin at 1970."""
    return _gauge(metric, days * 86_400 + 18 * 60, 'listener="tls"', 'file="crt"')


CASES: dict[str, tuple[list[list[dict[str, str]]], list[list[dict[str, str]]]]] = {
    "MoorlineCpu": ([_cpu(0.95)], [_cpu(0.5)]),
    "MoorlineMemory": (
        [_share("moorline_memory_used_bytes", "moorline_memory_high_water_bytes", 0.95)],
        [
            _share("moorline_memory_used_bytes", "moorline_memory_high_water_bytes", 0.8),
            [
                *_gauge("moorline_memory_used_bytes", 5),
                *_gauge("moorline_memory_high_water_bytes", 0),
            ],
        ],
    ),
    "MoorlineLoopLag": (
        [_mean("moorline_event_loop_lag_seconds", 0.2)],
        [_mean("moorline_event_loop_lag_seconds", 0.01)],
    ),
    "MoorlineRedisLatency": (
        [_mean("moorline_redis_round_trip_seconds", 0.2)],
        [_mean("moorline_redis_round_trip_seconds", 0.001)],
    ),
    "MoorlineRedisAway": ([_gauge("moorline_redis_away", 1)], [_gauge("moorline_redis_away", 0)]),
    "MoorlineDurability": (
        [_gauge("moorline_durability_unavailable_seconds", 3, 'level="fsynced"')],
        [_gauge("moorline_durability_unavailable_seconds", 0, 'level="fsynced"')],
    ),
    "MoorlineRedisMemory": (
        [_share("moorline_redis_memory_used_bytes", "moorline_redis_memory_maximum_bytes", 0.81)],
        [
            _share("moorline_redis_memory_used_bytes", "moorline_redis_memory_maximum_bytes", 0.7),
            [
                *_gauge("moorline_redis_memory_used_bytes", 5),
                *_gauge("moorline_redis_memory_maximum_bytes", 0),
            ],
        ],
    ),
    "MoorlineRedisFsync": (
        [[_series("moorline_redis_delayed_fsync_total", _growing(3))]],
        [[_series("moorline_redis_delayed_fsync_total", _flat(7))]],
    ),
    "MoorlineRedisFile": (
        [_gauge("moorline_redis_file_failed", 1)],
        [_gauge("moorline_redis_file_failed", 0)],
    ),
    "MoorlineQueue": ([_queue(0.9, 0.1), _queue(0.1, 0.9)], [_queue(0.5, 0.6)]),
    "MoorlineDrops": ([_dropped(0, 120)], [_dropped(1000, 6)]),
    "MoorlineFlapping": ([_flapping(1, 0), _flapping(0, 5)], [_flapping(0, 0)]),
    "MoorlineBeat": ([_gauge("moorline_beat_age_seconds", 4)], [_gauge("moorline_beat_age_seconds", 1)]),
    "MoorlineDeadNode": (
        [_gauge("moorline_others_beat_age_seconds", 16)],
        [_gauge("moorline_others_beat_age_seconds", 2)],
    ),
    "MoorlineCertificate": (
        [_expiry("moorline_certificate_expiry_seconds", 13)],
        [_expiry("moorline_certificate_expiry_seconds", 60)],
    ),
    "MoorlineRevocationList": (
        [_expiry("moorline_crl_expiry_seconds", 0.5)],
        [_expiry("moorline_crl_expiry_seconds", 5)],
    ),
    "MoorlineQos2Exchange": (
        [_gauge("moorline_qos2_oldest_seconds", 70, 'direction="in"')],
        [_gauge("moorline_qos2_oldest_seconds", 5, 'direction="in"')],
    ),
    "MoorlineAbsent": ([[]], [_gauge("moorline_node", 1, 'name="a"')]),
    "MoorlineWorkerDown": (
        [_gauge("moorline_worker_up", 0, 'worker="a-1"')],
        [_gauge("moorline_worker_up", 1, 'worker="a-1"')],
    ),
    "MoorlineNodeDied": (
        [[_series("moorline_nodes_reaped_total", "0x15 1x5")]],
        [[_series("moorline_nodes_reaped_total", "3x20")]],
    ),
}
"""By alert: what makes it fire, and what does not."""


def test_each_alert_is_tried() -> None:
    assert set(CASES) == {alert.name for alert in ALERTS}


def test_each_alarm_has_an_alert() -> None:
    assert len(ALERTS) == len(RULES) + 3


def test_each_alarm_is_in_the_manual() -> None:
    """With the setting that has its threshold."""
    page = (alerting.RUNBOOK.parent / "operations.md").read_text()
    for rule in RULES:
        setting = f"`alarms.{rule.setting}`" if rule.setting else ""
        assert re.search(rf"^\| `{rule.name}` \|.*\| {re.escape(setting)} ?\|$", page, re.MULTILINE), (
            rule.name
        )


def test_the_rules_are_right(tmp_path: Path) -> None:
    _promtool("check", "rules", str(alerting.FILE))


def test_each_alert_fires_and_stays_silent(tmp_path: Path) -> None:
    tests = [
        _case(alert.name, series, fires=fires)
        for alert in ALERTS
        for fires, inputs in zip((True, False), CASES[alert.name], strict=True)
        for series in inputs
    ]
    file = tmp_path / "tests.yaml"
    content = {"rule_files": [str(alerting.FILE)], "evaluation_interval": "30s", "tests": tests}
    file.write_text(yaml.safe_dump(content))
    _promtool("test", "rules", str(file))


def _case(alert: str, series: list[dict[str, str]], *, fires: bool) -> dict[str, object]:
    """How many of them fire: labels and texts aside."""
    expr = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    expected = [{"labels": "{}", "value": 1}] if fires else []
    return {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": expr, "eval_time": AT, "exp_samples": expected}],
    }


def _promtool(*arguments: str) -> None:
    done = subprocess.run(
        [require_tool("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_metric_of_an_alert_exists(alert: Alert) -> None:
    assert _metrics_in(alert.expr) <= _known()
    assert _metrics_in(alert.expr)


def test_each_metric_of_the_dashboard_exists() -> None:
    found = [expr for _, panels in dashboard.ROWS for panel in panels for expr in panel.expressions()]
    named = set().union(*map(_metrics_in, found))
    assert named <= _known()
    assert len(named) > 20


def test_expressions_of_the_dashboard_are_right(tmp_path: Path) -> None:
    """As recording rules; Grafana fills in its variables."""
    found = [expr for _, panels in dashboard.ROWS for panel in panels for expr in panel.expressions()]
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "1m")}
        for number, expr in enumerate(found)
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    _promtool("check", "rules", "--lint=none", str(file))


def test_panels_do_not_overlap() -> None:
    panels = json.loads(dashboard.dashboard_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_what_is_made_of_them_is_current() -> None:
    assert alerting.FILE.read_text() == alerting.alerts_text(), "run `make docs`"
    assert dashboard.FILE.read_text() == dashboard.dashboard_text(), "run `make docs`"
    page = alerting.RUNBOOK.read_text()
    assert page == alerting.runbook_page(page), "run `make docs`"


def test_each_section_of_the_runbook_says_what_to_do() -> None:
    sections = alerting.RUNBOOK.read_text().split("\n## ")[1:]
    assert len(sections) == len(ALERTS)
    for section in sections:
        for part in ("**What it means.**", "**Look at** ", "**Do.** "):
            assert part in section, section.splitlines()[0]


def test_a_runbook_that_lacks_something_is_refused() -> None:
    page = alerting.RUNBOOK.read_text()
    with pytest.raises(ValueError, match="0 sections 'Queue'"):
        alerting.runbook_page(page.replace("## Queue\n", "### Queue\n"))
    with pytest.raises(ValueError, match="no alert is called Quay"):
        alerting.runbook_page(page + "\n## Quay\n")


def _metrics_in(expr: str) -> set[str]:
    return {
        re.sub(r"_(total|bucket|sum|count)$", "", name)
        for name in re.findall(r"\b(?:moorline|process)_[a-z0-9_]+", expr)
    }


def _known() -> set[str]:
    definitions = [each for section in SECTIONS.values() for each in section]
    ours = {each.name for each in (*definitions, *OF_PARENT)}
    return ours | {"process_cpu_seconds", "process_resident_memory_bytes"}
