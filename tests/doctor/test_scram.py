"""Keys for SCRAM in the password file."""

from pathlib import Path

import pytest

from broker.auth.scram_keys import format_keys, make_keys
from broker.doctor.finding import Finding, Level
from broker.doctor.scram import check_scram
from broker.settings import load

HASHED = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA"


def look(directory: Path, iterations: list[int | None], **auth: object) -> list[Finding]:
    """With users who have keys of so many iterations; None: no keys."""
    file = directory / "passwords"
    keys = ["" if each is None else f":{format_keys(make_keys('x', each))}" for each in iterations]
    file.write_text("".join(f"user{number}:{HASHED}{each}\n" for number, each in enumerate(keys)))
    return list(check_scram(load({"auth": {"password_file": str(file), **auth}})))


@pytest.mark.parametrize(
    ("iterations", "auth", "level", "found"),
    [
        ([4096, None], {"scram": True}, Level.OK, "1 of 2 users"),
        ([None], {"scram": True, "redis_users": True}, Level.OK, "0 of 1 users"),
        ([4096, 5000], {"scram": True}, Level.WARN, "4096, 5000 iterations"),
        ([4096], {"scram": True, "redis_users": True}, Level.WARN, "4096, 15000 iterations"),
        ([4096], {}, Level.WARN, "1 of 1 users"),
    ],
)
def test_what_is_said(
    tmp_path: Path, iterations: list[int | None], auth: dict[str, object], level: Level, found: str
) -> None:
    (finding,) = look(tmp_path, iterations, **auth)
    assert finding.level is level
    assert found in finding.found


def test_nothing_is_said_where_there_is_nothing(tmp_path: Path) -> None:
    assert look(tmp_path, [None]) == []
    assert list(check_scram(load({}))) == []
    settings = load({"auth": {"password_file": str(tmp_path / "passwords"), "scram": True}})
    (tmp_path / "passwords").write_text("x")
    assert list(check_scram(settings)) == []
