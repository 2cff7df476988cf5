"""docs/metrics.md, made from the definitions of the metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from broker.observability.definition import Definition
from broker.observability.definitions import SECTIONS
from broker.observability.merged import DEFINITIONS as OF_PARENT

PAGE: Final = Path(__file__).parent / "metrics.md"

HEAD: Final = """\
<!-- Written by `make docs` from broker/observability/. Change it there, not in this file. -->
# Metrics

What `/metrics` on an [admin address](operations.md#health) says, for Prometheus. Counters end in `_total` in
the text; they grow from the start of the process. Labels are bounded: never client ids or topics. What is
sampled says so. Beside these are the usual `process_*` and `python_*` metrics. What to watch:
[alarms](operations.md#alarms), alert rules and a dashboard for Grafana: [monitoring](monitoring.md).
"""


def metrics_page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, definitions in _sections().items():
        parts.append(f"\n## {title}\n\n| Metric | Kind | Labels | Unit | Meaning |\n|---|---|---|---|---|\n")
        parts.extend(_row(definition) for definition in definitions)
    return "".join(parts)


def _sections() -> dict[str, Sequence[Definition[Any]]]:
    return {**SECTIONS, "Parent of workers": OF_PARENT}


def _row(definition: Definition[Any]) -> str:
    labels = ", ".join(f"`{label}`" for label in definition.labels)
    meaning = " ".join(filter(None, (definition.help, definition.note)))
    cells = (f"`{definition.name}`", definition.kind, labels, definition.unit, meaning)
    return f"| {' | '.join(cells)} |\n"
