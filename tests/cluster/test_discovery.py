"""Lists and names of those who can be asked."""

import socket

import pytest

from cluster import discovery
from cluster.discovery import NoSuchName, urls


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1:8080", ["http://127.0.0.1:8080"]),
        ("http://a:1/", ["http://a:1"]),
        ("http://a:1, https://b:2,,http://a:1", ["http://a:1", "https://b:2"]),
        ("dns+http://127.0.0.1:8080", ["http://127.0.0.1:8080"]),
        ("dns+http://[::1]:8080,c:3", ["http://[::1]:8080", "http://c:3"]),
        ("dns+127.0.0.1", ["http://127.0.0.1:80"]),
    ],
)
def test_what_is_tried(given: str, expected: list[str]) -> None:
    assert urls(given) == expected


def test_a_name_has_an_address_for_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert (host, port) == ("moorline-headless", 8080)
        addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.1", *(f"10.0.1.{number}" for number in range(100))]
        return [(None, None, None, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    found = urls("dns+http://moorline-headless:8080")
    assert found[:2] == ["http://10.0.0.1:8080", "http://10.0.0.2:8080"]
    assert len(found) == discovery.ADDRESSES_MAXIMUM - 1


def test_a_name_without_an_address() -> None:
    with pytest.raises(NoSuchName, match=r"no address of no-such-host\.invalid"):
        urls("dns+http://no-such-host.invalid:1")


@pytest.mark.parametrize(
    "given", ["", ",", "ftp://x", "dns+ftp://x", "http://x/api", "http://", "http://x:port"]
)
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(ValueError, match=r"URL|HOST:PORT|Port"):
        urls(given)
