"""Addresses to listen on, as people write them."""

import ipaddress
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SOCKET_PATH_MAXIMUM: Final = 107 if sys.platform == "linux" else 103
"""Bytes of the path of a unix socket."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port to listen on; port 0 lets the system pick one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A host name other than `localhost` counts as public."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SocketPath:
    """A unix socket to listen on."""

    path: str

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        return True

    def __str__(self) -> str:
        return self.path


Place = Address | SocketPath


def advertised(addresses: Sequence[Address], own_ip: str = "") -> Address | None:
    """Which of its addresses others are told: one that they can reach, if there is one. `own_ip` is what they
    call this machine, if it is known: in place of "all its addresses"."""
    public = (address for address in addresses if not address.is_loopback)
    chosen = next(public, addresses[0] if addresses else None)
    if chosen is not None and chosen.host in ("0.0.0.0", "::") and own_ip:
        return Address(own_ip, chosen.port)
    return chosen


def parse_address(value: object) -> Address:
    """Read `HOST:PORT` or `[IPV6]:PORT`; ValueError says what is missing."""
    if isinstance(value, Address):
        return value
    host, colon, port = str(value).strip().rpartition(":")
    if not colon or not host:
        raise ValueError("not HOST:PORT (every address of this machine is 0.0.0.0:PORT)")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets: [HOST]:PORT")
    if not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("the port is not a number from 0 to 65535")
    return Address(host, int(port))
