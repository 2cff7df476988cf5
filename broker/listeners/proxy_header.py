"""The header by which a proxy says where a client is: versions 1 and 2 of the PROXY protocol. No I/O.

What it says of health checks (LOCAL), of what the proxy doesn't know (UNKNOWN, UNSPEC) and of unix sockets is
nothing: the client is where the connection is from. What version 2 may have behind the addresses (TLVs) is
skipped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from broker.auth.address import plain_address
from broker.client import Origin

TEXT_MAXIMUM: Final = 107
"""Bytes of a header of version 1, with its end of line."""

EXTRA_MAXIMUM: Final = 4096
"""Bytes that one of version 2 may have after its fixed part."""

HEADER_MAXIMUM: Final = 16 + EXTRA_MAXIMUM

_TEXT: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
_PORT_MAXIMUM: Final = 65_535


class BadHeader(Exception):
    """It isn't one, or is broken."""


@dataclass(frozen=True, slots=True)
class Header:
    """A whole one. `origin` None: the client is where the connection is from."""

    origin: Origin | None
    size: int


def parse_header(data: bytes) -> Header | None:
    """The header that `data` begins with; behind it may be more. None if all of `data` is part of one that
    has not come to its end. Raises BadHeader."""
    for begin, parse in _PARSERS:
        if data.startswith(begin):
            return parse(data)
        if begin.startswith(data):
            return None
    raise BadHeader("no header of the PROXY protocol")


def _parse_text(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, TEXT_MAXIMUM)
    if end < 0:
        if len(data) >= TEXT_MAXIMUM:
            raise BadHeader("a line that is too long")
        return None
    try:
        words = data[len(_TEXT) : end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise BadHeader("a line that is not ASCII") from None
    if words[0] == "UNKNOWN":
        return Header(None, end + 2)
    if words[0] not in _TEXT_FAMILIES or len(words) != 5:
        raise BadHeader("a line with other words")
    read = _TEXT_FAMILIES[words[0]]
    _, source, destination, source_port, destination_port = words
    host = _read_host(source, read)
    _read_host(destination, read)
    _read_port(destination_port)
    return Header(Origin(host, _read_port(source_port)), end + 2)


_TEXT_FAMILIES: Final[dict[str, Callable[[str], IPv4Address | IPv6Address]]] = {
    "TCP4": IPv4Address,
    "TCP6": IPv6Address,
}


def _read_host(text: str, read: Callable[[str], IPv4Address | IPv6Address]) -> str:
    try:
        if "%" in text or "/" in text:
            raise ValueError
        return plain_address(str(read(text)))
    except ValueError:
        raise BadHeader("an address that is none") from None


def _read_port(text: str) -> int:
    if not text.isdecimal() or (text[0] == "0" and text != "0") or len(text) > 5 or int(text) > _PORT_MAXIMUM:
        raise BadHeader("a port that is none")
    return int(text)


def _parse_binary(data: bytes) -> Header | None:
    if len(data) < _FIXED:
        return None
    command, family = data[12], data[13]
    size = _FIXED + int.from_bytes(data[14:16])
    if command not in (_LOCAL, _PROXY):
        raise BadHeader("another version or command")
    if size > HEADER_MAXIMUM:
        raise BadHeader("a header that is too long")
    layout = _LAYOUTS.get(family)
    if command == _PROXY and (layout is None or size < _FIXED + layout.size):
        raise BadHeader("addresses that are none")
    if len(data) < size:
        return None
    if command == _LOCAL or layout is None or not layout.width:
        return Header(None, size)
    source = IPv4Address if layout.width == 4 else IPv6Address
    host = plain_address(str(source(data[_FIXED : _FIXED + layout.width])))
    port = _FIXED + 2 * layout.width
    return Header(Origin(host, int.from_bytes(data[port : port + 2])), size)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Of the addresses: two of `width` bytes, then two ports. Without a width they are not looked at."""

    size: int
    width: int = 0


_LAYOUTS: Final = {
    0x00: _Layout(0),  # unspecified
    0x11: _Layout(12, 4),  # TCP over IPv4
    0x21: _Layout(36, 16),  # TCP over IPv6
    0x31: _Layout(216),  # a unix socket
}

_PARSERS: Final = ((_TEXT, _parse_text), (_SIGNATURE, _parse_binary))
