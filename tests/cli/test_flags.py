"""What is made of the flags, beside running a node."""

import os
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker import cli
from broker.settings import dump, load


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOORLINE_")]:
        monkeypatch.delenv(name)


def test_the_settings_in_force_are_printed_as_a_file_that_means_the_same(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[session]\nqueue_limit = 5\n[listeners.web]\naddress = 'ws://127.0.0.1:8083'\n")
    flags = ["--config", str(config), "--node-name", "n", "--redis", "redis://:hunter2@r.example/1"]
    result = CliRunner().invoke(cli.app, ["serve", *flags, "--print-config"])
    assert result.exit_code == 0, result.output
    assert "queue_limit = 5  # default: 10000\n" in result.stdout
    assert "hunter2" not in result.stdout
    printed = tmp_path / "printed.toml"
    printed.write_text(result.stdout)
    tomllib.loads(result.stdout)
    again = dump(load({"redis": {"url": "redis://:hunter2@r.example/1"}}, printed))
    assert again == dump(
        load({"node": {"name": "n"}, "redis": {"url": "redis://:hunter2@r.example/1"}}, config)
    )


def test_mistakes_are_told_as_at_a_start() -> None:
    result = CliRunner().invoke(cli.app, ["serve", "--print-config", "--prefix", "{}"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "redis.prefix" in result.stderr
