"""Pages of results: well-formed, complete, escaped, and fetching nothing."""

import re
import xml.etree.ElementTree as ET

import pytest

from loadtest.diff import compare_results, render_html
from loadtest.page import charts_of, result_page
from tests.loadtest.sample_results import HOSTILE, result, sample

SAMPLES = [sample(1), sample(2), sample(3)]


def parsed(page: str) -> ET.Element:
    """The page as a tree; it has to be well-formed."""
    return ET.fromstring(page)


def texts(tree: ET.Element, tag: str, kind: str) -> list[str]:
    return ["".join(each.itertext()) for each in tree.iter(tag) if kind in each.get("class", "").split()]


def assert_fetches_nothing(page: str) -> None:
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"<(script|link|img|iframe|object|base)\b|@import|url\(|\b(src|href)=", page)


@pytest.mark.parametrize(
    "page",
    [
        result_page(result(SAMPLES, faults=[HOSTILE])),
        result_page(result()),
        result_page(result([sample(1, redis=False)])),
        render_html(compare_results(result(SAMPLES), result(SAMPLES[:1], qos=2))),
    ],
    ids=["result", "no-timeline", "one-sample", "diff"],
)
def test_pages_are_well_formed_and_fetch_nothing(page: str) -> None:
    tree = parsed(page)
    assert_fetches_nothing(re.sub(r"&lt;script.*?/script&gt;", "", page))
    assert not list(tree.iter("script"))
    assert tree.find("head/meta[@name='viewport']") is not None
    policy = tree.find("head/meta[@http-equiv='Content-Security-Policy']")
    assert policy is not None
    assert policy.get("content", "").startswith("default-src 'none'")
    style = "".join(tree.find("head/style").itertext())  # type: ignore[union-attr]  # it fails if there is none
    assert "prefers-color-scheme:dark" in style
    assert "@media print" in style


def test_every_series_is_there() -> None:
    tree = parsed(result_page(result(SAMPLES)))
    assert texts(tree, "span", "key") == [
        *("sent", "delivered"),
        *("p50", "p90", "p99", "p99.9", "max"),
        *("broker", "Redis", "generator"),
        *("broker", "Redis"),
        *("missing", "duplicates", "order errors", HOSTILE),
    ]
    lines = [path for path in tree.iter("path") if path.get("class", "").startswith("line") and path.get("d")]
    drawn = [path for path in lines if path.get("d") != "M0 4H24"]
    assert len(drawn) == 16
    assert all(path.get("d", "").count("L") == 2 for path in drawn)


def test_the_numbers_behind_the_lines_are_there() -> None:
    tree = parsed(result_page(result(SAMPLES)))
    (details,) = tree.iter("details")
    rows = [[cell.text for cell in row.iter("td")] for row in details.iter("tr")][1:]
    assert [row[:3] for row in rows] == [
        ["1.0", "1,001", "2,001"],
        ["2.0", "1,002", "2,002"],
        ["3.0", "1,003", "2,003"],
    ]
    assert rows[2][8] == "0.9"


def test_what_was_not_measured_is_not_drawn() -> None:
    charts = {chart.title: chart for chart in charts_of(result([sample(1, redis=False)]))}
    assert [series.name for series in charts["Processors"].series] == ["broker", "generator"]
    assert charts_of(result()) == []


def test_the_verdict_is_at_the_top() -> None:
    assert texts(parsed(result_page(result())), "p", "verdict") == ["The broker kept its promises."]
    broken = parsed(result_page(result(lost=3, faults=[HOSTILE])))
    assert texts(broken, "div", "bad") == ["Failed3 acknowledged messages were lost" + HOSTILE]


def test_command_and_machine_are_told() -> None:
    tree = parsed(result_page(result()))
    assert [code.text for code in tree.iter("code")] == [HOSTILE, "this one"]
