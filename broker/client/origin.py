"""Where a connection came from."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple


class Origin(NamedTuple):
    """Where a client is whose connection a proxy has passed on; as the name of a peer would say it."""

    host: str
    port: int


def plain_host(host: str) -> str:
    """An address as rules have it: an IPv4 address within IPv6 is one of IPv4, and which network card it came
    by (`fe80::1%eth0`) is no part of it."""
    host = host.partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:  # not of the internet
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped if isinstance(mapped, IPv4Address) else address)
