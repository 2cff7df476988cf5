"""`show`, `diff` and `compare`, with results of real runs."""

import re
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from loadtest import peers
from loadtest.cli import app
from loadtest.compare import Comparison, Failure, Line, Options, notes_on, render_html, render_table
from loadtest.machine import describe_command
from loadtest.matrix import EFFICIENCY, LOST, SCENARIOS
from loadtest.peers import BrokerFailed, RunningBroker, find_node_modules
from tests.loadtest.sample_results import HOSTILE, result
from tests.loadtest.test_cli import run
from tests.loadtest.test_page import assert_fetches_nothing, parsed, texts
from tests.tools import missing, require_tool


def require_aedes() -> None:
    """Or the end of this test."""
    require_tool("node")
    try:
        find_node_modules()
    except BrokerFailed as error:
        missing(str(error))


@pytest.mark.timeout(60)  # two runs
def test_a_kept_result_is_shown_and_set_beside_another(mosquitto: RunningBroker, tmp_path: Path) -> None:
    limits = ("--duration", "0.5", "--warm-up", "0.1", "--sample", "0.2", "--pid", str(mosquitto.pid))
    for name, qos in (("a", "1"), ("b", "0")):
        kept = ("--json", str(tmp_path / f"{name}.json"), "--html", str(tmp_path / f"{name}.html"))
        done = run("pairs", "-n", "2", "--qos", qos, "--broker", mosquitto.address, *limits, *kept)
        assert done.returncode == 0, done.stderr

    shown = CliRunner().invoke(
        app, ["show", str(tmp_path / "a.json"), "--html", str(tmp_path / "again.html")]
    )
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.startswith("pairs 2 -> 2, QoS 1")
    page = (tmp_path / "a.html").read_text()
    assert (tmp_path / "again.html").read_text() == page
    assert {"sent", "delivered", "p99.9", "broker", "missing"} <= set(texts(parsed(page), "span", "key"))
    assert "moorline loadtest pairs -n 2 --qos 1" in page
    assert_fetches_nothing(page)

    files = [str(tmp_path / f"{name}.json") for name in ("a", "b")]
    outputs = ["--json", str(tmp_path / "d.json"), "--html", str(tmp_path / "d.html")]
    compared = CliRunner().invoke(app, ["diff", *files, *outputs])
    assert compared.exit_code == 0, compared.stderr
    assert "DIFFERENT LOADS: qos: 1 and 0" in compared.stdout
    assert orjson.loads((tmp_path / "d.json").read_bytes())["same_load"] is False
    keys = texts(parsed((tmp_path / "d.html").read_text()), "span", "key")
    assert keys[:8] == ["A", "B", "A p50", "B p50", "A p99", "B p99", "A broker", "B broker"]


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(result().json())
    done = CliRunner().invoke(app, ["show", str(tmp_path / "a.json"), "--html", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"loadtest: [Errno 21] Is a directory: '{tmp_path}'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["/usr/bin/moorline", "loadtest", "pairs", "--password", "hunter2", "-n", "2"],
        ["loadtest/__main__.py", "pairs", "--password=hunter2", "-n", "2"],
    ],
)
def test_a_password_is_not_kept(arguments: list[str]) -> None:
    told = describe_command(arguments)
    assert re.fullmatch(r"moorline loadtest pairs '?--password[ =].*\*\*\*' -n 2", told)


@pytest.mark.timeout(120)  # three brokers and their runs
def test_brokers_are_compared(tmp_path: Path) -> None:
    require_tool("mosquitto")
    require_aedes()
    outputs = ("--json", str(tmp_path / "c.json"), "--html", str(tmp_path / "c.html"))
    arguments = ["compare", "mosquitto", "aedes-redis", "--scenario", "qos1-persistent", *outputs]
    done = CliRunner().invoke(app, [*arguments, "--runs", "1", "--duration", "0.5"])
    assert done.exit_code == 0, done.stderr
    table = done.stdout.splitlines()
    assert table[0].split() == ["load", "figure", "moorline", "mosquitto", "ratio", "aedes-redis", "ratio"]
    answer = orjson.loads((tmp_path / "c.json").read_bytes())
    assert answer["brokers"] == ["moorline", "mosquitto", "aedes-redis"]
    efficiency, _, lost = answer["figures"]
    assert efficiency["figure"] == "deliveries per CPU-second"
    assert all(value > 0 for value in efficiency["values"].values())
    assert efficiency["ratios"]["aedes-redis"] > 1
    assert lost["values"]["moorline"] == 0
    # Redis is counted, as a child and as a process of its own.
    parts = {each["broker"]: each["report"]["broker"]["redis"] for each in answer["runs"]}
    assert parts["mosquitto"] is None
    assert parts["moorline"]["rss_bytes"] > 2**20
    assert parts["aedes-redis"]["rss_bytes"] > 2**20
    assert answer["facts"]["aedes-redis"].startswith("aedes 1")
    page = (tmp_path / "c.html").read_text()
    assert texts(parsed(page), "span", "key") == ["moorline", "mosquitto", "aedes-redis"]
    assert_fetches_nothing(page)


def test_what_is_missing_is_said_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "find_mosquitto", lambda: None)
    done = CliRunner().invoke(app, ["compare", "mosquitto"])
    assert (done.exit_code, done.stderr) == (
        2,
        "loadtest: mosquitto is not installed: apt-get install mosquitto\n",
    )
    (tmp_path / "package.json").write_bytes((peers.AEDES / "package.json").read_bytes())
    monkeypatch.setattr(peers, "AEDES", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NODE_PATH", raising=False)
    with pytest.raises(BrokerFailed, match=f"npm ci --prefix {tmp_path}"):
        find_node_modules()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(BrokerFailed, match=r"npm install 'aedes@.*' 'aedes-persistence-redis@.*'"):
        find_node_modules()


OPTIONS = Options(SCENARIOS[:1], ("moorline", "mosquitto"), 3, 1.0)


def comparison(*lines: Line) -> Comparison:
    return Comparison(OPTIONS, lambda _: None, lines=list(lines))


def line(ours: list[float], theirs: list[float]) -> Line:
    return Line(SCENARIOS[0], EFFICIENCY, {"moorline": ours, "mosquitto": theirs})


def test_medians_and_ratios() -> None:
    found = line([1.0, 300.0, 310.0], [100.0, 90.0, 99999.0])
    assert (found.value("moorline"), found.value("mosquitto")) == (300.0, 100.0)
    assert line([], [100.0]).shown_ratio("mosquitto") == "-"
    assert line([1.0], [0.0]).shown_ratio("mosquitto") == "-"
    assert line([300.0, 310.0], [100.0]).shown_ratio("mosquitto") == "3.05x", "a run has failed"


def test_a_ratio_is_that_of_runs_that_followed_one_another() -> None:
    """The machine became three times as slow in the middle."""
    found = line([300.0, 310.0, 90.0, 100.0, 100.0], [100.0, 100.0, 30.0, 33.0, 30.0])
    assert (found.value("moorline"), found.value("mosquitto")) == (100.0, 33.0)
    assert found.shown_ratio("mosquitto") == "3.03x"
    assert line([300.0, 280.0, 100.0], [100.0, 32.0, 30.0]).shown_ratio("mosquitto") == "3.33x"
    sums = Line(SCENARIOS[0], LOST, {"moorline": [1.0, 3.0], "mosquitto": [1.0, 1.0]})
    assert sums.ratio("mosquitto") == 2.0


def test_losses_are_sums() -> None:
    assert Line(SCENARIOS[0], LOST, {"moorline": [1.0, 0.0, 2.0]}).value("moorline") == 3.0


def test_the_page_has_ratios_and_failures() -> None:
    found = comparison(line([300.0], [100.0]))
    found.failures.append(Failure("qos1", "mosquitto", HOSTILE))
    tree = parsed(render_html(found, {"command": HOSTILE}, ["a note"]))
    assert texts(tree, "div", "bad") == [f"Failedqos1, mosquitto: {HOSTILE}"]
    assert texts(tree, "td", "number") == ["300", "100", "3.00x"]
    assert "a note" in texts(tree, "p", "faint")


def test_the_table_tells_of_a_moorline_that_is_not_compiled() -> None:
    notes = notes_on({"moorline": "moorline 1 (pure)"})
    assert "pure Python" in render_table(comparison(line([1.0], [1.0])), notes)
    assert notes_on({"moorline": "moorline 1 (compiled)"}) == []


def test_every_scenario_has_its_own_key_and_figures() -> None:
    assert len({scenario.key for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(scenario.figures for scenario in SCENARIOS)


def test_a_load_that_cannot_be_run_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_mosquitto", lambda: None)
    found = Comparison(Options(SCENARIOS[:1], ("mosquitto",), 1, 0.1), lambda _: None)
    found.measure()
    assert [failure.broker for failure in found.failures] == ["mosquitto"]
    assert found.lines[0].value("mosquitto") is None
