"""Pages of which origins may connect."""

import pytest
from multidict import CIMultiDict

from broker.listeners.listener import choose_pages
from broker.listeners.upgrade import Pages
from broker.settings import ListenerSettings
from tests.tools import Certificate

OWN = Pages(None, False)
OWN_NAMED = Pages(None, True)
LISTED = Pages(frozenset({"https://app.example", "http://[2001:db8::1]:8080", "null"}), True)
ALL = Pages(frozenset({"*"}), False)
NONE = Pages(frozenset(), False)
NONE_NAMED = Pages(frozenset(), True)


def _headers(origins: list[str], host: str | None) -> CIMultiDict[str]:
    headers = CIMultiDict([("origin", origin) for origin in origins])
    if host is not None:
        headers.add("Host", host)
    return headers


@pytest.mark.parametrize(
    ("pages", "origin", "host"),
    [
        (LISTED, "https://app.example", "broker.example"),
        (LISTED, "HTTPS://App.Example:443", "broker.example"),
        (LISTED, "http://[2001:db8::1]:8080", "broker.example"),
        (LISTED, "null", "broker.example"),
        (ALL, "null", "broker.example"),
        (ALL, "http://anything.example", "broker.example"),
        (ALL, "nonsense", "broker.example"),
        (OWN, "http://localhost:3000", "broker.example:8083"),
        (OWN, "http://app.localhost", "broker.example:8083"),
        (OWN, "http://127.9.9.9", "broker.example"),
        (OWN, "http://[::1]:1234", "broker.example"),
        (OWN, "http://10.0.0.5", "10.0.0.5:8083"),
        (OWN, "http://[2001:db8::5]:80", "[2001:db8::5]:8083"),
        (OWN_NAMED, "https://broker.example", "broker.example:8084"),
        (OWN_NAMED, "https://broker.example", "Broker.Example"),
        # As paho does; its addresses of IPv6 have no brackets.
        (OWN, "http://::1:8083", "::1:8083"),
        (NONE, "http://localhost:8083", "localhost:8083"),
        (NONE, "http://10.0.0.5:8083", "10.0.0.5:8083"),
        (NONE_NAMED, "http://broker.example:8083", "broker.example:8083"),
    ],
)
def test_who_is_let_in(pages: Pages, origin: str, host: str) -> None:
    assert pages.refusal(_headers([origin], host)) is None


@pytest.mark.parametrize(
    ("pages", "origins", "host"),
    [
        (LISTED, ["http://app.example"], "broker.example"),
        (LISTED, ["https://app.example:8443"], "broker.example"),
        (LISTED, ["https://app.example.evil.example"], "broker.example"),
        (LISTED, ["https://app.example/"], "broker.example"),
        (LISTED, ["https://app.example", "https://app.example"], "broker.example"),
        (LISTED, [""], "broker.example"),
        (LISTED, ["*"], "broker.example"),
        (LISTED, ["http://localhost"], "broker.example"),
        (NONE, ["null"], "broker.example"),
        (NONE_NAMED, ["null"], ""),
        (NONE, ["http://evil.example:8083"], "evil.example:8083"),
        (NONE_NAMED, ["http://10.0.0.5:8080"], "10.0.0.5:8083"),
        (NONE_NAMED, ["http://localhost:8080"], "10.0.0.5:8083"),
        (OWN, ["null"], "localhost"),
        (OWN, ["http://::1:8083"], "::2:8083"),
        (OWN, ["file://"], "localhost"),
        (OWN, ["http://evil.example"], "localhost:8083"),
        (OWN, ["http://evil.example"], "evil.example:8083"),  # a name that was made to lead here
        (OWN, ["http://localhost.evil.example"], "127.0.0.1"),
        (OWN, ["http://127.0.0.1.evil.example"], "127.0.0.1"),
        (OWN, ["http://evil.example@localhost"], "localhost"),
        (OWN, ["http://10.0.0.6"], "10.0.0.5:8083"),
        (OWN, ["http://10.0.0.5"], None),
        (OWN, ["http://[::zz]"], "[::zz]"),
        (OWN_NAMED, ["https://evil.example"], "broker.example"),
        (OWN_NAMED, ["https://evil.example"], "not a host"),
    ],
)
def test_who_is_not(pages: Pages, origins: list[str], host: str | None) -> None:
    refusal = pages.refusal(_headers(origins, host))
    assert refusal is not None
    assert refusal.status == 403


@pytest.mark.parametrize("pages", [LISTED, ALL, NONE, OWN, OWN_NAMED])
def test_clients_that_are_no_browsers_name_none(pages: Pages) -> None:
    assert pages.refusal(_headers([], "broker.example")) is None


def test_two_hosts_are_none() -> None:
    headers = _headers(["http://10.0.0.5"], "10.0.0.5")
    headers.add("host", "10.0.0.5")
    assert OWN.refusal(headers) is not None


@pytest.mark.parametrize(
    ("kind", "more", "lets_anybody_in", "expected"),
    [
        ("ws", {}, True, Pages(None, False)),
        ("ws", {}, False, Pages(frozenset({"*"}), False)),
        ("ws", {"origins": ["http://app.example"]}, False, Pages(frozenset({"http://app.example"}), False)),
        ("wss", {}, True, Pages(None, True)),
        ("wss", {}, False, Pages(frozenset({"*"}), True)),
        ("wss", {"client_ca": True}, False, Pages(None, True)),  # a browser shows it for any page
    ],
)
def test_what_holds_if_nothing_is_said(
    certificate: Certificate, kind: str, more: dict[str, object], lets_anybody_in: bool, expected: Pages
) -> None:
    files: dict[str, object] = {}
    if kind == "wss":
        files = {"certificate": certificate.file, "key": certificate.key}
    if "client_ca" in more:
        more = {"client_ca": certificate.file}
    settings = ListenerSettings.model_validate({"address": f"{kind}://127.0.0.1:0", **files, **more})
    assert choose_pages(settings, lets_anybody_in) == expected
