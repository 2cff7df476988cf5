"""Line charts and bars as SVG that stands in an HTML page. Pure: numbers in, text out.

Colours and dashes are classes of the page's style sheet, so that a chart follows light, dark and paper. Text
that came from outside is escaped here.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Point = tuple[float, float | None]
"""Where, and the value there; None is a gap in the line."""

WIDTH: Final = 480
HEIGHT: Final = 230
_LEFT: Final = 52
_RIGHT: Final = 10
_TOP: Final = 10
_BOTTOM: Final = 30
_STYLES: Final = 6
_BAR_WIDTH: Final = 120
_BAR_HEIGHT: Final = 7


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn: lines over the seconds of a run."""

    title: str
    unit: str
    series: Sequence[Series]
    logarithmic: bool = False
    warm_up_seconds: float = 0.0  # shaded


def show_number(value: float) -> str:
    """Short, with three digits that count: 1.23M, 45.6k, 0.0789."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def line_chart(chart: Chart) -> str:
    """The figure: heading, legend and lines."""
    legend = "".join(
        f'<span class="key"><svg viewBox="0 0 24 8"><path class="line s{place % _STYLES}" d="M0 4H24"/></svg>'
        f"{escape(series.name)}</span>"
        for place, series in enumerate(chart.series)
    )
    unit = f" <small>{escape(chart.unit)}</small>" if chart.unit else ""
    return (
        f'<figure class="chart"><figcaption><h3>{escape(chart.title)}{unit}</h3>'
        f'<div class="legend">{legend}</div></figcaption>{_Drawing(chart).svg()}</figure>'
    )


class _Drawing:
    """One chart with its scales."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._end = max((x for series in chart.series for x, _ in series.points), default=0.0) or 1.0
        values = [y for series in chart.series for _, y in series.points if y is not None]
        if chart.logarithmic:
            above = [y for y in values if y > 0]
            self._low = 10.0 ** math.floor(math.log10(min(above, default=0.1)))
            self._high = 10.0 ** math.ceil(math.log10(max(above, default=1.0)))
            if self._high <= self._low:
                self._high = 10 * self._low
        else:
            self._low, self._high = 0.0, max(values, default=0.0) * 1.05

    def _x(self, seconds: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * seconds / self._end

    def _y(self, value: float) -> float:
        low, high = self._low, self._high
        if self._chart.logarithmic:
            part = math.log(max(value, low) / low) / math.log(high / low)
        else:
            part = value / high if high else 0.0
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * part

    def svg(self) -> str:
        """The drawing."""
        label = f"{self._chart.title} {self._chart.unit}".strip()
        parts = [*self._warm_up(), *self._grid(), *self._lines(), *self._tips()]
        head = f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        return f"{head}{''.join(parts)}</svg>"

    def _warm_up(self) -> Iterator[str]:
        if self._chart.warm_up_seconds:
            width = self._x(min(self._chart.warm_up_seconds, self._end)) - _LEFT
            height = HEIGHT - _TOP - _BOTTOM
            yield (
                f'<rect class="warm-up" x="{_LEFT}" y="{_TOP}" width="{width:.1f}" height="{height}">'
                "<title>warm-up</title></rect>"
            )

    def _grid(self) -> Iterator[str]:
        base = HEIGHT - _BOTTOM
        for value in self._values_of_grid():
            y = self._y(value)
            yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
            yield f'<text class="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{show_number(value)}</text>'
        for seconds in even_steps(self._end, 6):
            x = self._x(seconds)
            yield f'<path class="grid" d="M{x:.1f} {base}v4"/>'
            yield f'<text class="middle" x="{x:.1f}" y="{base + 18}">{show_number(seconds)} s</text>'

    def _values_of_grid(self) -> list[float]:
        if not self._chart.logarithmic:
            return even_steps(self._high, 5) if self._high else [0.0]
        decades = range(round(math.log10(self._low)), round(math.log10(self._high)) + 1)
        within = (1, 2, 5) if len(decades) <= 3 else (1,)
        values = [10.0**decade * step for decade in decades for step in within]
        return [value for value in values if value <= self._high * 1.001]

    def _lines(self) -> Iterator[str]:
        for place, series in enumerate(self._chart.series):
            path, pen = [], "M"
            for x, y in series.points:
                if y is None:
                    pen = "M"
                    continue
                path.append(f"{pen}{self._x(x):.1f} {self._y(y):.1f}")
                pen = "L"
            # A single point would be no line.
            only = f"{path[0]}h0.1" if len(path) == 1 else "".join(path)
            yield f'<path class="line s{place % _STYLES}" d="{only}"/>'

    def _tips(self) -> Iterator[str]:
        """What the pointer finds: a band for each moment, with all values there."""
        at: dict[float, list[str]] = {}
        for series in self._chart.series:
            for x, y in series.points:
                value = "-" if y is None else show_number(y)
                at.setdefault(x, []).append(f"{series.name} {value}")
        begin = 0.0
        for x in sorted(at):
            text = escape(f"{x:.1f} s: " + ", ".join(at[x]))
            left, width = self._x(begin), self._x(x) - self._x(begin)
            yield (
                f'<rect class="tip" x="{left:.1f}" y="{_TOP}" width="{width:.1f}"'
                f' height="{HEIGHT - _TOP - _BOTTOM}"><title>{text}</title></rect>'
            )
            begin = x


def even_steps(high: float, wanted: int) -> list[float]:
    """Round numbers from 0 to at most `high`, about as many as wanted."""
    rough = high / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    return [number * step for number in range(int(high / step * 1.001) + 1)]


def bars(values: Sequence[float | None]) -> str:
    """One bar for each value, beside a row of a table; the longest is as wide as the cell."""
    longest = max((value for value in values if value is not None), default=0.0)
    drawn = "".join(
        f'<rect class="bar s{place % _STYLES}" x="0" y="{place * (_BAR_HEIGHT + 2)}"'
        f' width="{_BAR_WIDTH * (value or 0.0) / longest if longest else 0.0:.1f}" height="{_BAR_HEIGHT}"/>'
        for place, value in enumerate(values)
    )
    height = len(values) * (_BAR_HEIGHT + 2)
    return f'<svg class="bars" aria-hidden="true" viewBox="0 0 {_BAR_WIDTH} {height}">{drawn}</svg>'
