"""Scenarios as text: which values there are, and that every mistake is told, with its place."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from pydantic import BaseModel

from loadtest.plan import Plan, Shape, Sleep, Storm, Viewing
from loadtest.scenario import (
    MODELS,
    ScenarioError,
    Source,
    TargetTable,
    builtin_names,
    check_draft,
    description_of,
    find_source,
    make_draft,
    make_plan,
)

ROOT = Path(__file__).parents[2]


def plan_of(text: str, *settings: str) -> Plan:
    """What a file of this text has done."""
    draft = make_draft(Source("mine", "mine.toml", text), settings)
    return make_plan(check_draft(draft), draft, owned=False, run_id="abc123")


def mistakes(text: str, *settings: str) -> list[str]:
    """What is said of it, line by line."""
    with pytest.raises(ScenarioError) as caught:
        plan_of(text, *settings)
    first, *lines = str(caught.value).splitlines()
    assert first == "mine can't be run:"
    return [line.removeprefix("  ") for line in lines]


@pytest.mark.parametrize("name", builtin_names())
def test_what_comes_with_the_program_can_be_run_and_says_what_it_is_for(name: str) -> None:
    source = find_source(name)
    plan = plan_of(source.text)
    assert plan.shape == name
    assert len(description_of(source)) > 40
    assert plan.duration_seconds + plan.warm_up_seconds < 60


def test_there_is_a_scenario_for_each_shape_and_it_is_in_the_wheel() -> None:
    assert builtin_names() == sorted(Shape)
    assert set(MODELS) == set(Shape)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["loadtest"]
    assert all(any(fnmatch(f"scenarios/{name}.toml", each) for each in patterns) for name in builtin_names())


def test_every_key_is_in_the_documentation() -> None:
    page = (ROOT / "docs/loadtest.md").read_text()
    models: list[type[BaseModel]] = [TargetTable, *MODELS.values()]
    keys = {key for model in models for key in model.model_fields}
    assert len(keys) > 30
    assert [key for key in sorted(keys) if f"`{key}`" not in page and f"{key} = " not in page] == ["target"]
    assert "[target]" in page


def test_the_example_of_the_documentation_has_no_mistake() -> None:
    page = (ROOT / "docs/loadtest.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    scenario = check_draft(make_draft(Source("mine", "mine.toml", example), []))
    assert scenario.rate == 1000
    assert len(scenario.target.brokers) == 2


def test_values_arrive_in_the_plan() -> None:
    plan = plan_of(
        """
        shape = "telemetry"
        devices = 200
        back_ends = 3
        rate_per_device = 0.5
        qos = 2
        persistent = true
        processes = 2
        mqtt_version = 5
        [target]
        brokers = ["127.0.0.1:1883", "ws://127.0.0.1:8083/mqtt"]
        subscribe_at = ["127.0.0.1:1884"]
        """
    )
    assert (plan.publishers, plan.subscribers, plan.rate_per_second) == (200, 3, 100.0)
    assert (plan.qos, plan.persistent, plan.processes, plan.account.version) == (2, True, 2, 5)
    assert [str(plan.publisher_target(n)) for n in (0, 1, 2)] == [
        "127.0.0.1:1883",
        "ws://127.0.0.1:8083/mqtt",
        "127.0.0.1:1883",
    ]
    assert str(plan.subscriber_target(1)) == "127.0.0.1:1884"


def test_what_the_subscribers_do_besides() -> None:
    commands = plan_of('shape = "commands"\nasleep_percent = 75\ncycle_seconds = 8')
    assert commands.habit == Sleep(75, 8)
    assert commands.persistent
    assert plan_of('shape = "reconnect-storm"\nrate_per_second = 1').habit == Storm(5, 0, 200)
    dashboard = plan_of('shape = "retained-dashboard"\ntopics = 7')
    assert (dashboard.habit, dashboard.source_count) == (Viewing(7, 2), 7)


def test_every_mistake_is_told_with_its_place() -> None:
    told = mistakes(
        """# mine
shape = "telemetry"
devises = 3
qos = 3
duration_seconds = -1
rate_per_second = 5
rate_per_device = 1.5
[target]
ca_flie = "x"
brokers = "here"
""",
        "devices=many",
        "qos2",
    )
    assert [line.partition(" ")[0] for line in sorted(told)] == [
        "--set",
        "--set",
        *(f"mine.toml:{number}:" for number in (10, 3, 4, 5, 7, 9)),
    ]
    text = "\n".join(told)
    assert "--set qos2: write key=value" in text
    assert "--set devices: devices: should be a valid integer, and isn't 'many'" in text
    assert "mine.toml:3: devises: no such key, did you mean devices?" in text
    assert "mine.toml:9: target.ca_flie: no such key, did you mean ca_file?" in text
    assert "mine.toml:7: rate_per_device: there is rate_per_second already" in text
    assert "mine.toml:5: duration_seconds: should be greater than 0, and isn't -1" in text


def test_what_does_not_fit_together_is_told_at_once_too() -> None:
    told = mistakes(
        'shape = "commands"\nqos = 0\npublishers = 200\n[target]\nbrokers = ["192.0.2.1", "a:b"]',
        'target.subscribe_at=["ftp://127.0.0.1"]',
    )
    assert len(told) == 5
    assert told[0].startswith("mine.toml:5: 192.0.2.1 is not on this machine")
    assert told[1] == "mine.toml:5: 'a:b' is not HOST:PORT"
    assert told[2].startswith("--set target.subscribe_at: 'ftp://127.0.0.1'")
    assert told[3:] == [
        "mine.toml: 200 publishers have only 100 topics",
        "mine.toml: commands for who is asleep have QoS 1 or 2",
    ]


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_load_is_finite(value: str) -> None:
    assert "should be a finite number" in mistakes(f'shape = "pairs"\nduration_seconds = {value}')[0]


def test_a_shape_that_nobody_knows() -> None:
    (told,) = mistakes('# mine\nshape = "star"')
    assert told.startswith("mine.toml:2: shape: one of pairs, fan-in,")


def test_what_is_not_toml() -> None:
    with pytest.raises(ScenarioError, match=r"mine.toml can't be run:\n  .*line 1, column 9"):
        make_draft(Source("mine", "mine.toml", "shape = pairs"), [])


def test_a_pace_on_the_command_line_takes_the_place_of_the_files() -> None:
    file = 'shape = "telemetry"\nrate_per_device = 2'
    assert plan_of(file, "window=7").rate_per_second is None
    assert plan_of(file, "window=7").window == 7
    assert plan_of(file, "rate_per_second=30").rate_per_second == 30
    assert plan_of(file, "devices=3", "username=anna").account.username == "anna"


def test_a_value_that_is_no_table_has_no_keys() -> None:
    told = mistakes('shape = "pairs"\ntarget = 3', "target.brokers=x")
    assert "--set target.brokers: target is no table" in told


def test_files_and_names(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('shape = "pairs"')
    assert find_source(str(file)) == Source("own", str(file), 'shape = "pairs"')
    with pytest.raises(ScenarioError, match=r"no such scenario; there are commands, .* \./star\.toml"):
        find_source("star")
    with pytest.raises(ScenarioError, match="No such file"):
        find_source(str(tmp_path / "other.toml"))
    file.write_bytes(b"\xff")
    with pytest.raises(ScenarioError, match="UTF-8"):
        find_source(str(file))
