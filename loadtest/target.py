"""Where the load goes, and how. In the wrong place a load is an attack: without consent it stays here."""

import functools
import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

DEFAULT_PATH: Final = "/mqtt"
_ADDRESS: Final = re.compile(r"(?:(?P<scheme>[a-z]+)://)?(?P<address>[^/]*)(?P<path>/.*)?", re.DOTALL)


class TargetError(ValueError):
    """The target can't be used; the message says why and what to do."""


class Scheme(StrEnum):
    """What carries the bytes of MQTT."""

    MQTT = "mqtt"
    MQTTS = "mqtts"
    WS = "ws"
    WSS = "wss"

    @property
    def is_secure(self) -> bool:
        """Whether it is TLS."""
        return self in (Scheme.MQTTS, Scheme.WSS)

    @property
    def is_websocket(self) -> bool:
        """Whether the bytes are in frames."""
        return self in (Scheme.WS, Scheme.WSS)


_PORTS: Final = {Scheme.MQTT: 1883, Scheme.MQTTS: 8883, Scheme.WS: 8083, Scheme.WSS: 8084}


@dataclass(frozen=True, slots=True)
class Security:
    """What a client shows and believes at TLS. Names of files: each process reads them for itself."""

    ca_file: str | None = None  # None: what the system believes
    cert_file: str | None = None
    key_file: str | None = None  # None: it is in `cert_file`
    insecure: bool = False  # believe everybody


@dataclass(frozen=True, slots=True)
class Target:
    """A broker's address, resolved: the address that was checked is the one that is used."""

    host: str
    port: int
    scheme: Scheme = Scheme.MQTT
    path: str = DEFAULT_PATH  # of WebSocket
    name: str = field(default="", compare=False)  # the host as it was written: certificates have names
    security: Security = Security()

    def __str__(self) -> str:
        address = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        if self.scheme is Scheme.MQTT:
            return address
        return f"{self.scheme}://{address}{self.path if self.scheme.is_websocket else ''}"


def split_address(text: str, default_port: int = 1883) -> tuple[str, int]:
    """Split `HOST:PORT`, `[IPV6]:PORT` or `HOST`. Raises TargetError."""
    host, _, port_text = text.rpartition(":")
    if not host or text.endswith("]"):
        host, port_text = text, str(default_port)
    if not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) < 65536:
        raise TargetError(f"{text!r} is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise TargetError(f"{text!r}: write an IPv6 address as [ADDRESS]:PORT")
    if not host:
        raise TargetError(f"{text!r} names no host")
    return host, int(port_text)


def resolve_target(text: str, *, owned: bool, security: Security = Security()) -> Target:
    """Resolve `HOST:PORT` or `SCHEME://HOST:PORT/PATH`.

    Raises TargetError, also if it is another machine and not declared `owned`.
    """
    scheme, address, path = _split_scheme(text)
    host, port = split_address(address, _PORTS[scheme])
    if scheme.is_secure:
        ssl_context(security)  # told now, not by each of a thousand connections
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
    return Target(addresses[0], port, scheme, path, host, security if scheme.is_secure else Security())


def _split_scheme(text: str) -> tuple[Scheme, str, str]:
    found = _ADDRESS.fullmatch(text)
    assert found is not None  # whatever it is, it is an address with nothing before and behind it
    try:
        scheme = Scheme(found["scheme"] or "mqtt")
    except ValueError:
        raise TargetError(f"{text!r}: mqtt://, mqtts://, ws:// and wss:// are known") from None
    path = found["path"] or ""
    if path.strip("/") and not scheme.is_websocket:
        raise TargetError(f"{text!r}: only WebSocket has a path")
    return scheme, found["address"], path if len(path) > 1 else DEFAULT_PATH


@functools.lru_cache
def ssl_context(security: Security) -> ssl.SSLContext:
    """The client's side of TLS. Raises TargetError if a file can't be used."""
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise TargetError(f"{security.ca_file}: no certificates to believe: {error.strerror}") from error
    if security.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if security.cert_file is not None:
        try:
            context.load_cert_chain(security.cert_file, security.key_file)
        except OSError as error:
            raise TargetError(
                f"{security.cert_file}: no certificate with its key: {error.strerror}"
            ) from error
    return context
