"""Listeners with tables of their own: addresses, files, and every mistake in them."""

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import Address, Kind, ListenerAddress, dump, load, restore
from tests.tools import Certificate, make_certificate, require_tool

PREFIX = "MOORLINE_LISTENERS__"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOORLINE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("files"))


def _config(path: Path, text: str) -> Path:
    file = path / "moorline.toml"
    file.write_text(text)
    return file


def _mistakes(path: Path, text: str, **flags: dict[str, object]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(flags, _config(path, text))
    return caught.value.mistakes


def _secure(files: Certificate, address: str = "mqtts://127.0.0.1:8883", name: str = "tls") -> str:
    return f"[listeners.{name}]\naddress = '{address}'\ncertificate = '{files.file}'\nkey = '{files.key}'\n"


def test_tables_of_a_file(tmp_path: Path, files: Certificate) -> None:
    text = (
        _secure(files) + "[listeners.web]\naddress = 'ws://[::1]:8083/x/y'\nhandshake_timeout_seconds = 3\n"
    )
    settings = load({"node": {"listen": ["127.0.0.1:1884"]}}, _config(tmp_path, text))
    assert [str(listener.address) for listener in settings.all_listeners()] == [
        "127.0.0.1:1884",
        "mqtts://127.0.0.1:8883",
        "ws://[::1]:8083/x/y",
    ]
    assert settings.listeners["tls"].certificate == files.file
    assert settings.listeners["web"].handshake_timeout_seconds == 3


def test_variables_win_over_the_file_one_by_one(
    tmp_path: Path, files: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "TLS__ADDRESS", "wss://localhost:0")
    monkeypatch.setenv(PREFIX + "WEB__ADDRESS", "ws://127.0.0.1:8083")
    settings = load({}, _config(tmp_path, _secure(files)))
    assert settings.listeners["tls"].key == files.key
    assert [str(listener.address) for listener in settings.listeners.values()] == [
        "wss://localhost:0/mqtt",
        "ws://127.0.0.1:8083/mqtt",
    ]


def test_json_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORLINE_LISTENERS", '{"plain": {"address": "mqtt://127.0.0.1:1999"}}')
    address = ListenerAddress(Kind.TCP, Address("127.0.0.1", 1999))
    assert load().listeners["plain"].address == address


@pytest.mark.parametrize(
    ("mount_point", "expected"), [("a", "a/"), ("a/", "a/"), ("a/b c/ä", "a/b c/ä/"), ("/a", "/a/")]
)
def test_a_mount_point_ends_with_a_level(tmp_path: Path, mount_point: str, expected: str) -> None:
    settings = load({}, _config(tmp_path, _mounted(mount_point)))
    assert settings.listeners["of-a"].mount_point == expected
    assert restore(dump(settings)).model_dump() == settings.model_dump()
    assert [listener.mount_point for listener in settings.all_listeners()] == [None, expected]


@pytest.mark.parametrize(
    ("mount_point", "reason"),
    [
        ("", "is empty: leave it out for none"),
        ("//", "is empty: leave it out for none"),
        ("a/+/b", "has + or #: topics begin with it, and these have no wildcards"),
        ("#", "has + or #: topics begin with it, and these have no wildcards"),
        ("$SYS/a", "begins with $: such topics are the broker's"),
        ("ä" * 501, "has a NUL, or more than 1,000 bytes"),
    ],
)
def test_what_is_no_mount_point(tmp_path: Path, mount_point: str, reason: str) -> None:
    (mistake,) = _mistakes(tmp_path, _mounted(mount_point))
    assert mistake.startswith("listeners.of-a.mount_point (configuration file): ")
    assert mistake.endswith(reason)


def _mounted(mount_point: str) -> str:
    return f"[listeners.of-a]\naddress = 'mqtt://127.0.0.1:1885'\nmount_point = '{mount_point}'\n"


def test_without_the_plain_listener(tmp_path: Path, files: Certificate) -> None:
    settings = load({"node": {"listen": ["off"]}}, _config(tmp_path, _secure(files)))
    assert [listener.address.kind for listener in settings.all_listeners()] == [Kind.TLS]
    assert restore(dump(settings)).model_dump() == settings.model_dump()
    (mistake,) = _mistakes(tmp_path, "", node={"listen": "off"})
    assert mistake == "listeners (default): there is no listener at all, as node.listen is off"


def test_a_dump_is_read_back_without_a_look_at_the_files(tmp_path: Path) -> None:
    files = make_certificate(tmp_path)
    settings = load({}, _config(tmp_path, _secure(files)))
    files.file.unlink()
    assert restore(dump(settings)).model_dump() == settings.model_dump()


def test_bound_to(tmp_path: Path, files: Certificate) -> None:
    settings = load({"node": {"listen": ["127.0.0.1:0"]}}, _config(tmp_path, _secure(files)))
    bound = [
        listener.bound_to(Address("127.0.0.1", port))
        for port, listener in enumerate(settings.all_listeners(), 5)
    ]
    told = settings.bound_to(bound)
    assert told.node.listen == (Address("127.0.0.1", 5),)
    assert [str(listener.address) for listener in told.all_listeners()] == [
        "127.0.0.1:5",
        "mqtts://127.0.0.1:6",
    ]
    assert told.listeners["tls"].key == files.key


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:1", "does not begin with one of mqtt://, mqtts://, ws://, wss://"),
        ("ws://127.0.0.1", "not HOST:PORT"),
        ("ws://:8083/mqtt", "not HOST:PORT"),
        ("ws://127.0.0.1:x/mqtt", "the port is not a number"),
        ("ws://127.0.0.1:1/a b", "'/a b' is not the path of a URL"),
        ("ws://127.0.0.1:1/a?b", "'/a?b' is not the path of a URL"),
        ("mqtt://127.0.0.1:1/mqtt", "only ws:// and wss:// have a path"),
    ],
)
def test_addresses_that_cannot_be_read(tmp_path: Path, address: str, reason: str) -> None:
    (mistake,) = _mistakes(tmp_path, f"[listeners.web]\naddress = '{address}'\n")
    assert mistake.startswith(f"listeners.web.address (configuration file): {address!r}: {reason}")


def test_schemes_are_not_for_node_listen(tmp_path: Path) -> None:
    (mistake,) = _mistakes(tmp_path, "", node={"listen": ["wss://127.0.0.1:8084"]})
    assert "TLS and WebSocket have tables in [listeners]" in mistake


def test_every_mistake_is_told_at_once(
    tmp_path: Path, files: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_certificate(tmp_path, "other")
    locked = tmp_path / "locked.key"
    protect = ["rsa", "-aes128", "-passout", "pass:secret", "-out", str(locked)]
    made = subprocess.run([require_tool("openssl"), "genrsa", "1024"], check=True, capture_output=True)
    subprocess.run([require_tool("openssl"), *protect], input=made.stdout, check=True, capture_output=True)
    none = tmp_path / "none.crt"
    monkeypatch.setenv(PREFIX + "TYPO__ADRESS", "ws://127.0.0.1:1")
    text = f"""
        bare = {{address = "mqtts://127.0.0.1:2"}}
        web = {{address = "ws://127.0.0.1:3", certificate = "{files.file}"}}
        missing = {{address = "wss://127.0.0.1:4", certificate = "{none}", key = "{files.key}"}}
        directory = {{address = "wss://127.0.0.1:5", certificate = "{files.file}", key = "{tmp_path}"}}
        stranger = {{address = "wss://127.0.0.1:6", certificate = "{files.file}", key = "{other.key}"}}
        swapped = {{address = "wss://127.0.0.1:7", certificate = "{files.key}", key = "{files.file}"}}
        twice = {{address = "wss://127.0.0.1:8", certificate = "{files.file}", key = "{files.file}"}}
        locked = {{address = "wss://127.0.0.1:9", certificate = "{files.file}", key = "{locked}"}}
        Odd = {{address = "ws://127.0.0.1:10"}}
        """
    lines = [line.strip() for line in text.strip().splitlines()]
    mistakes = _mistakes(tmp_path, "\n".join(["[listeners]", *lines, "[node]", "backlgo = 1"]))
    told = dict(mistake.split(": ", 1) for mistake in mistakes)
    file = "(configuration file)"
    assert told.pop(f"node.backlgo {file}") == "no such setting (did you mean node.backlog?)"
    assert told.pop(f"listeners.typo.adress ({PREFIX}TYPO__ADRESS)") == (
        "no such setting (did you mean listeners.typo.address?)"
    )
    assert told.pop("listeners.typo.address (default)") == "Field required"
    need = "a mqtts:// listener needs a"
    assert told.pop("listeners.bare.certificate (default)") == f"{need} certificate: a PEM file"
    assert told.pop("listeners.bare.key (default)") == f"{need} key: a PEM file"
    assert "a ws:// listener has no certificate" in told.pop(f"listeners.web.certificate {file}")
    assert told.pop(f"listeners.missing.certificate {file}").endswith(f"{none}: No such file or directory")
    assert told.pop(f"listeners.directory.key {file}").endswith(f"{tmp_path}: Is a directory")
    assert told.pop(f"listeners.stranger.key {file}").endswith(f"{other.key} is not the key of {files.file}")
    assert told.pop(f"listeners.swapped.key {file}").endswith(" is no PEM file with a certificate")
    assert told.pop(f"listeners.twice.key {file}").endswith(" is no PEM file with a private key")
    assert "passphrase" in told.pop(f"listeners.locked.key {file}")
    assert [setting for setting in told if setting.startswith("listeners.Odd")] == list(told)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("ws://127.0.0.1:5000", "ws://127.0.0.1:5001", None),
        ("ws://127.0.0.1:0", "ws://127.0.0.1:0", None),
        (
            "ws://127.0.0.1:5000/a",
            "ws://127.0.0.1:5000/b",
            "second: 127.0.0.1:5000 is used by another",
        ),
        ("ws://127.0.0.1:5001", "ws://127.0.0.1:1883", "second: 127.0.0.1:1883 is used by another listener"),
        ("ws://127.0.0.1:8080", "ws://127.0.0.1:5001", "first: 127.0.0.1:8080 is used by another listener"),
        ("ws://0.0.0.0:5000", "ws://127.0.0.1:5001", "other machines can reach 0.0.0.0:5000"),
    ],
)
def test_addresses_are_used_once_and_are_not_open_doors(
    tmp_path: Path, first: str, second: str, reason: str | None
) -> None:
    text = f"[listeners]\nfirst = {{address = '{first}'}}\nsecond = {{address = '{second}'}}\n"
    if reason is None:
        assert len(load({}, _config(tmp_path, text)).listeners) == 2
        return
    (mistake,) = _mistakes(tmp_path, text)
    assert reason in mistake
    if first == "ws://0.0.0.0:5000":
        assert load({"node": {"allow_anonymous": True}}, _config(tmp_path, text)).listeners


def test_a_weak_certificate_is_told(tmp_path: Path) -> None:
    weak = Certificate(tmp_path / "weak.crt", tmp_path / "weak.key")
    command = ["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=x"]
    command += ["-keyout", str(weak.key), "-out", str(weak.file)]
    subprocess.run([require_tool("openssl"), *command], check=True, capture_output=True)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(weak.file, weak.key)
    except ssl.SSLError:
        (mistake,) = _mistakes(tmp_path, _secure(weak))
        assert "too weak" in mistake
    else:  # where OpenSSL has security level 1
        assert load({}, _config(tmp_path, _secure(weak))).listeners


def test_limits_of_a_listener() -> None:
    fields = {"address": "mqtt://127.0.0.1:5", "connections_maximum": 7, "messages_per_second": 0}
    few = restore(dump(load({"listeners": {"few": fields}}))).all_listeners()[1]
    assert (few.connections_maximum, few.messages_per_second, few.bytes_per_second) == (7, 0.0, None)
