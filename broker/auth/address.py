"""Addresses of the internet, as sockets and people write them, in one form. No I/O."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

NETWORK_BITS: Final = 64
"""Of an IPv6 address: what one customer has at least."""


def parsed_address(text: str) -> IPv4Address | IPv6Address | None:
    """None for what is not of the internet. What comes by IPv4 to a socket of IPv6 is IPv4, and which network
    card it came by (`fe80::1%eth0`) is no part of it."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def plain_address(text: str) -> str:
    """One form for each address, as rules and bans have it; what is none stays as it is."""
    if ":" not in text:  # of IPv4 there is but one
        return text
    parsed = parsed_address(text)
    return text if parsed is None else str(parsed)


def network_of(text: str) -> str:
    """What counts as one address: of IPv6 the beginning of its /64."""
    if ":" not in text:
        return text
    parsed = parsed_address(text)
    if not isinstance(parsed, IPv6Address):
        return text if parsed is None else str(parsed)
    return str(IPv6Address(int(parsed) >> NETWORK_BITS << NETWORK_BITS))
