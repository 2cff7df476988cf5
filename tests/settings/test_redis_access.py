"""What the settings say of Redis beside its URL, and what does not go together."""

from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import dump, load, restore


def _mistakes(**redis: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load({"redis": redis})
    return "\n".join(caught.value.mistakes)


@pytest.mark.parametrize(
    ("given", "mistake"),
    [
        ({"url": "redis://:secret@h", "url_file": "FILE"}, "redis.url and redis.url_file: give one of them"),
        ({"username": "u"}, "redis.username is for a Redis of your own"),
        ({"password_file": "FILE"}, "redis.password_file is for a Redis of your own"),
        ({"url": "redis://:secret@h", "ca_file": "FILE"}, "redis.ca_file is for TLS"),
        ({"url": "unix:///s", "server_name": "x"}, "redis.server_name is for TLS"),
        ({"url": "redis+sentinel://:secret@h/m", "ca_file": "FILE"}, "redis.ca_file is for TLS"),
        ({"url": "redis://:secret@h", "sentinel_username": "u"}, "redis.sentinel_username is for sentinels"),
        ({"sentinel_password_file": "FILE"}, "redis.sentinel_password_file is for a Redis of your own"),
        ({"url": "rediss://:secret@h", "key": "FILE"}, "redis.key needs redis.certificate"),
        ({"url": "rediss://:secret@h", "ca_file": "/no/ca.pem"}, "/no/ca.pem: No such file"),
        ({"url_file": "/no/url"}, "/no/url: No such file"),
    ],
)
def test_what_does_not_go_together(given: dict[str, object], mistake: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    text = _mistakes(**{name: str(file) if value == "FILE" else value for name, value in given.items()})
    assert mistake in text
    assert "secret" not in text


def test_a_worker_gets_them_with_the_url_that_its_parent_has_read(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("rediss://h")
    settings = load({"redis": {"url_file": str(file), "username": "u", "ca_file": str(file)}})
    assert settings.redis.is_given
    redis = settings.redis.model_copy(update={"url": "rediss://h"})
    told = settings.model_copy(update={"redis": redis})
    file.unlink()
    assert restore(dump(told)).redis == redis
    assert not load({}).redis.is_given


def test_sentinels_have_their_own_credentials_and_the_same_tls(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    given = {"sentinel_username": "u", "sentinel_password_file": str(file), "ca_file": str(file)}
    redis = load({"redis": {"url": "rediss+sentinel://h/m", **given}}).redis
    assert (redis.sentinel_username, redis.sentinel_password_file, redis.ca_file) == ("u", file, file)
