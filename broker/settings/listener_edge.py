"""What is between a listener and its clients: who may open a unix socket, which proxies are believed, which
pages may connect."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from broker.settings.listener_address import Kind, ListenerAddress, ListenerPlace

SOCKET_MODE: Final = 0o660
LISTED_MAXIMUM: Final = 1000
"""Entries of a list."""

Network = IPv4Network | IPv6Network

_MODE: Final = re.compile(r"0?[0-7]{3}")
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/?#@:]+)(:(?P<port>\d+))?"
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def plain_origin(text: str) -> str | None:
    """An origin as browsers write it: in lower case, without the port if that goes without saying. None if it
    isn't one."""
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        return None
    scheme, host, port = found["scheme"], found["host"], found["port"]
    return f"{scheme}://{host}" if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def _parse_mode(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str) or not _MODE.fullmatch(value):
        raise ValueError('not the permissions of a file, in octal and as text: "0660"')
    mode = int(value, 8)
    if not mode & 0o200:
        raise ValueError("without the right to write for its owner nobody can connect")
    return mode


def _split(value: object, what: str) -> list[str]:
    """A list of a file, or the text of a variable."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) > LISTED_MAXIMUM:
        raise ValueError(f"not a list of at most {LISTED_MAXIMUM:,} {what}")
    return [text for part in parts if (text := str(part).strip())]


def _parse_networks(value: object) -> tuple[Network, ...]:
    return tuple(map(_parse_network, _split(value, "addresses or networks")))


def _parse_network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address, and no network like 10.0.0.0/8") from None


def _parse_origins(value: object) -> tuple[str, ...] | None:
    return None if value is None else tuple(map(_parse_origin, _split(value, "origins")))


def _parse_origin(text: str) -> str:
    origin = text if text in ("*", "null") else plain_origin(text)
    if origin is None:
        raise ValueError(f"{text!r} is no origin like https://app.example, nor null or *")
    return origin


class ListenerEdge(ListenerPlace):
    """A part of the table of a listener."""

    socket_mode: Annotated[
        int | None,
        BeforeValidator(_parse_mode),
        PlainSerializer(lambda mode: mode if mode is None else f"{mode:04o}", when_used="json"),
    ] = Field(
        default=None,
        description="Who may open a `unix://` socket, as permissions of a file in octal, in quotes. `0660` if"
        " nothing is said: the user of the node, and its group. Too small: clients are refused. Too large:"
        " everybody on this machine is a client.",
    )
    proxy_protocol: bool = Field(
        default=False,
        description="Whether a proxy is in front, which says by the PROXY protocol (version 1 or 2) where"
        " each client is. A connection without its header is closed; so such a listener is for the proxy"
        " alone. As others stand behind that, it counts as an address that other machines can reach.",
    )
    trusted_proxies: Annotated[
        tuple[Network, ...],
        BeforeValidator(_parse_networks),
        PlainSerializer(lambda networks: list(map(str, networks)), when_used="json"),
        NoDecode,
    ] = Field(
        default=(),
        description="Addresses and networks of the proxies whose header is believed, such as"
        ' `["10.0.0.5", "fd00::/64"]`; in a variable separated by commas. Needed with `proxy_protocol`,'
        " but for a unix socket, where `socket_mode` says who may. Too small: connections of a proxy are"
        " closed. Too large: whoever is in there says that he is at any address he likes.",
    )
    origins: Annotated[tuple[str, ...] | None, BeforeValidator(_parse_origins), NoDecode] = Field(
        default=None,
        description="Origins of the pages that browsers may connect from by WebSocket, such as"
        ' `["https://app.example"]`; `*` for all, `null` for files and the like; in a variable separated by'
        " commas. Clients that aren't browsers name none, and are let in. If nothing is said: all pages where"
        " every client has to say who it is; else those of this machine only. Too small: pages are refused"
        " (403). Too large: any page that somebody looks at is a client in his network.",
    )

    @field_validator("socket_mode")
    @classmethod
    def _is_of_socket(cls, mode: int | None, info: ValidationInfo) -> int | None:
        kind = _kind(info)
        if mode is not None and kind not in (None, Kind.UNIX):
            raise ValueError("only unix:// sockets have permissions")
        return SOCKET_MODE if mode is None and kind is Kind.UNIX else mode

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_fit(cls, networks: tuple[Network, ...], info: ValidationInfo) -> tuple[Network, ...]:
        kind = _kind(info)
        is_proxied = info.data.get("proxy_protocol")
        if kind is None or is_proxied is None:  # mistakes of their own
            return networks
        if networks and not is_proxied:
            raise ValueError("nobody is believed without proxy_protocol")
        if networks and kind is Kind.UNIX:
            raise ValueError("who may open a unix socket is what socket_mode says")
        if is_proxied and not networks and kind is not Kind.UNIX:
            raise ValueError("proxy_protocol needs the addresses of the proxies that are believed")
        return networks

    @field_validator("origins")
    @classmethod
    def _is_of_websocket(
        cls, origins: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        kind = _kind(info)
        if origins is not None and kind is not None and not kind.is_websocket:
            raise ValueError("only ws:// and wss:// are for pages")
        return origins

    @property
    def is_public(self) -> bool:
        """Whether clients on other machines can reach it."""
        return self.proxy_protocol or not self.address.address.is_loopback


def _kind(info: ValidationInfo) -> Kind | None:
    """None if the address is a mistake of its own."""
    address: ListenerAddress | None = info.data.get("address")
    return None if address is None else address.kind
