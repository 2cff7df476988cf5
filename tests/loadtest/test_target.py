"""Addresses, and the fence around this machine."""

import socket
from pathlib import Path

import pytest

from loadtest.target import Scheme, Security, Target, TargetError, resolve_target, split_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1884", ("127.0.0.1", 1884)),
        ("localhost", ("localhost", 1883)),
        ("[::1]:1884", ("::1", 1884)),
        ("[::1]", ("::1", 1883)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":1883", "localhost:", "localhost:x", "localhost:0", "localhost:65536", "::1:1883"]
)
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(TargetError):
        split_address(text)


def test_the_loopback_needs_no_consent() -> None:
    assert resolve_target("127.0.0.1:9", owned=False) == Target("127.0.0.1", 9)
    assert str(resolve_target("[::1]:9", owned=False)) == "[::1]:9"


def test_another_machine_needs_consent() -> None:
    with pytest.raises(TargetError, match="--i-own-this-target"):
        resolve_target("192.0.2.1:1883", owned=False)
    assert resolve_target("192.0.2.1:1883", owned=True) == Target("192.0.2.1", 1883)


def test_one_foreign_address_of_a_name_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, *, type: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(2, type, 6, "", ("127.0.0.1", port)), (2, type, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(TargetError, match="not on this machine"):
        resolve_target("both.example:1883", owned=False)


def test_an_unknown_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(TargetError, match=r"nowhere\.example: Name or service not known"):
        resolve_target("nowhere.example:1883", owned=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt://127.0.0.1", Target("127.0.0.1", 1883)),
        ("mqtts://127.0.0.1", Target("127.0.0.1", 8883, Scheme.MQTTS)),
        ("ws://127.0.0.1", Target("127.0.0.1", 8083, Scheme.WS)),
        ("wss://127.0.0.1:9/a/b", Target("127.0.0.1", 9, Scheme.WSS, "/a/b")),
        ("ws://[::1]/", Target("::1", 8083, Scheme.WS)),
    ],
)
def test_schemes(text: str, expected: Target) -> None:
    assert resolve_target(text, owned=False) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://127.0.0.1", "are known"),
        ("127.0.0.1:1883/mqtt", "only WebSocket has a path"),
        ("ws://", "names no host"),
        ("wss://192.0.2.1/mqtt", "--i-own-this-target"),
    ],
)
def test_bad_schemes_are_refused(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        resolve_target(text, owned=False)


@pytest.mark.parametrize("name", ["ca_file", "cert_file"])
def test_files_for_tls_are_read_before_anybody_connects(tmp_path: Path, name: str) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for file in (empty, tmp_path / "missing.pem"):
        path = str(file)
        security = Security(ca_file=path) if name == "ca_file" else Security(cert_file=path)
        with pytest.raises(TargetError, match=path):
            resolve_target("mqtts://127.0.0.1", owned=False, security=security)


def test_a_target_is_told_as_it_is_written() -> None:
    assert str(Target("::1", 9, Scheme.WSS, "/x")) == "wss://[::1]:9/x"
    assert str(Target("127.0.0.1", 9, Scheme.MQTTS)) == "mqtts://127.0.0.1:9"
