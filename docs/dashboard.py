"""A dashboard for Grafana, made of panels that refer to the metrics; written to the chart's files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).parent.parent / "helm" / "moorline" / "files" / "dashboard.json"
UID: Final = "moorline"
_COLUMNS: Final = 24
_WIDTH: Final = 8
_HEIGHT: Final = 7
_SELECTOR: Final = 'job=~"$job", instance=~"$instance"'
_DATA_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph; `queries`: PromQL, in which `*` stands for what the viewer has chosen, and what its lines are
    called."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]

    def expressions(self) -> list[str]:
        """As they are sent."""
        return [query.replace("*", _SELECTOR) for query, _ in self.queries]


def _quantiles(title: str, metric: str, by: str = "") -> Panel:
    rates = f"sum by (le{', ' + by if by else ''}) (rate({metric}_bucket{{*}}[$__rate_interval]))"
    legend = f" {{{{{by}}}}}" if by else ""
    shares = (("median", 0.5), ("p99", 0.99))
    lines = tuple((f"histogram_quantile({share}, {rates})", f"{name}{legend}") for name, share in shares)
    return Panel(title, "s", lines)


def _rate(title: str, metric: str, by: str, unit: str = "ops") -> Panel:
    query = f"sum by ({by}) (rate({metric}{{*}}[$__rate_interval]))"
    return Panel(title, unit, ((query, f"{{{{{by}}}}}"),))


ROWS: Final = (
    (
        "Overview",
        (
            Panel("Alarms", "short", (("sum by (name) (moorline_alarm{*}) > 0", "{{name}}"),)),
            Panel("Connections", "short", (("moorline_connections{*}", "{{instance}} {{worker}}"),)),
            _rate("Messages in", "moorline_messages_received_total", "qos"),
            _rate("Messages out", "moorline_messages_sent_total", "qos"),
            Panel(
                "Dropped",
                "ops",
                (
                    (
                        "sum by (reason, qos)"
                        " (rate(moorline_messages_dropped_total{*}[$__rate_interval])) > 0",
                        "{{reason}} QoS {{qos}}",
                    ),
                ),
            ),
            Panel(
                "Queues",
                "short",
                (
                    ("sum(moorline_queue_entries{*})", "in Redis"),
                    ("sum(moorline_backlog_messages{*})", "in nodes"),
                    ("sum(moorline_shared_waiting{*})", "of shared subscriptions"),
                ),
            ),
        ),
    ),
    (
        "Latency",
        (
            _quantiles("Delivery, within a node", "moorline_delivery_latency_seconds", "way"),
            _quantiles("Acknowledgement to publishers", "moorline_acknowledgement_latency_seconds"),
            _quantiles("Acknowledgement by clients", "moorline_client_acknowledgement_latency_seconds"),
            _quantiles("Redis, a batch", "moorline_redis_round_trip_seconds"),
            _quantiles("Event loop lag", "moorline_event_loop_lag_seconds"),
            Panel(
                "Requests in a batch",
                "short",
                (
                    (
                        "rate(moorline_redis_batch_items_sum{*}[$__rate_interval])"
                        " / rate(moorline_redis_batch_items_count{*}[$__rate_interval])",
                        "{{instance}} {{worker}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Clients",
        (
            _rate("CONNECT answered", "moorline_connects_total", "result"),
            _rate("Disconnects", "moorline_disconnects_total", "reason"),
            _rate("Packets in", "moorline_packets_received_total", "type"),
            Panel(
                "Errors told to clients",
                "ops",
                (
                    (
                        "sum by (type, reason) (rate(moorline_error_packets_total{*}[$__rate_interval])) > 0",
                        "{{type}} {{reason}}",
                    ),
                ),
            ),
            Panel(
                "Held back",
                "short",
                (
                    ("sum(moorline_connections_reading_paused{*})", "not read from"),
                    ("sum(moorline_connections_throttled{*})", "over a rate"),
                    ("sum(moorline_client_id_fights{*})", "fights"),
                    ("sum(moorline_passwords_waiting{*})", "passwords waiting"),
                ),
            ),
            Panel(
                "QoS 2 exchanges",
                "short",
                (
                    ("sum by (direction, phase) (moorline_qos2_open{*})", "{{direction}} {{phase}}"),
                    ("max(moorline_qos2_oldest_seconds{*})", "age of the oldest, seconds"),
                ),
            ),
        ),
    ),
    (
        "Nodes and Redis",
        (
            Panel(
                "CPU",
                "percentunit",
                (("rate(process_cpu_seconds_total{*}[$__rate_interval])", "{{instance}} {{worker}}"),),
            ),
            Panel("Memory", "bytes", (("process_resident_memory_bytes{*}", "{{instance}} {{worker}}"),)),
            Panel(
                "Life signs",
                "s",
                (
                    ("moorline_beat_age_seconds{*}", "{{instance}} {{worker}}"),
                    ("max(moorline_others_beat_age_seconds{*})", "the oldest, as others see it"),
                ),
            ),
            Panel(
                "Take-overs and failures",
                "ops",
                (
                    ("sum(rate(moorline_takeovers_total{*}[$__rate_interval]))", "take-overs"),
                    ("sum(rate(moorline_fenced_total{*}[$__rate_interval]))", "fenced"),
                    ("sum(rate(moorline_nodes_reaped_total{*}[$__rate_interval]))", "nodes reaped"),
                    ("sum(rate(moorline_doubts_total{*}[$__rate_interval]))", "doubts"),
                ),
            ),
            Panel(
                "Memory of Redis",
                "bytes",
                (
                    ("max(moorline_redis_memory_used_bytes{*})", "used"),
                    ("max(moorline_redis_memory_maximum_bytes{*}) > 0", "maximum"),
                ),
            ),
            Panel(
                "Redis",
                "short",
                (
                    ("max(moorline_redis_away{*})", "away"),
                    ("max(moorline_redis_replicas{*})", "replicas"),
                    ("max(rate(moorline_redis_delayed_fsync_total{*}[$__rate_interval]))", "delayed fsync"),
                    ("sum(rate(moorline_redis_full_total{*}[$__rate_interval]))", "refused, as it is full"),
                ),
            ),
        ),
    ),
)
"""Title of a row and what is in it."""


def dashboard_text() -> str:
    """The whole file."""
    return json.dumps(_dashboard(), indent=1) + "\n"


def _dashboard() -> dict[str, object]:
    return {
        "uid": UID,
        "title": "Moorline",
        "description": "Written by `make docs` from docs/dashboard.py.",
        "tags": ["mqtt", "moorline"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": _panels(),
    }


def _variables() -> list[dict[str, object]]:
    chosen: list[dict[str, object]] = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    ]
    for name, query in (
        ("job", "label_values(moorline_node, job)"),
        ("instance", 'label_values(moorline_node{job=~"$job"}, instance)'),
    ):
        chosen.append(
            {
                "name": name,
                "label": name.capitalize(),
                "type": "query",
                "datasource": _DATA_SOURCE,
                "query": {"query": query, "refId": name},
                "refresh": 2,
                "includeAll": True,
                "multi": True,
                "current": {"text": "All", "value": "$__all"},
            }
        )
    return chosen


def _panels() -> list[dict[str, object]]:
    panels: list[dict[str, object]] = []
    top = 0
    for title, members in ROWS:
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "panels": []})
        top += 1
        for number, panel in enumerate(members):
            column = number * _WIDTH % _COLUMNS
            place = {"x": column, "y": top, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_graph(len(panels) + 1, panel, place))
            if column + _WIDTH == _COLUMNS:
                top += _HEIGHT
    return panels


def _graph(number: int, panel: Panel, place: dict[str, int]) -> dict[str, object]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _DATA_SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + place), "expr": expr, "legendFormat": legend, "datasource": _DATA_SOURCE}
            for place, (expr, (_, legend)) in enumerate(zip(panel.expressions(), panel.queries, strict=True))
        ],
    }
