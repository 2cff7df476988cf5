"""`moorline token`: makes tokens, and shows them once."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker.auth.admin_tokens import Role, find_token, read_tokens
from broker.cli import add_groups, app

add_groups(app)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["token", *arguments])


def test_made_and_deleted(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    made = run(str(file), "ops", "--role", "operate")
    assert made.exit_code == 0
    text = made.stdout.strip()
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    assert run(str(file), "prometheus", "--role", "read").exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o640
    found = find_token(read_tokens(file), text.encode())
    assert found is not None
    assert (found.name, found.role) == ("ops", Role.OPERATE)
    assert run(str(file), "ops", "--delete").exit_code == 0
    assert [token.name for token in read_tokens(file)] == ["prometheus"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ops"], "give --role for a new token, or --delete"),
        (["ops", "--role", "read", "--delete"], "give --role for a new token, or --delete"),
        (["o ps", "--role", "read"], "a token is called by"),
        (["nobody", "--delete"], "there is no such token"),
        (["taken", "--role", "read"], "there is a token of this name"),
        (["ops", "--role", "root"], "'root' is not one of"),
    ],
)
def test_refusals(arguments: list[str], reason: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    assert run(str(file), "taken", "--role", "admin").exit_code == 0
    before = file.read_text()
    refused = run(str(file), *arguments)
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert reason in refused.stderr
    assert file.read_text() == before


def test_files_that_can_not_be_used(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("nonsense\n")
    assert "line 1: not NAME ROLE" in run(str(file), "ops", "--role", "read").stderr
    assert "No such file" in run(str(tmp_path / "none" / "tokens"), "ops", "--role", "read").stderr
