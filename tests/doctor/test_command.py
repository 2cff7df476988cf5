"""`moorline doctor` beside a node that runs, and with mistakes."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from broker.doctor.command import doctor
from tests.node.harness import NodeProcess, execute

app = typer.Typer()
app.command()(doctor)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("MOORLINE_")]:
        monkeypatch.delenv(name)
    yield
    logging.disable(logging.NOTSET)


def run(*flags: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, list(flags))


def test_beside_a_node_that_runs_with_its_private_redis(tmp_path: Path) -> None:
    """A process whose command line says what it is."""
    node = NodeProcess(tmp_path, starter=execute)
    try:
        node.start()
        flags = ["--listen", f"127.0.0.1:{node.port}", "--admin", f"127.0.0.1:{node.admin_port}"]
        flags += ["--data-dir", str(node.data_dir)]
        result = run(*flags, "--json")
        assert result.exit_code == 0, result.output
        findings = json.loads(result.stdout)["findings"]
        assert run(*flags).stdout.splitlines()[0].split() == ["ok", "settings", "no", "mistakes"]
        assert node.wait_ready(200)
    finally:
        node.close()
    assert {each["level"] for each in findings} <= {"ok", "warn"}
    ours = [each["found"] for each in findings if each["about"] == "address"]
    assert [text.split(": ")[1] for text in ours] == [
        f"in use by moorline itself (process {node.pid})" for _ in range(2)
    ]
    assert any("that of this release" in each["found"] for each in findings)


def test_mistakes_in_the_settings_are_all_told(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[session]\nqueue_limit = -1\n[redis]\nprefix = '{'\n")
    result = run("--config", str(config))
    assert result.exit_code == 2
    assert sum(line.startswith("fail  settings") for line in result.stdout.splitlines()) == 2


def test_what_is_wrong_is_exit_code_1(tmp_path: Path) -> None:
    result = run("--redis", "redis://:hunter2@127.0.0.1:1", "--data-dir", str(tmp_path), "--admin", "off")
    assert result.exit_code == 1
    assert "fail  redis" in result.stdout
    assert "  -> " in result.stdout
    assert "hunter2" not in result.stdout
