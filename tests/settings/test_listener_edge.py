"""Unix sockets, proxies and pages: what a listener's table may say of them, and every mistake."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import SocketPath, dump, load, restore
from tests.settings.test_listener import PREFIX, _no_variables  # noqa: F401  # the fixture of all here

FILE = "(configuration file)"


def _config(path: Path, tables: str) -> Path:
    file = path / "moorline.toml"
    file.write_text(f"[listeners]\n{tables}\n")
    return file


def _mistakes(path: Path, tables: str, **flags: dict[str, object]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(flags, _config(path, tables))
    return list(caught.value.mistakes)


def test_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "WEB__ORIGINS", "https://App.example:443, null")
    monkeypatch.setenv(PREFIX + "BEHIND__TRUSTED_PROXIES", "10.0.0.5, fd00::/64")
    settings = load(
        {"node": {"allow_anonymous": True}},
        _config(
            tmp_path,
            """
            local = {address = "unix:///run/moorline/mqtt.sock"}
            narrow = {address = "unix:///run/m/n.sock", socket_mode = "600", proxy_protocol = true}
            web = {address = "ws://127.0.0.1:8083"}
            behind = {address = "mqtt://127.0.0.1:1884", proxy_protocol = true}
            """,
        ),
    )
    local, narrow, web, behind = (settings.listeners[name] for name in ("local", "narrow", "web", "behind"))
    assert (local.address.address, local.socket_mode) == (SocketPath("/run/moorline/mqtt.sock"), 0o660)
    assert str(local.address) == "unix:///run/moorline/mqtt.sock"
    assert (narrow.socket_mode, narrow.trusted_proxies) == (0o600, ())
    assert (web.socket_mode, web.origins) == (None, ("https://app.example", "null"))
    assert behind.trusted_proxies == (ip_network("10.0.0.5/32"), ip_network("fd00::/64"))
    assert [each.is_public for each in (local, narrow, web, behind)] == [False, True, False, True]
    assert restore(dump(settings)).model_dump() == settings.model_dump()
    assert settings.bound_to(settings.all_listeners()).all_listeners() == settings.all_listeners()


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    lines = [
        'a = {address = "unix://relative.sock"}',
        f'b = {{address = "unix:///{"x" * 110}"}}',
        'c = {address = "unix:///run/c.sock", socket_mode = "9"}',
        'd = {address = "unix:///run/d.sock", socket_mode = 660}',
        'e = {address = "unix:///run/e.sock", socket_mode = "0440"}',
        'f = {address = "ws://127.0.0.1:1", socket_mode = "0660"}',
        'g = {address = "ws://127.0.0.1:2", proxy_protocol = true}',
        'h = {address = "ws://127.0.0.1:3", trusted_proxies = ["10.0.0.1"]}',
        'i = {address = "ws://127.0.0.1:4", proxy_protocol = true, trusted_proxies = ["10.0.0.1/8"]}',
        'j = {address = "unix:///run/j.sock", proxy_protocol = true, trusted_proxies = ["10.0.0.1"]}',
        'k = {address = "mqtt://127.0.0.1:5", origins = ["*"]}',
        'l = {address = "ws://127.0.0.1:6", origins = ["https://app.example/path"]}',
        'm = {address = "ws://127.0.0.1:7", origins = 5}',
        'n = {address = "nonsense://", origins = ["*"], socket_mode = "0660", proxy_protocol = true}',
    ]
    told = dict(mistake.split(": ", 1) for mistake in _mistakes(tmp_path, "\n".join(lines)))
    assert "not the whole path" in told.pop(f"listeners.a.address {FILE}")
    assert "the longest path of a socket" in told.pop(f"listeners.b.address {FILE}")
    for name in "cd":
        assert "in octal and as text" in told.pop(f"listeners.{name}.socket_mode {FILE}")
    assert "nobody can connect" in told.pop(f"listeners.e.socket_mode {FILE}")
    assert "only unix:// sockets" in told.pop(f"listeners.f.socket_mode {FILE}")
    assert "needs the addresses" in told.pop("listeners.g.trusted_proxies (default)")
    assert "without proxy_protocol" in told.pop(f"listeners.h.trusted_proxies {FILE}")
    assert "'10.0.0.1/8' is no address, and no network" in told.pop(f"listeners.i.trusted_proxies {FILE}")
    assert "what socket_mode says" in told.pop(f"listeners.j.trusted_proxies {FILE}")
    assert "only ws:// and wss://" in told.pop(f"listeners.k.origins {FILE}")
    assert "'https://app.example/path' is no origin" in told.pop(f"listeners.l.origins {FILE}")
    assert "not a list of at most 1,000 origins" in told.pop(f"listeners.m.origins {FILE}")
    assert "does not begin with one of" in told.pop(f"listeners.n.address {FILE}")
    assert told == {}


@pytest.mark.parametrize(
    ("tables", "node", "reason"),
    [
        ("a = {address = 'unix:///x'}\nb = {address = 'unix:///x'}", {}, "b: /x is used by another listener"),
        ("a = {address = 'unix:///x'}", {"workers": 2}, "a: a unix socket is one worker's"),
        ("a = {address = 'unix:///x', proxy_protocol = true}", {}, "other machines can reach /x"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, tables: str, node: dict[str, object], reason: str) -> None:
    (mistake,) = _mistakes(tmp_path, tables, node=node)
    assert reason in mistake


@pytest.mark.parametrize(
    ("table", "node_allows", "node_asks", "expected"),
    [
        ("", False, False, True),
        ("", False, True, False),
        ("", True, True, True),
        ("allow_anonymous = false, authentication = ['jwt']", True, False, False),
        ("allow_anonymous = true", False, True, True),
        ("authentication = []", False, True, True),
    ],
)
def test_who_lets_anybody_in(
    tmp_path: Path, table: str, node_allows: bool, node_asks: bool, expected: bool
) -> None:
    """There pages of this machine only may connect, unless others are listed."""
    config = _config(tmp_path, f"a = {{address = 'ws://127.0.0.1:8083', {table}}}".replace(", }", "}"))
    assert load({}, config).listeners["a"].lets_anybody_in(node_allows, node_asks) is expected
