"""Where a listener is, and what is spoken there.

The scheme of the address says what is spoken, as in the addresses that people give to clients.
"""

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer
from pydantic_settings import NoDecode

from broker.settings.address import SOCKET_PATH_MAXIMUM, Place, SocketPath, parse_address
from broker.settings.group import Group

DEFAULT_PATH: Final = "/mqtt"

_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


class Kind(StrEnum):
    """How MQTT is carried."""

    TCP = "tcp"
    TLS = "tls"
    WS = "ws"
    WSS = "wss"
    UNIX = "unix"

    @property
    def scheme(self) -> str:
        """As in the addresses of clients."""
        return {Kind.TCP: "mqtt", Kind.TLS: "mqtts"}.get(self, self.value)

    @property
    def is_secure(self) -> bool:
        """Whether by TLS."""
        return self in (Kind.TLS, Kind.WSS)

    @property
    def is_websocket(self) -> bool:
        """Whether in frames of WebSocket."""
        return self in (Kind.WS, Kind.WSS)


_KIND_OF: Final = {kind.scheme: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class ListenerAddress:
    """`mqtts://HOST:PORT`, `wss://HOST:PORT/PATH`, `unix:///PATH`, and so on. `path` is that of the URL: only
    WebSocket has one."""

    kind: Kind
    address: Place
    path: str = ""

    def __str__(self) -> str:
        """MQTT over TCP is written as it always was, HOST:PORT."""
        return str(self.address) if self.kind is Kind.TCP else f"{self.kind.scheme}://{self.place}"

    @property
    def place(self) -> str:
        """What follows the scheme."""
        return f"{self.address}{self.path}"


def parse_listener_address(value: object) -> ListenerAddress:
    """ValueError says what is wrong. Without a scheme it is MQTT over TCP."""
    if isinstance(value, ListenerAddress):
        return value
    scheme, separator, rest = str(value).strip().rpartition("://")
    kind = _KIND_OF.get(scheme if separator else Kind.TCP.scheme)
    if kind is None:
        raise ValueError(f"does not begin with one of {', '.join(f'{scheme}://' for scheme in _KIND_OF)}")
    if kind is Kind.UNIX:
        return ListenerAddress(kind, _parse_socket_path(rest))
    place, slash, path = rest.partition("/")
    address = parse_address(place)
    if not kind.is_websocket:
        if slash:
            raise ValueError("only ws:// and wss:// have a path")
        return ListenerAddress(kind, address)
    path = slash + path or DEFAULT_PATH
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not the path of a URL")
    return ListenerAddress(kind, address, path)


def _parse_socket_path(path: str) -> SocketPath:
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError("not the whole path of a file: unix:///run/moorline/mqtt.sock")
    if "\0" in path or len(os.fsencode(path)) > SOCKET_PATH_MAXIMUM:
        raise ValueError(f"has a NUL, or more than {SOCKET_PATH_MAXIMUM} bytes, the longest path of a socket")
    return SocketPath(path)


class ListenerPlace(Group):
    """What every other setting of a listener depends on: it is looked at first."""

    address: Annotated[
        InstanceOf[ListenerAddress],
        BeforeValidator(parse_listener_address),
        PlainSerializer(str, when_used="json"),
        NoDecode,
    ] = Field(
        description="`mqtts://HOST:PORT` for MQTT over TLS (8883 by convention), `ws://HOST:PORT/PATH` for"
        " WebSocket (8083), `wss://HOST:PORT/PATH` for WebSocket over TLS (8084), `mqtt://HOST:PORT` for MQTT"
        " over TCP, `unix:///PATH` for MQTT over a unix socket. The path of WebSocket is `/mqtt` if none is"
        " given. Port 0 picks a free port and prints it. An address that other machines can reach also needs"
        " users (`auth`) or `node.allow_anonymous`.",
    )
