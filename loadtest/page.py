"""A report as one HTML file: no script, nothing fetched, readable in the dark, on a phone and on paper."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from loadtest.plot import Chart, Point, Series, line_chart
from loadtest.result import Json, Result

_STYLE: Final = """\
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--faint:#656d76;--rule:#d0d7de;--shade:#f3f4f6;
--bad:#b42318;--good:#1a7f37;--s0:#0b62c4;--s1:#c2570c;--s2:#197a3e;--s3:#8b2fb8;--s4:#b3261e;--s5:#4b5563}
@media(prefers-color-scheme:dark){:root{--paper:#12161c;--ink:#e6edf3;--faint:#9aa4af;--rule:#363d47;
--shade:#1c222a;--bad:#ff7b72;--good:#56d364;--s0:#6cb2ff;--s1:#ffa657;--s2:#6fdd8b;--s3:#d2a8ff;--s4:#ff7b72;
--s5:#b1bac4}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1rem;background:var(--paper);color:var(--ink);
font:1rem/1.45 system-ui,sans-serif}
h1{font-size:1.35rem;margin:.3rem 0 .8rem}
h2{font-size:1.1rem;margin:1.6rem 0 .5rem}h3{font-size:1rem;margin:0}
small,.faint{color:var(--faint);font-weight:400}
.verdict{border-left:.3rem solid var(--good);padding:.3rem .8rem;background:var(--shade);margin:.6rem 0}
.verdict.bad{border-color:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1.2rem}
figure{margin:0;break-inside:avoid}figure>svg{width:100%;height:auto;display:block}
.legend{font-size:.85rem;min-height:1.3rem}.key{margin-right:1rem;white-space:nowrap}
.key svg{width:1.6rem;height:.55rem;margin-right:.3rem}
svg text{font:12px system-ui,sans-serif;fill:var(--faint)}.end{text-anchor:end}.middle{text-anchor:middle}
.grid{stroke:var(--rule);fill:none}.warm-up{fill:var(--shade)}.tip{fill:transparent}
.tip:hover{fill:var(--faint);fill-opacity:.15}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.line.s0{stroke:var(--s0)}.line.s1{stroke:var(--s1);stroke-dasharray:7 4}
.line.s2{stroke:var(--s2);stroke-dasharray:2 4}.line.s3{stroke:var(--s3);stroke-dasharray:9 3 2 3}
.line.s4{stroke:var(--s4)}.line.s5{stroke:var(--s5);stroke-dasharray:4 4}
.bar.s0{fill:var(--s0)}.bar.s1{fill:var(--s1)}.bar.s2{fill:var(--s2)}.bar.s3{fill:var(--s3)}.bars{width:7.5rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
td.number{text-align:right;white-space:nowrap}
.wide{margin-bottom:1rem}thead th{color:var(--faint);font-weight:500}
td.bad{color:var(--bad);font-weight:600}td.good{color:var(--good)}
pre,code{font:.85rem/1.4 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
summary{cursor:pointer}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--faint:#444;--rule:#bbb;--shade:#eee;
--bad:#a00;--good:#060;--s0:#0b62c4;--s1:#c2570c;--s2:#197a3e;--s3:#8b2fb8;--s4:#b3261e;--s5:#4b5563}
body{max-width:none;padding:0;font-size:10pt}.charts{grid-template-columns:1fr 1fr}details{display:none}}
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, *parts: str) -> str:
    """The whole file. It may not fetch anything: the browser is told so, too."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def result_page(result: Result) -> str:
    """The report of one run."""
    return page(
        result.title,
        verdict(result.problems, "The broker kept its promises."),
        "".join(f'<p class="faint">Note: {escape(remark)}</p>' for remark in result.remarks),
        table(("figure", "value"), result.rows),
        charts(charts_of(result)),
        _samples(result),
        facts(result.facts),
    )


def verdict(problems: Sequence[str], praise: str) -> str:
    """What went wrong, or that nothing did."""
    if not problems:
        return f'<p class="verdict">{escape(praise)}</p>'
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f'<div class="verdict bad"><strong>Failed</strong><ul>{items}</ul></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text; on a narrow screen it scrolls by itself."""
    cells = [[f"<td>{escape(cell)}</td>" for cell in row] for row in rows]
    return table_of_cells(head, cells)


def table_of_cells(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML already."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def charts(drawn: Iterable[Chart]) -> str:
    """Side by side as far as there is room."""
    figures = "".join(line_chart(chart) for chart in drawn)
    return f'<h2>Over time</h2><div class="charts">{figures}</div>' if figures else ""


def facts(found: dict[str, str], title: str = "How it was measured") -> str:
    """Command, versions, machine."""
    rows = [
        (f"<td>{escape(name)}</td>", f"<td><code>{escape(value)}</code></td>")
        for name, value in found.items()
    ]
    return f"<h2>{escape(title)}</h2>" + table_of_cells((), rows)


# A timeline is read as JSON: a result may be of another release.


def charts_of(result: Result) -> list[Chart]:
    """Throughput, latency, processors, memory, and what should not be there."""
    samples = _samples_of(result)
    if not samples:
        return []
    warm_up = _number(_at(result.report, "timeline", "warm_up_seconds")) or 0.0

    def chart(title: str, unit: str, series: list[Series], *, logarithmic: bool = False) -> Chart:
        return Chart(title, unit, series, logarithmic, warm_up)

    found = [
        chart("Throughput", "per second", _each(samples, "per_second")),
        chart("Latency", "ms", _each(samples, "latency_ms"), logarithmic=True),
        chart("Processors", "cores", _parts(samples, "cores", 1.0)),
        chart("Memory", "MiB, resident", _parts(samples, "rss_bytes", 2**-20)),
        chart("Loss, duplicates, order", "messages so far", _each(samples, "so_far")),
    ]
    return [chart for chart in found if chart.series]


def series_of(result: Result, name: str, *path: str, factor: float = 1.0) -> Series:
    """One figure of a timeline as a line with this name."""
    return _line(_samples_of(result), name, factor, *path)


def _samples_of(result: Result) -> list[Json]:
    found = _at(result.report, "timeline", "samples")
    return found if isinstance(found, list) else []


def _each(samples: list[Json], group: str) -> list[Series]:
    """A line for each name in a group of figures."""
    names: dict[str, None] = {}
    for sample in samples:
        figures = _at(sample, group)
        names.update(dict.fromkeys(figures if isinstance(figures, dict) else ()))
    return [_line(samples, readable(name), 1.0, group, name) for name in names]


def readable(name: str) -> str:
    """A name in JSON, for people."""
    return "p99.9" if name == "p99_9" else name.replace("_", " ")


def _parts(samples: list[Json], figure: str, factor: float) -> list[Series]:
    """Broker, Redis, and the generator where it has that figure."""
    found = [
        _line(samples, "broker", factor, "broker", figure),
        _line(samples, "Redis", factor, "redis", figure),
        _line(samples, "generator", factor, f"generator_{figure}"),
    ]
    return [series for series in found if any(value is not None for _, value in series.points)]


def _line(samples: list[Json], name: str, factor: float, *path: str) -> Series:
    points: list[Point] = []
    for sample in samples:
        value = _number(_at(sample, *path))
        points.append((_number(_at(sample, "at_seconds")) or 0.0, None if value is None else value * factor))
    return Series(name, points)


def _samples(result: Result) -> str:
    """The numbers behind the lines."""
    columns = [(chart, series) for chart in charts_of(result) for series in chart.series]
    if not columns:
        return ""
    moments = [x for x, _ in columns[0][1].points]
    rows = [
        [f"{moment:.1f}", *(_shown(series.points[place][1]) for _, series in columns)]
        for place, moment in enumerate(moments)
    ]
    head = ["s", *(f"{series.name}, {chart.unit}" for chart, series in columns)]
    return f"<details><summary>The numbers</summary>{table(head, rows)}</details>"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _at(data: Json, *path: str) -> Json:
    for step in path:
        if not isinstance(data, dict):
            return None
        data = data.get(step)
    return data


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) else None
