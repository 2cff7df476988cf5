"""Certificates, and who may read secrets."""

import time
from pathlib import Path

import pytest

from broker.doctor.file import check_files
from broker.doctor.finding import Finding, Level
from broker.settings import load
from tests.tools import make_certificate

DAY_SECONDS = 86_400


def look(directory: Path, text: str, now: float | None = None) -> list[Finding]:
    """What is found, with these settings."""
    config = directory / "moorline.toml"
    config.write_text(text)
    return list(check_files(load(config=config), config, time.time() if now is None else now))


def bad(findings: list[Finding]) -> list[tuple[Level, str]]:
    """What is not well."""
    return [(each.level, each.found) for each in findings if each.level is not Level.OK]


@pytest.fixture
def tls(tmp_path: Path) -> str:
    """Settings of a listener, and of the admin address, with a certificate of two days."""
    made = make_certificate(tmp_path)
    files = f'certificate = "{made.file}"\nkey = "{made.key}"\n'
    listener = f'[listeners.tls]\naddress = "mqtts://127.0.0.1:1"\nclient_ca = "{made.file}"\n{files}'
    return f"[admin]\n{files}{listener}"


def test_certificates_by_the_days_they_have(tls: str, tmp_path: Path) -> None:
    now = time.time()
    soon = bad(look(tmp_path, tls))
    assert [level for level, _ in soon] == [Level.WARN] * 3
    assert "in 2 days" in soon[0][1]
    assert [level for level, _ in bad(look(tmp_path, tls, now + 3 * DAY_SECONDS))] == [Level.FAIL] * 3
    early = bad(look(tmp_path, tls, now - DAY_SECONDS))
    assert early[0] == (Level.FAIL, f"{tmp_path / 'server.crt'} is not valid yet")
    (tmp_path / "server.crt").chmod(0o644)
    assert all(each.level is Level.OK for each in look(tmp_path, tls) if each.about == "listeners.tls.key")


def test_a_chain_with_a_link_that_is_none(tmp_path: Path) -> None:
    made, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    made.file.write_text(made.file.read_text() + other.file.read_text())
    text = f'[admin]\ncertificate = "{made.file}"\nkey = "{made.key}"\n'
    assert "not signed by the one that follows" in bad(look(tmp_path, text))[1][1]


def test_secrets_that_everybody_can_read_or_write(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(0o640)
    text = f'[admin]\ntokens_file = "{tokens}"\n'
    assert bad(look(tmp_path, text)) == []
    tokens.chmod(0o644)
    assert bad(look(tmp_path, text)) == [(Level.WARN, f"everybody on this machine can read {tokens}")]
    tokens.chmod(0o642)
    assert bad(look(tmp_path, text)) == [(Level.FAIL, f"everybody on this machine can write {tokens}")]


def test_files_with_mistakes_are_told_without_their_secrets(tmp_path: Path) -> None:
    for name in ("passwords", "tokens"):
        (tmp_path / name).write_text("hunter2\n")
        (tmp_path / name).chmod(0o600)
    text = f'[auth]\npassword_file = "{tmp_path}/passwords"\n[admin]\ntokens_file = "{tmp_path}/tokens"\n'
    found = bad(look(tmp_path, text))
    assert [level for level, _ in found] == [Level.FAIL] * 2
    assert "hunter2" not in repr(found)
