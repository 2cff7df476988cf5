"""What the mechanisms are made of, and what becomes of it."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from anyio.abc import TaskStatus

from broker.auth import EnhancedAuthenticator
from broker.auth.cache import VerdictCache
from broker.auth.gate import Gate
from broker.auth.watched import Content, WatchedFile
from broker.client import Guard, Hub
from broker.errors import StartError
from broker.observability.metrics import Counters
from broker.settings import Settings
from cluster.store.store import Store

Watch = Callable[[Hub], Coroutine[object, object, None]]
"""Runs as long as the node."""


class Follow(Protocol):
    """Holds clients to what is in Redis, as long as the node runs. `started` when they may come."""

    async def __call__(self, hub: Hub, store: Store, *, task_status: TaskStatus[None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Guarding:
    """`guard` None: the node asks nothing."""

    guard: Guard | None
    watches: Sequence[Watch]
    gate: Gate | None
    """Where passwords wait to be hashed."""
    follow: Follow | None = None
    authenticators: Mapping[str, EnhancedAuthenticator] = field(default_factory=dict)
    """Authentication Methods by name."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a mechanism is made with. Whatever has to run with the node goes to `watches`."""

    settings: Settings
    counters: Counters
    watches: list[Watch]

    def cache(self) -> VerdictCache:
        """One more, as large and lasting as is set."""
        auth = self.settings.auth
        return VerdictCache(auth.cache_seconds, auth.cache_entries)


def load_now(file: WatchedFile[Content]) -> Content:
    """What is in it. StartError if there are mistakes."""
    try:
        return file.load()
    except ValueError as error:
        raise StartError(str(error)) from None
