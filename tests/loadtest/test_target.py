"""Addresses, and the fence around this machine."""

import socket

import pytest

from loadtest.target import Target, TargetError, resolve_target, split_address


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
