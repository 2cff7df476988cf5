"""Settings for users and rules in Redis."""

import pytest

from broker.errors import SettingsError
from broker.settings import load

ANYWHERE = {"listen": "0.0.0.0:0"}


@pytest.mark.parametrize("value", [True, "true", "1", "on"])
def test_users_of_redis_are_asked(value: object) -> None:
    settings = load({"auth": {"redis_users": value}, "node": ANYWHERE})
    assert settings.auth.asks
    assert settings.auth.scram_keys is None


@pytest.mark.parametrize("value", [False, "false", "0", "off", "no", "False"])
def test_no_users_protect_no_address(value: object) -> None:
    with pytest.raises(SettingsError, match="listen"):
        load({"auth": {"redis_users": value}, "node": ANYWHERE})


def test_rules_alone_ask_nobody() -> None:
    assert not load({"auth": {"redis_rules": True}}).auth.asks


def test_scram_needs_users() -> None:
    with pytest.raises(SettingsError, match=r"auth\.password_file or auth\.redis_users"):
        load({"auth": {"scram": True}})
    assert load({"auth": {"scram": True, "password_file": __file__}}).auth.scram
    assert load({"auth": {"scram": True, "redis_users": True}}).auth.scram_keys == 15_000
    with pytest.raises(SettingsError, match="scram_iterations"):
        load({"auth": {"scram_iterations": 4095}})
