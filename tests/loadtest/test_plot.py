"""Scales and lines."""

import re
import xml.etree.ElementTree as ET

import pytest

from loadtest.plot import HEIGHT, WIDTH, Chart, Point, Series, bars, even_steps, line_chart, show_number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.0789, "0.0789"),
        (4.5678, "4.57"),
        (999.6, "1000"),
        (8000.0, "8000"),
        (45_678.0, "45.7k"),
        (1.234e6, "1.23M"),
        (2e9, "2G"),
    ],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert show_number(value) == shown


@pytest.mark.parametrize("high", [0.07, 1.0, 4.4, 9.99, 60.0, 1234.0, 1e7])
@pytest.mark.parametrize("wanted", [3, 5, 6])
def test_steps_are_round_and_about_as_many_as_wanted(high: float, wanted: int) -> None:
    steps = even_steps(high, wanted)
    assert steps[0] == 0
    assert steps[-1] <= high * 1.001 < steps[-1] + steps[1] * 1.01
    assert wanted // 2 <= len(steps) - 1 <= wanted
    assert float(f"{steps[1]:.1e}") == pytest.approx(steps[1])


def points_of(points: list[Point], *, logarithmic: bool = False) -> list[tuple[float, float]]:
    svg = line_chart(Chart("t", "u", [Series("s", points)], logarithmic))
    (line,) = re.findall(r'<path class="line s0" d="([^"]*)"/><rect', svg)
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", line)]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_lines_stay_in_the_drawing_and_go_up_with_the_values(logarithmic: bool) -> None:
    drawn = points_of([(1, 0.0), (2, 0.5), (3, 40.0), (4, 70_000.0)], logarithmic=logarithmic)
    assert all(0 < x <= WIDTH and 0 < y < HEIGHT for x, y in drawn)
    heights = [y for _, y in drawn]
    assert heights[0] >= heights[1] > heights[2] > heights[3]


def test_powers_of_ten_are_evenly_apart_on_a_logarithmic_scale() -> None:
    heights = [y for _, y in points_of([(1, 1.0), (2, 10.0), (3, 100.0)], logarithmic=True)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)


def test_a_gap_interrupts_the_line() -> None:
    svg = line_chart(Chart("t", "u", [Series("s", [(1, 1.0), (2, 2.0), (3, None), (4, 1.0), (5, 2.0)])]))
    assert re.findall(r'd="([^"]*)"/><rect', svg)[0].count("M") == 2
    assert "3.0 s: s -" in svg


@pytest.mark.parametrize("points", [[], [(1.0, 0.0)], [(0.0, 5.0)], [(1.0, None)]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_little_to_draw_is_drawn(points: list[Point], logarithmic: bool) -> None:
    ET.fromstring(line_chart(Chart("t", "u", [Series("s", points)], logarithmic, 1.0)))


def test_all_text_is_escaped() -> None:
    tree = ET.fromstring(line_chart(Chart("<b>", "&", [Series('"<i>', [(1, 1.0)])])))
    assert not list(tree.iter("b")) + list(tree.iter("i"))
    assert 'label="&lt;b&gt; &amp;"' in line_chart(Chart("<b>", "&", []))


def test_the_longest_bar_fills_its_cell() -> None:
    widths = [float(bar.get("width", "")) for bar in ET.fromstring(bars([50.0, None, 100.0])).iter("rect")]
    assert widths == [60, 0, 120]
    assert [bar.get("width") for bar in ET.fromstring(bars([0.0, None])).iter("rect")] == ["0.0", "0.0"]
