"""The HTTP request that asks for WebSocket: whether it may, and by which subprotocol. No I/O.

A browser connects for any page to wherever that says, and names its origin. Where nobody is asked who he is,
a page from anywhere would be a client of brokers that only its reader can reach. There only pages of this
machine are let in: their host is a loopback address, or the one that the page has connected to. Of a listener
that no other machine can reach the latter has to be a number: a name may lead anywhere, and be made to lead
here meanwhile (DNS rebinding). If TLS has proved the name that can't be.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final, Protocol

from broker.settings import plain_origin

SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")
"""What we speak, what we like best first [MQTT-6.0.0-4]. The second is what clients of MQTT 3.1 asked for."""

WEBSOCKET_VERSION: Final = "13"


class Headers(Protocol):
    """Of a request; names in any case, and each may be there several times."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """All values of a name."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a request that is not let in."""

    status: HTTPStatus
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pages:
    """Which pages may connect: those of `origins`, or (None) those of this machine."""

    origins: frozenset[str] | None
    trusts_names: bool
    """Whether a name that a page has connected to is one of ours."""

    def refusal(self, headers: Headers) -> Refusal | None:
        """None for who is let in, as are all that aren't browsers."""
        given = headers.getall("Origin", [])
        if not given or (len(given) == 1 and self._has(given[0].strip(), headers.getall("Host", []))):
            return None
        return Refusal(HTTPStatus.FORBIDDEN, "pages of this origin are not among those of the listener")

    def _has(self, given: str, hosts: list[str]) -> bool:
        origins, origin = self.origins, plain_origin(given)
        if origins is not None and not origins.isdisjoint(("*", given, origin)):
            return True
        place = given.lower().partition("://")[2]
        host = _host(place)
        if origins is None and origin is not None and _is_loopback(host):
            return True
        if not place or len(hosts) != 1:
            return False
        asked = hosts[0].strip().lower()
        # No page is served here: who names the very address that he connects to is no browser (paho does so),
        # or has a proxy in front that serves both.
        is_own = place == asked or (origins is None and host == _host(asked))
        return is_own and (self.trusts_names or _is_number(host) or _is_loopback(host))


def _host(place: str) -> str:
    """Without its port, and brackets."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    host, colon, _ = place.rpartition(":")
    return host if colon else place


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_number(host) and ip_address(host).is_loopback


def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def choose_subprotocol(path: str, target: bytes, headers: Headers) -> str | Refusal:
    """The subprotocol for a request of `target`, where MQTT is at `path`."""
    if target.partition(b"?")[0] != path.encode():
        return Refusal(HTTPStatus.NOT_FOUND, f"MQTT over WebSocket is at {path}")
    if "websocket" not in _tokens(headers, "Upgrade") or "upgrade" not in _tokens(headers, "Connection"):
        return _upgrade_required("only WebSocket is spoken here")
    if _tokens(headers, "Sec-WebSocket-Version") != [WEBSOCKET_VERSION]:
        return _upgrade_required(f"only version {WEBSOCKET_VERSION} of WebSocket is spoken here")
    offered = _tokens(headers, "Sec-WebSocket-Protocol")
    for subprotocol in SUBPROTOCOLS:
        if subprotocol in offered:
            return subprotocol
    return Refusal(HTTPStatus.BAD_REQUEST, "the subprotocol mqtt is not offered")  # [MQTT-6.0.0-3]


def _upgrade_required(reason: str) -> Refusal:
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": WEBSOCKET_VERSION}
    return Refusal(HTTPStatus.UPGRADE_REQUIRED, reason, headers)


def _tokens(headers: Headers, name: str) -> list[str]:
    """The parts of a list header, in lower case. Firefox says `Connection: keep-alive, Upgrade`."""
    values: Iterable[str] = headers.getall(name, [])
    return [token for value in values for part in value.split(",") if (token := part.strip().lower())]
