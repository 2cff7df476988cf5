"""Where a connection came from."""

from typing import NamedTuple


class Origin(NamedTuple):
    """Where a client is whose connection a proxy has passed on; as the name of a peer would say it."""

    host: str
    port: int
