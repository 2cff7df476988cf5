"""The HTTP request that asks for WebSocket: whether it may, and by which subprotocol. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Protocol

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
