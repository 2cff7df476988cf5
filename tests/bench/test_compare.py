"""The page of `make bench` and its goals; comparing itself is tested in tests/loadtest."""

from pathlib import Path

import orjson
import pytest

from loadtest.compare import Comparison, Failure, Line
from loadtest.matrix import EFFICIENCY, LOST, P50, SCENARIOS, Figure, Scenario
from tests.bench.compare import main, parse_options, render_markdown
from tests.bench.goals import GOALS, verdict
from tests.tools import require_tool


def scenario(key: str) -> Scenario:
    return next(each for each in SCENARIOS if each.key == key)


def line(
    key: str, figure: Figure, ours: list[float], theirs: list[float], aedes: float | None = None
) -> Line:
    numbers = {"moorline": ours, "mosquitto": theirs, "aedes-redis": [aedes] if aedes is not None else []}
    return Line(scenario(key), figure, numbers)


def test_goals_beside_mosquitto() -> None:
    assert verdict(line("qos0", EFFICIENCY, [1.0, 600.0, 610.0], [0.1, 90.0, 99999.0])) == "≥ 6x met"
    assert verdict(line("qos0", EFFICIENCY, [599.0], [100.0])) == "≥ 6x MISSED"
    assert verdict(line("latency-direct", P50, [1.4], [1.0])) == "≤ 1.3x MISSED"


def test_a_goal_of_its_own_needs_no_mosquitto() -> None:
    assert verdict(line("latency-persistent", P50, [0.5], [])) == "≤ 0.6 ms met"
    assert verdict(line("offline", LOST, [0.0, 1.0], [])) == "≤ 0 MISSED"


def test_a_goal_beside_aedes_is_told_where_aedes_was_asked_for() -> None:
    assert verdict(line("qos1-persistent", EFFICIENCY, [60.0], [50.0])) == "≥ 1x met"
    both = verdict(line("qos1-persistent", EFFICIENCY, [60.0], [50.0], 7.0))
    assert both == "≥ 1x met, ≥ 10x of aedes-redis MISSED"


def test_a_goal_without_numbers_stands_alone() -> None:
    assert verdict(line("qos0", EFFICIENCY, [], [100.0])) == "≥ 6x"


def test_every_goal_is_of_a_figure_that_is_measured() -> None:
    measured = {(each.key, figure) for each in SCENARIOS for figure in each.figures}
    assert set(GOALS) <= measured


def test_the_page_names_machine_command_and_failures() -> None:
    comparison = Comparison(parse_options(["--only", "qos0"]).options, lambda _: None)
    comparison.lines.append(line("qos0", EFFICIENCY, [600.0], [100.0]))
    comparison.failures.append(Failure("qos1", "moorline", "it fell over"))
    page = render_markdown(comparison, "make bench", {"moorline": "moorline 8", "mosquitto": "mosquitto 9"})
    assert "| load | figure | Moorline | mosquitto 9 | ratio | goal |" in page
    assert "| 600 | 100 | 6.00x | ≥ 6x met |" in page
    assert "- Command: `make bench`\n- Failed: qos1, moorline: it fell over\n" in page
    assert "Machine: " in page


def test_only_a_whole_run_replaces_the_documentation() -> None:
    assert parse_options([]).write_to is not None
    every = ["--broker", "moorline", "--broker", "mosquitto", "--broker", "aedes-redis"]
    assert parse_options(every).write_to is not None
    assert parse_options(["--quick"]).write_to is None
    assert parse_options(["--only", "idle"]).write_to is None
    assert parse_options(["--broker", "moorline"]).write_to is None
    assert parse_options(["--quick", "--output", "x"]).write_to == Path("x")


@pytest.mark.timeout(60)  # two runs
def test_a_run_with_mosquitto(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_tool("mosquitto")
    arguments = ["--broker", "mosquitto", "--only", "qos1", "--runs", "2", "--duration", "0.2"]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    assert "| mosquitto 2" in capsys.readouterr().out
    facts = orjson.loads((tmp_path / "benchmarks.json").read_bytes())
    assert [run["run"] for run in facts["runs"]] == [0, 1]
    assert "| 50 pairs, QoS 1" in (tmp_path / "benchmarks.md").read_text()
