"""What the mechanisms are made of, and what becomes of it."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import anyio
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

if TYPE_CHECKING:
    from broker.auth.hashing import Hashing
    from broker.auth.scram import ScramSource

_CLOSE_SECONDS: Final = 1.0

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
    forgets: Sequence[Callable[[], None]] = ()
    """Each empties what somebody remembers of users and rights."""


@dataclass(slots=True)
class Parts:
    """What a mechanism is made with. Whatever has to run with the node goes to `watches`; `scram_sources`:
    those that have keys for SCRAM, in the order in which they are asked."""

    settings: Settings
    counters: Counters
    watches: list[Watch]
    forgets: list[Callable[[], None]] = field(default_factory=list)
    scram_sources: "list[ScramSource]" = field(default_factory=list)
    _hashing: "Hashing | None" = None

    @property
    def gate(self) -> Gate | None:
        """Where passwords wait to be hashed; None if nothing hashes them."""
        return None if self._hashing is None else self._hashing.gate

    def hashing(self) -> "Hashing":
        """That of the node: all mechanisms that look at passwords share it."""
        if self._hashing is None:
            from broker.auth.hashing import Hashing  # large

            self._hashing = Hashing(self.settings.auth.hash_threads, self.settings.auth.hash_queue)
        return self._hashing

    def is_last(self, source: str, later: Mapping[str, bool]) -> bool:
        """Whether somewhere none of the `later` authenticators that are set up is asked after this one. They
        take the time of a hash for whoever is not known; else this one has to."""
        are_set = {name for name, is_set in later.items() if is_set}
        asked = [each.authentication for each in self.settings.listeners.values()]
        return not are_set or any(source in names and are_set.isdisjoint(names) for names in asked if names)

    def cache(self) -> VerdictCache:
        """One more, as large and lasting as is set."""
        auth = self.settings.auth
        cache = VerdictCache(auth.cache_seconds, auth.cache_entries)
        self.forgets.append(cache.clear)
        return cache


def until_stopped(close: Callable[[], Awaitable[None]]) -> Watch:
    """Closes what is open when the node stops."""

    async def wait(hub: Hub) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await close()

    return wait


def load_now(file: WatchedFile[Content]) -> Content:
    """What is in it. StartError if there are mistakes."""
    try:
        return file.load()
    except ValueError as error:
        raise StartError(str(error)) from None
