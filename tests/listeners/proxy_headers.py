"""Headers of the PROXY protocol as a proxy makes them."""

import socket
from ipaddress import IPv4Address, IPv6Address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
INET, INET6, UNIX = 0x11, 0x21, 0x31
HEALTH_CHECK = SIGNATURE + b"\x20\x00\x00\x00"
UNKNOWN = b"PROXY UNKNOWN\r\n"
V4, V6 = IPv4Address("192.0.2.7"), IPv6Address("2001:db8::7")

Host = IPv4Address | IPv6Address


def text_header(host: Host, port: int, to: Host | None = None, to_port: int = 1883) -> bytes:
    """Version 1."""
    return f"PROXY TCP{host.version} {host} {to or host} {port} {to_port}\r\n".encode()


def binary_header(host: Host, port: int, extra: bytes = b"", command: int = PROXY) -> bytes:
    """Version 2; `extra`: what follows the addresses."""
    family = INET if host.version == 4 else INET6
    block = 2 * host.packed + port.to_bytes(2) + (1883).to_bytes(2) + extra
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2) + block


def behind(port: int, header: bytes, *, host: str = "127.0.0.1") -> socket.socket:
    """A connection on which this is said first."""
    plain = socket.create_connection((host, port), 5.0)
    plain.sendall(header)
    return plain
