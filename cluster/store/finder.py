"""Where the primary is: fixed by the URL, or told by those who decide it."""

from typing import Protocol

from cluster.store.endpoint import Endpoint


class Finder(Protocol):
    """Asked for each new connection. Its text names the server for people, without a password."""

    async def primary(self) -> Endpoint:
        """The server that takes writes now, as far as is known. Raises StoreUnavailable, StoreStartError."""
        ...


class Fixed:
    """Always the same one."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __str__(self) -> str:
        return str(self._endpoint)

    async def primary(self) -> Endpoint:
        """See Finder."""
        return self._endpoint
