"""Where a connection came from."""

from typing import NamedTuple, TypeAlias

Peer: TypeAlias = tuple[object, ...]
"""The other end of a connection as sockets name it: host, port, and for IPv6 two more."""


class Origin(NamedTuple):
    """Where a client is whose connection a proxy has passed on, as a Peer."""

    host: str
    port: int
