"""`moorline passwd`: the file that nodes read."""

from pathlib import Path

import pytest
import typer
from argon2 import PasswordHasher
from typer.testing import CliRunner, Result

from broker.auth.password_file import read_passwords
from broker.passwd import passwd

app = typer.Typer()
app.command()(passwd)


def _run(*arguments: object, given: str = "") -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], input=given)


def _is(file: Path, user: str, password: str) -> bool:
    return PasswordHasher().verify(read_passwords(file)[user], password)


def test_made_changed_deleted(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    assert _run(file, "ann", given="first\n").exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    assert _run(file, "bob", "--password", "x").exit_code == 0
    assert _is(file, "ann", "first")
    assert _run(file, "ann", given="second\n").exit_code == 0
    assert _is(file, "ann", "second")
    assert _run(file, "ann", "--delete").exit_code == 0
    assert list(read_passwords(file)) == ["bob"]
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]
    assert "second" not in file.read_text()


def test_a_batch(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    assert _run(file, "--batch", given="ann:a:b\nbob:é\n").exit_code == 0
    assert _is(file, "ann", "a:b")
    assert _is(file, "bob", "é")
    before = file.read_text()
    result = _run(file, "--batch", given="carol:x\nno password\n")
    assert result.exit_code == 2
    assert "line 2" in result.stderr
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "given", "reason"),
    [
        ([], "", "give a USER, or --batch"),
        (["ann", "--batch"], "", "give a USER, or --batch"),
        (["ann", "--delete", "--password", "x"], "", "give a USER"),
        (["ann"], "", "no password given"),
        (["a:b"], "x\n", "no colon"),
        (["ann", "--delete"], "", "no such user"),
    ],
)
def test_refused(tmp_path: Path, arguments: list[str], given: str, reason: str) -> None:
    result = _run(tmp_path / "passwords", *arguments, given=given)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (tmp_path / "passwords").exists()


def test_a_file_with_mistakes_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text("ann:secret\n")
    assert "line 1" in _run(file, "bob", given="x\n").stderr
    assert file.read_text() == "ann:secret\n"
