"""Alert rules for Prometheus, made from the rules of the alarms; facts of each for docs/runbook.md.

An alert is what its alarm is, seen by Prometheus: with the default threshold, and only after it has lasted
for some scrapes. Beside these are some of what no node can notice of itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from broker.observability.alarms import RULES, Rule, Unit

FILE: Final = Path(__file__).parent.parent / "helm" / "moorline" / "files" / "alerts.yaml"
RUNBOOK: Final = Path(__file__).parent / "runbook.md"
HEAD: Final = (
    "# Written by `make docs` from broker/observability/alarms.py. Change it there, not in this file.\n"
)
_SCRAPES_SECONDS: Final = 30
"""An alert has to last for as long at least."""
_SHOWN: Final[Mapping[Unit, str]] = {
    "share": "{{ $value | humanizePercentage }}",
    "seconds": "{{ $value | humanizeDuration }}",
    "per second": '{{ printf "%.3g" $value }} per second',
    "days": '{{ printf "%.1f" $value }} days',
    "count": '{{ printf "%g" $value }}',
}


@dataclass(frozen=True, slots=True)
class Alert:
    """As Prometheus has it. `anchor`: its section of the runbook, whose heading is `title`. `facts`: when it
    comes and goes."""

    name: str
    title: str
    severity: str
    expr: str
    lasting_seconds: int
    summary: str
    facts: str

    @property
    def anchor(self) -> str:
        """As GitHub makes them of headings."""
        return self.title.lower().replace(" ", "-")

    def rule(self) -> dict[str, object]:
        """For the file."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": f"{self.lasting_seconds}s",
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "runbook": f"docs/runbook.md#{self.anchor}",
            },
        }


def _of(rule: Rule) -> Alert:
    sign = "<=" if rule.is_low else ">="
    camel = "".join(part.capitalize() for part in rule.name.split("_"))
    lasting = max(_SCRAPES_SECONDS, int(rule.raise_seconds))
    beyond, back = ("less", "more") if rule.is_low else ("more", "less")
    default = f"`{rule.shown(rule.raise_at)}`"
    threshold = f"{default} (`alarms.{rule.setting}`)" if rule.setting else default
    return Alert(
        f"Moorline{camel}",
        rule.title,
        rule.severity,
        f"({rule.expr}) {sign} {rule.raise_at:g}",
        lasting,
        rule.text.format(value=_SHOWN[rule.unit]),
        f"Alarm `{rule.name}`, alert `Moorline{camel}`, {rule.severity}. Raised at {threshold} or {beyond}"
        f"{_after(rule.raise_seconds)}, cleared at {back} than `{rule.shown(rule.clear_at)}`"
        f"{_after(rule.clear_seconds)}.",
    )


def _after(seconds: float) -> str:
    return f" for {seconds:g} s" if seconds else ""


def _further(name: str, title: str, severity: str, expr: str, seconds: int, summary: str) -> Alert:
    lasting = f" It comes when that has lasted{_after(seconds)}." if seconds else ""
    facts = f"Alert `{name}`, {severity}; no node can raise an alarm for it.{lasting}"
    return Alert(name, title, severity, expr, seconds, summary, facts)


ALERTS: Final = (
    *(_of(rule) for rule in RULES),
    _further(
        "MoorlineAbsent", "Absent", "critical", "absent(moorline_node)", 60,
        "Prometheus sees no node of Moorline.",
    ),
    _further(
        "MoorlineWorkerDown", "Worker down", "warning", "moorline_worker_up == 0", 60,
        "Worker {{ $labels.worker }} does not answer its parent.",
    ),
    _further(
        "MoorlineNodeDied", "Node died", "warning",
        "sum without (instance, pod, worker) (increase(moorline_nodes_reaped_total[10m])) > 0", 0,
        "A node has died, and its sessions were given back.",
    ),
)  # fmt: skip


def alerts_text() -> str:
    """The whole file."""
    groups = {"groups": [{"name": "moorline", "rules": [alert.rule() for alert in ALERTS]}]}
    return HEAD + yaml.safe_dump(groups, sort_keys=False, width=1000)


def runbook_page(page: str) -> str:
    """The runbook with the facts of each alert below its heading as they are now; its texts are written by
    hand. Raises ValueError for an alert that has no section, and for a section without an alert."""
    titles = {alert.title for alert in ALERTS}
    if extra := set(re.findall(r"^## (.*)$", page, re.MULTILINE)) - titles:
        raise ValueError(f"no alert is called {', '.join(sorted(extra))}")
    for alert in ALERTS:
        pattern = rf"^## {re.escape(alert.title)}\n\n(?:Al(?:arm|ert) `[^\n]*\n(?:[^\n]+\n)*\n)?"
        section = f"## {alert.title}\n\n{_wrapped(alert.facts)}\n\n"
        page, count = re.subn(pattern, lambda _, text=section: text, page, flags=re.MULTILINE)  # type: ignore[misc]  # of a lambda's default
        if count != 1:
            raise ValueError(f"the runbook has {count} sections {alert.title!r}")
    return page


def _wrapped(text: str, width: int = 116) -> str:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
