"""Two results beside each other: each figure of both, the ratio, and whether the load was the same at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Final

import orjson

from loadtest.page import charts, facts, page, series_of, table, table_of_cells
from loadtest.plot import Chart, Series
from loadtest.result import Json, Result

_SETTINGS: Final = frozenset(
    {
        "at_once",
        "connections",
        "hold_seconds",
        "messages_each",
        "mqtt_version",
        "payload_bytes",
        "processes",
        "publishers",
        "qos",
        "rate_per_second",
        "sessions",
        "subscribers",
        "window",
    }
)
"""Numbers in reports that were chosen and not measured."""
_WITHOUT_RATIO: Final = frozenset({"timeline", "faults"})


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of two results, by its place in the report's JSON; None where there is none."""

    name: str
    before: float | None
    after: float | None

    @property
    def ratio(self) -> float | None:
        """How many times the first the second is."""
        return self.after / self.before if self.before and self.after is not None else None

    @property
    def shown_ratio(self) -> str:
        """As people read it."""
        return "-" if self.ratio is None else f"{self.ratio:.2f}x"


@dataclass(frozen=True, slots=True)
class Difference:
    """What is different in two results."""

    before: Result
    after: Result
    loads: list[str]  # in words; empty if both are of the same load
    pairs: list[Pair]


def compare_results(before: Result, after: Result) -> Difference:
    """Set two results beside each other."""
    settings = [dict(_settings(result)) for result in (before, after)]
    # One that a result has not was not there yet in its release.
    loads = [
        f"{name}: {value} and {settings[1][name]}"
        for name, value in settings[0].items()
        if settings[1].get(name, value) != value
    ]
    figures = [dict(_figures(result.report)) for result in (before, after)]
    pairs = [
        Pair(name, figures[0].get(name), figures[1].get(name))
        for name in dict.fromkeys([*figures[0], *figures[1]])
    ]
    return Difference(before, after, loads, pairs)


def _settings(result: Result) -> Iterator[tuple[str, str]]:
    """What was chosen: numbers by name, and all that is a word or yes or no."""
    yield "scenario", result.scenario
    for name, value in result.report.items():
        if name in _SETTINGS or isinstance(value, str | bool):
            yield name, str(value)


def _figures(report: Json, *path: str) -> Iterator[tuple[str, float]]:
    if isinstance(report, dict):
        for name, value in report.items():
            if name not in _WITHOUT_RATIO and name not in _SETTINGS:
                yield from _figures(value, *path, name)
    elif isinstance(report, int | float) and not isinstance(report, bool):
        yield ".".join(path), report


def render_table(difference: Difference) -> str:
    """Text for people."""
    rows = [("", "A", "B", "B / A"), *map(_row, difference.pairs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"A  {difference.before.title}", f"B  {difference.after.title}"]
    lines += [f"DIFFERENT LOADS: {text}" for text in difference.loads]
    for name, *numbers in rows:
        aligned = (f"{number:>{width}}" for number, width in zip(numbers, widths[1:], strict=True))
        lines.append(f"  {name:<{widths[0]}}  {'  '.join(aligned)}")
    return "\n".join(lines)


def _row(pair: Pair) -> tuple[str, str, str, str]:
    return pair.name, _show(pair.before), _show(pair.after), pair.shown_ratio


def _show(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def render_json(difference: Difference) -> bytes:
    """For programs."""
    whole = {
        "scenario": "diff",
        "a": {"title": difference.before.title, "facts": difference.before.facts},
        "b": {"title": difference.after.title, "facts": difference.after.facts},
        "same_load": not difference.loads,
        "loads": difference.loads,
        "figures": [
            {"figure": pair.name, "a": pair.before, "b": pair.after, "ratio": pair.ratio}
            for pair in difference.pairs
        ],
    }
    return orjson.dumps(whole) + b"\n"


def render_html(difference: Difference) -> str:
    """The table, and both timelines in the same charts."""
    items = "".join(f"<li>{escape(text)}</li>" for text in difference.loads)
    warning = f'<div class="verdict bad"><strong>Different loads</strong><ul>{items}</ul></div>'
    rows = [
        [f"<td>{escape(row[0])}</td>", *(f'<td class="number">{escape(cell)}</td>' for cell in row[1:])]
        for row in map(_row, difference.pairs)
    ]
    return page(
        "Two results of moorline loadtest",
        warning if items else "",
        table(("", "load"), [("A", difference.before.title), ("B", difference.after.title)]),
        table_of_cells(("figure", "A", "B", "B / A"), rows),
        charts(_charts(difference)),
        facts(difference.before.facts, "How A was measured"),
        facts(difference.after.facts, "How B was measured"),
    )


def _charts(difference: Difference) -> list[Chart]:
    both = (("A", difference.before), ("B", difference.after))

    def lines(*figures: tuple[str, tuple[str, ...]], factor: float = 1.0) -> list[Series]:
        found = [
            series_of(result, f"{letter} {name}".strip(), *path, factor=factor)
            for name, path in figures
            for letter, result in both
        ]
        return [series for series in found if any(value is not None for _, value in series.points)]

    latency = lines(("p50", ("latency_ms", "p50")), ("p99", ("latency_ms", "p99")))
    drawn = [
        Chart("Delivered", "per second", lines(("", ("per_second", "delivered")))),
        Chart("Connects", "per second", lines(("", ("per_second", "connects")))),
        Chart("Latency", "ms", latency, logarithmic=True),
        Chart("Processors", "cores", lines(("broker", ("broker", "cores")), ("Redis", ("redis", "cores")))),
        Chart(
            "Memory",
            "MiB, resident",
            lines(("broker", ("broker", "rss_bytes")), ("Redis", ("redis", "rss_bytes")), factor=2**-20),
        ),
    ]
    return [chart for chart in drawn if chart.series]
