"""What a node asks of its clients, as the settings want it."""

from pathlib import Path

import pytest

from broker.errors import StartError
from broker.guarding import Guarding, make_guarding
from broker.observability.metrics import Counters
from broker.settings import load


def _make(**auth: object) -> Guarding:
    return make_guarding(load({"auth": auth}), Counters())


def test_nothing_is_asked_unless_it_is_set() -> None:
    assert _make() == Guarding(None, (), None)


def test_each_mechanism(tmp_path: Path) -> None:
    passwords, rules, keys = tmp_path / "passwords", tmp_path / "rules", tmp_path / "keys"
    passwords.write_text("")
    rules.write_text("rules = []")
    (tmp_path / "secret").write_text("0123456789abcdef" * 4)
    keys.write_text("[[keys]]\nalgorithm = 'HS512'\nsecret_file = 'secret'")
    made = _make(rules_file=str(rules), on_revoked="disconnect")
    assert made.guard is not None
    assert not made.guard.chain.is_asked
    assert made.guard.authorization.is_asked
    assert made.guard.disconnects_revoked
    assert len(made.watches) == 1
    made = _make(password_file=str(passwords))
    assert made.guard is not None
    assert made.guard.chain.is_asked
    assert not made.guard.authorization.is_asked
    assert made.gate is not None
    made = _make(jwt_keys=str(keys), jwt_keys_url="https://keys.example/", password_file=str(passwords))
    assert len(made.watches) == 3


@pytest.mark.parametrize("field", ["password_file", "rules_file", "jwt_keys"])
def test_a_file_with_mistakes_prevents_the_start(tmp_path: Path, field: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StartError, match="file"):
        _make(**{field: str(tmp_path / "file")})


@pytest.mark.parametrize("field", ["authenticators", "authorizers"])
def test_a_plugin_that_is_not_there_prevents_the_start(field: str) -> None:
    with pytest.raises(StartError, match="no entry point 'nothing'"):
        _make(**{field: ["nothing"]})
