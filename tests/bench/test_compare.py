"""The comparison's table and goals; the loads themselves are tested in tests/loadtest."""

from pathlib import Path

import orjson
import pytest

from tests.bench.compare import Comparison, Line, main, parse_options, render_markdown
from tests.bench.scenario import SCENARIOS, Figure, Json
from tests.tools import require_tool

EFFICIENCY = SCENARIOS[0].figures[0]


def line(ours: list[float], theirs: list[float], figure: Figure = EFFICIENCY) -> Line:
    return Line(SCENARIOS[0], figure, {"moorline": ours, "mosquitto": theirs})


def test_medians_ratio_and_goal() -> None:
    met = line([1.0, 300.0, 310.0], [100.0, 90.0, 99999.0])
    assert (met.median("moorline"), met.median("mosquitto"), met.ratio) == (300.0, 100.0, "3.00x")
    assert met.verdict == "≥ 3x met"
    assert line([299.0], [100.0]).verdict == "≥ 3x MISSED"


def test_a_broker_without_figures_has_no_ratio() -> None:
    missing = line([], [100.0])
    assert (missing.median("moorline"), missing.ratio, missing.verdict) == (None, "-", "≥ 3x")


def test_figures_are_found_in_reports() -> None:
    report: Json = {"broker": {"per_cpu_second": 1234.5}, "latency_ms": None}
    assert EFFICIENCY.of(report) == 1234.5
    assert Figure("p50", ("latency_ms", "p50")).of(report) is None
    assert Figure("rss", ("x",), "KiB", 1 / 1024, 2).show(
        Figure("rss", ("x",), scale=1 / 1024).of({"x": 2048})
    )


def test_every_scenario_has_its_own_key_and_figures() -> None:
    assert len({scenario.key for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(scenario.figures for scenario in SCENARIOS)


def test_the_page_names_machine_command_and_failures() -> None:
    options = parse_options(["--only", "qos0"])
    comparison = Comparison(options, lambda _: None)
    comparison.lines.append(line([400.0], [100.0]))
    comparison.failures.append("qos1, moorline: it fell over")
    page = render_markdown(comparison, options, "make bench", ("moorline 8", "mosquitto 9"))
    assert "| load | figure | Moorline | mosquitto 9 | ratio | goal |" in page
    assert "| 400 | 100 | 4.00x | ≥ 3x met |" in page
    assert "- Command: `make bench`\n- Failed: qos1, moorline: it fell over\n" in page
    assert "Machine: " in page


def test_only_a_whole_run_replaces_the_documentation() -> None:
    assert parse_options([]).write_to is not None
    assert parse_options(["--quick"]).write_to is None
    assert parse_options(["--only", "idle"]).write_to is None
    assert parse_options(["--quick", "--output", "x"]).write_to == Path("x")


def test_a_run_with_mosquitto(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_tool("mosquitto")
    arguments = ["--broker", "mosquitto", "--only", "qos1", "--runs", "2", "--duration", "0.2"]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    assert "| mosquitto 2" in capsys.readouterr().out
    facts = orjson.loads((tmp_path / "benchmarks.json").read_bytes())
    assert [run["run"] for run in facts["runs"]] == [0, 1]
    assert "qos1" not in (tmp_path / "benchmarks.md").read_text().partition("| load")[2]
