"""`moorline passwd`: the file that nodes read."""

from pathlib import Path

import pytest
import typer
from argon2 import PasswordHasher
from typer.testing import CliRunner, Result

from broker.auth.password_file import read_passwords
from broker.auth.scram_keys import make_keys, parse_keys
from broker.passwd import passwd

app = typer.Typer()
app.command()(passwd)


def _run(*arguments: object, given: str = "") -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], input=given)


def _is(file: Path, user: str, password: str) -> bool:
    return PasswordHasher().verify(read_passwords(file)[user].hashed, password)


def _iterations(file: Path) -> dict[str, int | None]:
    """Of who has keys for SCRAM."""
    kept = read_passwords(file)
    return {name: parse_keys(each.keys).iterations if each.keys else None for name, each in kept.items()}


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


def test_keys_for_scram(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    old = f"old:{PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash('x')}\n"
    file.write_text(old)
    assert _run(file, "ann", "--scram", given="first\n").exit_code == 0
    assert _run(file, "bob", given="x\n").exit_code == 0
    many = "carol:first\ndave:x\n"
    assert _run(file, "--batch", "--scram", "--iterations", "4096", given=many).exit_code == 0
    assert _iterations(file) == {"old": None, "ann": 15_000, "bob": None, "carol": 4096, "dave": 4096}
    assert file.read_text().startswith(old)
    keys = parse_keys(read_passwords(file)["ann"].keys or "")
    assert keys == make_keys("first", 15_000, keys.salt)
    assert "first" not in file.read_text()
    assert _run(file, "ann", given="third\n").exit_code == 0
    renewed = parse_keys(read_passwords(file)["ann"].keys or "")
    assert renewed == make_keys("third", 15_000, renewed.salt)  # who has keys gets new ones
    assert _run(file, "ann", "--no-scram", given="second\n").exit_code == 0
    assert _is(file, "ann", "second")
    assert _iterations(file)["ann"] is None  # or the password before would still do


def test_a_name_that_scram_does_not_have_is_told(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    result = _run(file, "an\u00adn", "--scram", given="x\n")
    assert result.exit_code == 0
    assert "no keys for it" in result.stderr
    assert _iterations(file) == {"an\u00adn": None}
    assert _is(file, "an\u00adn", "x")


@pytest.mark.parametrize(
    ("arguments", "given", "reason"),
    [
        (["ann", "--iterations", "4095"], "x\n", "greater than or equal to"),
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
