"""Bans that come by themselves, and the audit file: how they are written, all mistakes at once."""

import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import dump, load, restore


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOORLINE_")]:
        monkeypatch.delenv(name)


def test_networks_in_a_file_and_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[bans]\nexempt = ["192.0.2.1", "2001:db8::/32"]\n')
    wanted = (ip_network("192.0.2.1/32"), ip_network("2001:db8::/32"))
    settings = load({}, config)
    assert settings.bans.exempt == wanted
    assert restore(dump(settings)).bans == settings.bans
    monkeypatch.setenv("MOORLINE_BANS__EXEMPT", "192.0.2.1, 2001:db8::/32,")
    assert load({}).bans.exempt == wanted
    monkeypatch.setenv("MOORLINE_BANS__EXEMPT", "")
    assert load({}, config).bans.exempt == ()


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            {
                "bans": {"exempt": ["192.0.2.1/24", "proxy"], "guess_limit": -1},
                "auth": {"audit_file": str(tmp_path / "no" / "audit.log")},
            }
        )
    text = str(caught.value)
    for part in ("192.0.2.1/24", "guess_limit", "audit.log: can't be written"):
        assert part in text
    with pytest.raises(SettingsError, match="can't be written"):
        load({"auth": {"audit_file": str(tmp_path)}})


def test_an_audit_file_need_not_be_there_yet(tmp_path: Path) -> None:
    settings = load({"auth": {"audit_file": str(tmp_path / "audit.log")}})
    assert settings.auth.audit_file == tmp_path / "audit.log"
    assert not settings.auth.asks
