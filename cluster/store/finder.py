"""Where the primary is: fixed by the URL, or told by those who decide it."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from cluster.store.endpoint import Endpoint

Leave: TypeAlias = Callable[[Endpoint | None], None]
"""Ends all connections to any other server than this one, which is the primary; to all of them, if None."""


class Finder(Protocol):
    """Asked for each new connection. Its text names the server for people, without a password."""

    async def primary(self) -> Endpoint:
        """The server that takes writes now, as far as is known. Raises StoreUnavailable, StoreStartError."""
        ...

    async def watch(self, leave: Leave) -> None:
        """Looks whether it is still the primary, until cancelled; returns at once if nobody would tell."""
        ...

    def close(self) -> None:
        """Ends what it has open."""
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

    async def watch(self, leave: Leave) -> None:
        """See Finder."""

    def close(self) -> None:
        """See Finder."""
