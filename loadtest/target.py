"""Where the load goes. In the wrong place a load is an attack: without consent it stays on this machine."""

import ipaddress
import socket
from dataclasses import dataclass


class TargetError(ValueError):
    """The target can't be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A broker's address, resolved: the address that was checked is the one that is used."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_address(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`, `[IPV6]:PORT` or `HOST` (port 1883). Raises TargetError."""
    host, _, port_text = text.rpartition(":")
    if not host or text.endswith("]"):
        host, port_text = text, "1883"
    if not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) < 65536:
        raise TargetError(f"{text!r} is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise TargetError(f"{text!r}: write an IPv6 address as [ADDRESS]:PORT")
    if not host:
        raise TargetError(f"{text!r} names no host")
    return host, int(port_text)


def resolve_target(text: str, *, owned: bool) -> Target:
    """Resolve `HOST:PORT`. Raises TargetError, also if it is another machine and not declared `owned`."""
    host, port = split_address(text)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TargetError(f"{host}: {error.strerror or error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    # Every address counts, not only the one that would be used: a name may have both kinds.
    if not owned and not all(
        ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses
    ):
        raise TargetError(
            f"{host} is not on this machine: load it only if it is yours, with --i-own-this-target"
        )
    return Target(addresses[0], port)
