"""The command line: flags, messages, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import typer
from typer.testing import CliRunner

from broker import __version__, cli
from broker.errors import StartError
from broker.flags import Sources
from broker.observability import logs
from broker.settings import Address, Settings, load


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOORLINE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Settings that `serve` would have run a node with."""
    seen: list[Settings] = []

    def remember(settings: Settings, _: Sources) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(cli, "run_node", remember)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    return seen


def test_every_flag_reaches_its_setting(served: list[Settings], tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[session]\nqueue_limit = 5\n")
    flags = ["--config", str(config), "--listen", "0.0.0.0:1", "--listen", "[::]:2", "--redis", "redis://h"]
    flags += ["--prefix", "x:", "--node-name", "n", "--admin", "off", "--data-dir", str(tmp_path)]
    flags += ["--workers", "3"]
    result = CliRunner().invoke(cli.app, ["serve", *flags, "--allow-anonymous", "--log-level", "error"])
    assert result.exit_code == 0, result.output
    (settings,) = served
    assert settings.node.listen == (Address("0.0.0.0", 1), Address("::", 2))
    assert (settings.redis.url, settings.redis.prefix) == ("redis://h", "x:")
    assert (settings.node.name, settings.node.admin, settings.node.data_dir) == ("n", (), tmp_path)
    assert settings.node.workers == 3
    assert (settings.node.allow_anonymous, settings.node.log_level) == (True, "error")
    assert settings.session.queue_limit == 5


def test_without_flags_the_defaults_stand(served: list[Settings]) -> None:
    assert CliRunner().invoke(cli.app, ["serve"]).exit_code == 0
    assert served[0].model_dump() == load().model_dump()


def test_the_file_can_be_named_by_a_variable(
    served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[session]\nqueue_limit = 6\n")
    monkeypatch.setenv("MOORLINE_CONFIG", str(config))
    CliRunner().invoke(cli.app, ["serve"])
    assert served[0].session.queue_limit == 6


def test_mistakes_are_one_message_and_exit_code_2(served: list[Settings]) -> None:
    result = CliRunner().invoke(cli.app, ["serve", "--listen", "0.0.0.0:1", "--prefix", "{}", "--admin", "x"])
    assert result.exit_code == 2
    assert not served
    assert result.stdout == ""
    assert result.stderr.startswith("moorline: 3 mistakes in the settings:\n")
    assert "--allow-anonymous" in result.stderr


def test_an_unknown_flag_is_exit_code_2(served: list[Settings]) -> None:
    result = CliRunner().invoke(cli.app, ["serve", "--wrokers", "2"])
    assert result.exit_code == 2
    assert not served


def test_the_exit_code_of_the_node_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "run_node", lambda *_: 3)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    assert CliRunner().invoke(cli.app, ["serve"]).exit_code == 3


def test_a_clean_end_is_exit_code_0() -> None:
    async def run(_: Settings) -> int:
        await anyio.lowlevel.checkpoint()
        return 0

    assert cli.exit_code_of(run, load()) == 0


def test_a_start_error_in_a_task_group_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise StartError("port 1883 is taken")

    async def run(_: Settings) -> int:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
        return 0

    assert cli.exit_code_of(run, load()) == 2
    assert capsys.readouterr().err == "moorline: port 1883 is taken\n"


def test_a_refusal_by_several_at_once_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def run(_: Settings) -> int:
        raise ExceptionGroup(
            "workers", [StartError("the same"), StartError("another"), StartError("the same")]
        )

    assert cli.exit_code_of(run, load()) == 2
    assert capsys.readouterr().err == "moorline: the same\nmoorline: another\n"


def test_a_crash_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def run(_: Settings) -> int:
        raise ZeroDivisionError("why")

    assert cli.exit_code_of(run, load()) == 1
    (record,) = caplog.records
    assert record.levelname == "CRITICAL"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def _moorline(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )


def test_the_version_tells_the_mode() -> None:
    assert _moorline("--version").stdout in {
        f"moorline {__version__} ({mode})\n" for mode in ("pure", "compiled")
    }


def test_bad_settings_end_the_real_program_with_2() -> None:
    done = _moorline("serve", "--listen", "nonsense")
    assert done.returncode == 2
    assert done.stderr.startswith("moorline: node.listen (flag --listen): ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "groups"), [("serve", 0), ("worker", 0), ("ctl", 1), ("loadtest", 1), ("--help", 3)]
)
def test_only_what_was_asked_for_is_loaded(
    monkeypatch: pytest.MonkeyPatch, command: str, groups: int
) -> None:
    app = typer.Typer()
    app.command("serve")(lambda: None)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["moorline", command])
    with pytest.raises(SystemExit):
        cli.main()
    assert len(app.registered_groups) == groups


def test_the_load_generator_is_part_of_the_command() -> None:
    done = _moorline("loadtest", "--help")
    assert done.returncode == 0
    assert "Usage: moorline loadtest" in done.stdout


def test_a_worker_is_not_for_people() -> None:
    assert "worker " not in _moorline("--help").stdout
    done = _moorline("worker", "n-1")
    assert done.returncode == 2
    assert done.stderr.startswith("moorline: n-1 is for `moorline serve --workers` to start: ")
