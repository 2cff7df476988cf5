"""Where settings come from, which source wins, and that all mistakes are told at once."""

import os
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import Address, advertised, dump, environment_name, load, restore, setting_names


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOORLINE_")]:
        monkeypatch.delenv(name)


def _write(path: Path, text: str) -> Path:
    file = path / "moorline.toml"
    file.write_text(text)
    return file


def _mistakes(config: Path | None = None, **flags: dict[str, object]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(flags, config)
    return caught.value.mistakes


def test_defaults_are_valid_and_listen_on_loopback_only() -> None:
    settings = load()
    assert settings.node.listen == (Address("127.0.0.1", 1883),)
    assert settings.node.admin == (Address("127.0.0.1", 8080),)
    assert settings.redis.url is None
    assert settings.node.name.endswith("-1883")


def test_flags_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _write(
        tmp_path, "[session]\nqueue_limit = 1\ninflight_limit = 2\n[node]\nname = 'a'\nbacklog = 7\n"
    )
    monkeypatch.setenv("MOORLINE_SESSION__QUEUE_LIMIT", "10")
    monkeypatch.setenv("MOORLINE_NODE__NAME", "b")
    settings = load({"node": {"name": "c"}}, config)
    assert settings.node.name == "c"
    assert settings.session.queue_limit == 10
    assert (settings.session.inflight_limit, settings.node.backlog) == (2, 7)
    assert settings.session.direct_queue_limit == 10_000


def test_lists_and_off_can_be_given_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORLINE_NODE__LISTEN", "127.0.0.1:0,[::1]:1884")
    monkeypatch.setenv("MOORLINE_NODE__ADMIN", "off")
    node = load().node
    assert node.listen == (Address("127.0.0.1", 0), Address("::1", 1884))
    assert node.admin == ()
    assert node.name.endswith("-1884")


@pytest.mark.parametrize("given", [["0.0.0.0:8080", "127.0.0.1:8081"], "0.0.0.0:8080,127.0.0.1:8081"])
def test_several_admin_addresses(given: object) -> None:
    admin = load({"node": {"admin": given}}).node.admin
    assert admin == (Address("0.0.0.0", 8080), Address("127.0.0.1", 8081))
    assert str(advertised(admin)) == "0.0.0.0:8080"
    assert str(advertised(admin[1:])) == "127.0.0.1:8081"
    assert load({"node": {"admin": ["127.0.0.1:1", "off"]}}).node.admin == ()
    assert advertised(()) is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["off", "127.0.0.1:1"], "'off': not HOST:PORT"),
        (["127.0.0.1:1", "127.0.0.1:1"], "twice"),
        (["127.0.0.1:8081", "127.0.0.1:1883"], "127.0.0.1:1883 is an address of node.listen too"),
        ("", "not a list"),
    ],
)
def test_admin_addresses_that_make_no_sense(given: object, reason: str) -> None:
    (mistake,) = _mistakes(node={"admin": given})
    assert reason in mistake


def test_a_name_without_a_fixed_port_carries_the_process_id() -> None:
    assert load({"node": {"listen": ["127.0.0.1:0"]}}).node.name.endswith(f"-{os.getpid()}")


def test_every_mistake_is_in_one_message_with_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _write(tmp_path, "sesion = 1\n[node]\nbacklgo = 3\n[session]\ninflight_limit = 'x'\n")
    monkeypatch.setenv("MOORLINE_SESSION__QUEUE_LIMIT", "-5")
    monkeypatch.setenv("MOORLINE_MQTT__RECIEVE_MAXIMUM", "5")
    text = "\n".join(_mistakes(config, redis={"prefix": "{x}"}))
    assert (
        "MOORLINE_MQTT__RECIEVE_MAXIMUM: no such setting (did you mean MOORLINE_MQTT__RECEIVE_MAXIMUM?)"
        in text
    )
    assert "sesion (configuration file): no such setting (did you mean session?)" in text
    assert "node.backlgo (configuration file): no such setting (did you mean node.backlog?)" in text
    assert "session.inflight_limit (configuration file): 'x': " in text
    assert "session.queue_limit (MOORLINE_SESSION__QUEUE_LIMIT): '-5': " in text
    assert "redis.prefix (flag --prefix): '{x}': " in text
    assert len(text.splitlines()) == 6


def test_any_message_fits_into_a_queue() -> None:
    assert load({"session": {"queue_bytes": 0}}).session.queue_bytes == 0
    assert load({"session": {"queue_bytes": 1_048_576}}).session.queue_bytes == 1_048_576
    (mistake,) = _mistakes(session={"queue_bytes": 1_048_575})
    assert "queue_bytes is less than mqtt.maximum_packet_size" in mistake


def test_a_mistake_in_one_field_brings_no_second_one_about_the_default_name() -> None:
    assert len(_mistakes(node={"backlog": 0})) == 1


@pytest.mark.parametrize("listen", ["0.0.0.0:1883", "[::]:1883", "broker.example:1883", "192.0.2.1:0"])
def test_a_public_address_needs_allow_anonymous(listen: str) -> None:
    (mistake,) = _mistakes(node={"listen": [listen]})
    assert "--allow-anonymous" in mistake
    assert listen in mistake
    settings = load({"node": {"listen": [listen], "allow_anonymous": True}})
    assert str(settings.node.listen[0]) == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_addresses_need_nothing(listen: str) -> None:
    assert load({"node": {"listen": [listen]}}).node.listen[0].is_loopback


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        ("1883", "not HOST:PORT"),
        (":1883", "not HOST:PORT"),
        ("localhost:", "0 to 65535"),
        ("localhost:65536", "0 to 65535"),
        ("localhost:-1", "0 to 65535"),
        ("localhost:\u0663", "0 to 65535"),
        ("::1:1883", "brackets"),
    ],
)
def test_addresses_that_cannot_be_read_are_refused(listen: str, reason: str) -> None:
    (mistake,) = _mistakes(node={"listen": ["127.0.0.1:1", listen]})
    assert reason in mistake
    assert mistake.startswith(f"node.listen (flag --listen): {listen!r}: ")


def test_an_address_may_be_used_once() -> None:
    (mistake,) = _mistakes(node={"listen": ["127.0.0.1:1", "127.0.0.1:1"]})
    assert "twice" in mistake
    (mistake,) = _mistakes(node={"listen": ["127.0.0.1:8080"]})
    assert mistake.startswith("node.admin (default)")
    assert len(load({"node": {"listen": ["127.0.0.1:0", "127.0.0.1:0"]}}).node.listen) == 2


def test_away_limit_is_not_below_the_exchange_timeout() -> None:
    (mistake,) = _mistakes(redis={"exchange_timeout_seconds": 60})
    assert mistake.startswith("redis.away_limit_seconds")


def test_redis_url_is_checked_and_never_repeated() -> None:
    (mistake,) = _mistakes(redis={"url": "http://user:secret@host"})
    assert "redis://" in mistake
    assert "secret" not in mistake
    settings = load({"redis": {"url": "redis://user:secret@host:6379/0"}})
    assert settings.redis.url == "redis://user:secret@host:6379/0"
    assert "secret" not in repr(settings)
    assert load({"redis": {"url": ""}}).redis.url is None


@pytest.mark.parametrize("text", ["[node", "node = \xff"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    config = tmp_path / "broken.toml"
    config.write_bytes(text.encode("latin-1"))
    (mistake,) = _mistakes(config)
    assert str(config) in mistake


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (mistake,) = _mistakes(tmp_path / "none.toml")
    assert "none.toml: No such file" in mistake


def test_a_group_that_is_no_table_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORLINE_NODE", "5")
    (mistake,) = _mistakes()
    assert mistake.startswith("node (MOORLINE_NODE)")


def test_a_group_that_is_not_json_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORLINE_NODE", "{")
    (mistake,) = _mistakes()
    assert "environment" in mistake


def test_variables_read_elsewhere_are_not_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORLINE_PURE", "1")
    monkeypatch.setenv("MOORLINE_CONFIG", "x.toml")
    load()


def test_settings_do_not_change() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.session.queue_limit = 1


def test_each_setting_has_a_variable_of_its_own() -> None:
    names = [environment_name(setting) for setting in setting_names()]
    assert len(set(names)) == len(names)
    assert "MOORLINE_LIMITS__OUTBOUND_BUFFER_BYTES" in names


@pytest.mark.parametrize("given", [1, "1", 3, "1024"])
def test_workers_are_counted(given: object) -> None:
    assert load({"node": {"workers": given}}).node.workers == int(str(given))


def test_workers_for_each_core_that_may_be_used() -> None:
    assert load({"node": {"workers": "auto"}}).node.workers == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("given", [0, "0", -1, 1025, "two", "", True, 2.5])
def test_workers_that_are_no_number_of_processes(given: object) -> None:
    (mistake,) = _mistakes(node={"workers": given})
    assert mistake == f"node.workers (flag --workers): {given!r}: not a number from 1 to 1024, nor auto"


def test_the_names_of_workers_have_room() -> None:
    name = "x" * 126
    assert load({"node": {"name": name, "workers": 9}}).node.workers == 9
    assert load({"node": {"name": "x" * 128, "workers": 1}}).node.workers == 1
    (mistake,) = _mistakes(node={"name": name, "workers": 10})
    assert "node.name is too long" in mistake
    (mistake,) = _mistakes(node={"name": "a b", "workers": 2})
    assert mistake.startswith("node.name")


def test_a_dump_is_read_back_whole_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        {"node": {"listen": ["[::1]:0", "127.0.0.1:5"], "admin": "off"}, "redis": {"url": "unix:///s"}}
    )
    dumped = dump(settings)
    monkeypatch.setenv("MOORLINE_NODE__BACKLOG", "7")
    assert restore(dumped).model_dump() == settings.model_dump()
    with pytest.raises(ValueError, match="limits"):
        restore({name: group for name, group in dumped.items() if name != "limits"})
    with pytest.raises(ValueError, match="backlog"):
        restore({**dumped, "node": {"backlog": 0}})
