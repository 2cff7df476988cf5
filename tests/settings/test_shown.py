"""Settings as they are shown: everything is there, and no secret."""

import tomllib
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from broker.settings import Group, Settings, dump, load, setting_names
from broker.settings.shown import shown_group, shown_settings, shown_toml, without_secrets


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORLINE_NODE__NAME", "alpha")


def settings_of(text: str, directory: Path) -> Settings:
    file = directory / "moorline.toml"
    file.write_text(text)
    return load(config=file)


def test_everything_is_there_with_unit_and_default() -> None:
    shown = shown_settings(load())
    assert [f"{group}.{name}" for group, fields in shown.items() for name in fields] == setting_names()
    limit = shown["session"]["queue_limit"]
    assert (limit.value, limit.default, limit.unit, limit.is_changed) == (10_000, 10_000, None, False)
    assert shown["redis"]["away_limit_seconds"].unit == "s"
    assert shown["limits"]["outbound_buffer_bytes"].unit == "bytes"
    assert shown["limits"]["bytes_per_second"].unit == "bytes/s"
    changed = [name for fields in shown.values() for name, each in fields.items() if each.is_changed]
    assert changed == ["name"]
    assert not any(each.is_hidden for fields in shown.values() for each in fields.values())


def test_what_is_changed_and_listeners(tmp_path: Path) -> None:
    settings = settings_of(
        '[node]\nlisten = ["127.0.0.1:1", "127.0.0.1:2"]\n'
        '[listeners.web]\naddress = "ws://127.0.0.1:3/x"\nmount_point = "tenants/a"\n',
        tmp_path,
    )
    shown = shown_settings(settings)
    assert shown["node"]["listen"].value == ["127.0.0.1:1", "127.0.0.1:2"]
    assert shown["node"]["listen"].default == ["127.0.0.1:1883"]
    assert shown["node"]["listen"].is_changed
    web = shown["listeners.web"]
    assert (web["address"].value, web["address"].default) == ("ws://127.0.0.1:3/x", None)
    assert web["address"].is_changed
    assert web["mount_point"].value == "tenants/a/"
    assert not web["tls_minimum"].is_changed


def test_secrets_are_hidden(tmp_path: Path) -> None:
    settings = settings_of(
        '[redis]\nurl = "redis://user:hunter2@127.0.0.1:6379/3"\n'
        '[auth]\nsql_url = "postgresql+asyncpg://me:hunter2@db/users"\nsql_user_query = "select 1"\n'
        'http_authenticate_url = "https://host.example/hunter2?key=hunter2"\n'
        'jwt_keys_url = "https://idp.example/.well-known/jwks.json"\n',
        tmp_path,
    )
    shown = shown_settings(settings)
    assert "hunter2" not in repr(shown) + shown_toml(settings)
    url = shown["redis"]["url"]
    assert (url.value, url.is_hidden, url.is_changed) == ("redis://***@127.0.0.1:6379/3", True, True)
    assert shown["auth"]["sql_url"].value == "postgresql+asyncpg://***@db/users"
    assert shown["auth"]["http_authenticate_url"].value == "https://host.example/***?***"
    assert shown["auth"]["jwt_keys_url"].value == "https://idp.example/.well-known/jwks.json"
    assert shown["auth"]["sql_user_query"].value == "select 1"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", "redis://host"),
        ("redis://:hunter2@host:1/0", "redis://***@host:1/0"),
        ("redis://:hun/ter2@host", "redis://***@host"),
        ("redis://:hun@ter2@host", "redis://***@host"),
        ("redis://:hun?ter2@host", "redis://***"),
        ("redis://:hun#ter2@host", "redis://***"),
        ("redis://host/0?password=hunter2", "redis://host/0?***"),
        ("redis://host/0?password=hunt@er2", "redis://***"),
        ("rediss://hunter2@host", "rediss://***@host"),
        ("REDIS://:hunter2@host", "REDIS://***@host"),
        ("redis+sentinel://:hunter2@a:1,b:2/name", "redis+sentinel://***@a:1,b:2/name"),
        ("unix:///run/redis.sock?db=0", "unix:///run/redis.sock?***"),
        ("unix://:hunter2@/run/redis.sock", "unix://***@/run/redis.sock"),
        ("redis://:hunter\n2@host", "redis://***@host"),
        ("mqtts://0.0.0.0:8883", "mqtts://0.0.0.0:8883"),
        ("no url: a@b?c", "no url: a@b?c"),
    ],
)
def test_urls(url: str, expected: str) -> None:
    assert without_secrets(url) == expected
    assert without_secrets(without_secrets(url)) == without_secrets(url).replace("hunter2", "***")


class _Plugin(Group):
    """Settings as another piece may have them one day."""

    url: str = "https://a.example/hook"
    secret: SecretStr = SecretStr("hunter2")
    api_key: str = "hunter2"
    key: Path = Path("/etc/key.pem")
    password_file: Path = Path("/etc/password")
    headers: dict[str, str] = Field(default={"X-Any": "hunter2"})
    targets: tuple[dict[str, str | int], ...] = ({"name": "a", "password": "hunter2", "port": 1},)
    no_password: str = ""


def test_names_that_sound_like_secrets() -> None:
    shown = shown_group(_Plugin())
    assert "hunter2" not in repr({name: each.value for name, each in shown.items()})
    assert shown["url"].value == "https://a.example/***"
    assert shown["key"].value == "/etc/key.pem"
    assert shown["password_file"].value == "/etc/password"
    assert shown["headers"].value == {"X-Any": "***"}
    assert shown["targets"].value == [{"name": "a", "password": "***", "port": 1}]
    assert shown["no_password"].value == ""


def test_as_a_file_that_can_be_read_again(tmp_path: Path) -> None:
    settings = settings_of(
        '[session]\nqueue_limit = 7\n[mqtt]\nresponse_information = "ä \\" \\\\ b"\n'
        '[listeners.web]\naddress = "ws://127.0.0.1:3"\n',
        tmp_path,
    )
    text = shown_toml(settings)
    assert tomllib.loads(text)["mqtt"]["response_information"] == 'ä " \\ b'
    assert dump(settings_of(text, tmp_path)) == dump(settings)
    changed = shown_toml(settings, only_changed=True)
    assert set(tomllib.loads(changed)) == {"node", "session", "mqtt", "listeners"}
    assert dump(settings_of(changed, tmp_path)) == dump(settings)
    assert "# url is not set" in text
    assert "queue_limit = 7  # default: 10000\n" in text
