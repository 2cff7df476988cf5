"""Writes what is made from the program, so that page and program agree. Run by `make docs`.

docs/configuration.md from the settings; docs/api.md from the routes of the admin API; docs/metrics.md, alert
rules, a dashboard and facts in docs/runbook.md from metrics and alarms; README and schema of the Helm chart
from its values and the settings.
"""

from pathlib import Path

from pydantic.fields import FieldInfo

from broker.settings import ForwardSettings, Group, ListenerSettings, environment_name, groups
from broker.settings.live import LIVE
from docs import alerting, api_page, chart, dashboard, metrics_page

PAGE = Path(__file__).parent / "configuration.md"

HEAD = """\
<!-- Written by `make docs` from broker/settings/. Change it there, not in this file. -->
# Configuration

Each setting can be given in four ways; the first one found counts:

1. a flag of `moorline serve`, for the few that have one (`moorline serve --help`);
2. an environment variable, whose name stands below;
3. a TOML file, named by `--config` or `MOORLINE_CONFIG`;
4. the default.

All mistakes are reported at once, unknown names among them, and the exit code is 2.

Of each setting it is said whether a change counts when nodes read their settings again
([live](operations.md#reload)), or with the next start (restart).

```toml
[node]
listen = ["127.0.0.1:1883"]

[session]
queue_limit = 50_000
queue_policy = "drop_new"
```
"""

LISTENERS = """
## [listeners.NAME]

Any number of tables, each a listener of its own beside those of `node.listen`; NAME is what you call it:
lower case letters, digits, `_`, `-`. [Listeners](listeners.md) tells how to use them.
"""


FORWARDS = """
## [forwards.NAME]

Any number of tables, each of which brings messages elsewhere; NAME is what you call it: lower case letters,
digits, `_`, `-`. [Forwards](forwards.md) tells how to use them. All nodes of a cluster should have the same.
"""


def configuration_page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, model in groups():
        parts.append(f"\n## [{name}]\n\n{_section(model)}\n")
        parts.extend(_entry(f"{name}.{field}", info) for field, info in model.model_fields.items())
    parts.append(LISTENERS)
    fields = ListenerSettings.model_fields.items()
    parts.extend(_entry(f"listeners.NAME.{field}", info) for field, info in fields)
    parts.append(FORWARDS)
    fields = ForwardSettings.model_fields.items()
    parts.extend(_entry(f"forwards.NAME.{field}", info) for field, info in fields)
    return "".join(parts)


def _section(model: type[Group]) -> str:
    return (model.__doc__ or "").strip()


def _entry(setting: str, info: FieldInfo) -> str:
    facts = [f"`{environment_name(setting)}`", f"default {_default(info)}", *_bounds(info)]
    facts.append("live" if setting in LIVE else "restart")
    return f"\n### {setting}\n\n{', '.join(facts)}\n\n{info.description}\n"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "none, must be given"
    if info.default_factory is not None:
        return "see below"
    value = info.default
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`" if value else "none"
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _bounds(info: FieldInfo) -> list[str]:
    limits = {
        type(bound).__name__.lower(): value
        for bound in info.metadata
        for name in ("ge", "gt", "le")
        if (value := getattr(bound, name, None)) is not None
    }
    texts = {"ge": "at least", "gt": "more than", "le": "at most"}
    found = [f"{texts[name]} {limits[name]}" for name in texts if name in limits]
    choices = getattr(info.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        found.append("one of " + ", ".join(f"`{choice}`" for choice in choices))
    return found


if __name__ == "__main__":
    PAGE.write_text(configuration_page())
    api_page.PAGE.write_text(api_page.api_page())
    metrics_page.PAGE.write_text(metrics_page.metrics_page())
    alerting.FILE.write_text(alerting.alerts_text())
    alerting.RUNBOOK.write_text(alerting.runbook_page(alerting.RUNBOOK.read_text()))
    dashboard.FILE.write_text(dashboard.dashboard_text())
    chart.README.write_text(chart.chart_readme())
    chart.SCHEMA.write_text(chart.values_schema())
