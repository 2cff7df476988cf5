"""Who comes in, and what clients may do: files, addresses that need them, all mistakes at once."""

import os
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import dump, load, restore


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOORLINE_")]:
        monkeypatch.delenv(name)


def _mistakes(**flags: dict[str, object]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(flags)
    return caught.value.mistakes


@pytest.mark.parametrize("field", ["password_file", "jwt_keys", "jwt_keys_url", "authenticators"])
def test_a_public_address_needs_somebody_who_asks(tmp_path: Path, field: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    values: dict[str, object] = {"authenticators": ["x"], "jwt_keys_url": "https://keys.example/jwks"}
    public: dict[str, object] = {"listen": ["0.0.0.0:1883"]}
    settings = load({"node": public, "auth": {field: values.get(field, str(file))}})
    assert settings.auth.asks
    again = restore(dump(settings))
    assert (again.node.listen, again.auth) == (settings.node.listen, settings.auth)
    (mistake,) = _mistakes(node=public, auth={"rules_file": str(file)})
    assert "nothing would ask clients who they are" in mistake


def test_variables_and_listeners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "passwords").write_text("")
    config = tmp_path / "c.toml"
    config.write_text("[listeners.x]\naddress = 'ws://0.0.0.0:8083'\n")
    with pytest.raises(SettingsError, match="nothing would ask"):
        load({}, config)
    monkeypatch.setenv("MOORLINE_AUTH__PASSWORD_FILE", str(tmp_path / "passwords"))
    assert load({}, config).listeners


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    mistakes = "\n".join(
        _mistakes(
            auth={
                "password_file": str(tmp_path / "nothing"),
                "jwt_keys_url": "http://keys.example/",
                "unmatched": "perhaps",
                "hash_threads": 0,
            },
            redis={"prefix": "{"},
        )
    )
    for text in (
        "auth.password_file",
        "nothing: No such file",
        "auth.jwt_keys_url",
        "auth.unmatched",
        "auth.hash_threads",
        "redis.prefix",
    ):
        assert text in mistakes


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "http://localhost/x", "http://[::1]/x", "https://x.example"]
)
def test_urls_of_keys(url: str) -> None:
    assert load({"auth": {"jwt_keys_url": url}}).auth.jwt_keys_url == url


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "https://", "keys.example", "http://127.0.0.1.example/"]
)
def test_other_urls(url: str) -> None:
    (mistake,) = _mistakes(auth={"jwt_keys_url": url})
    assert "https://" in mistake


def test_nothing_is_asked_unless_it_is_set() -> None:
    settings = load({"auth": {"jwt_keys_url": ""}})
    assert not settings.auth.asks
