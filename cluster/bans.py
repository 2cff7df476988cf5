"""The ban list of the cluster: changing it, and following it.

Each change has a number, and is told on a channel. A node that sees a gap, or whose connection to the channel
was interrupted, reads the whole list again; what comes on the channel meanwhile is newer than what it reads.
Once a second or so it looks whether it has the last number, and forgets for all what has ended.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import anyio

from broker.auth.ban import Ban, Target
from broker.auth.ban_list import BANS_MAXIMUM, PATTERNS_MAXIMUM, BanList
from broker.observability.audit import record
from cluster.store import bans, keys
from cluster.store.bans import Added, Change
from cluster.store.errors import ItemError, RedisFull, StoreError, StoreUnavailable
from cluster.store.reply import as_int
from cluster.store.store import Store

INTERVAL_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.5
_SWEPT: Final = 100  # bans in one look: a call carries about a millisecond of work
_DAMAGE: Final = (TypeError, ValueError, AttributeError)

logger = logging.getLogger(__name__)


class TooManyBans(StoreError):
    """There is no room for one more."""


class BanBook:
    """Reads and changes the list in Redis, from any process of the cluster. Changes are in the audit log."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(
        self, target: Target, *, reason: str, by: str, seconds: float | None, is_automatic: bool = False
    ) -> Added:
        """For so many seconds; None: for ever. Raises TooManyBans, StoreError."""
        request = bans.add(
            target,
            reason=reason,
            by=by,
            milliseconds=0 if seconds is None else max(1, int(seconds * 1000)),
            is_automatic=is_automatic,
            maximum=BANS_MAXIMUM,
            patterns_maximum=PATTERNS_MAXIMUM,
        )
        added = bans.parse_add(await self._ask(request), target)
        if added.ban is None:
            raise TooManyBans(
                f"there are {BANS_MAXIMUM:,} bans, or {PATTERNS_MAXIMUM:,} with *, and no room for more"
            )
        if added.is_new:
            record("ban_added", ban=target.name, reason=reason, by=by, seconds=seconds)
        return added

    async def remove(self, target: Target, by: str) -> bool:
        """Whether there was one. Raises StoreError."""
        was_there = as_int(await self._ask(bans.remove(target))) == 1
        if was_there:
            record("ban_removed", ban=target.name, by=by)
        return was_there

    async def page(self, cursor: int) -> tuple[list[Ban], int]:
        """Some of the bans, and where to go on; 0 is the beginning, and the end. Bans that are
        set meanwhile may be missing. Raises StoreError."""
        cursor, page = await self._store.ban_page(cursor)
        return list(_readable(page)), cursor

    async def _ask(self, request: list[object]) -> object:
        """Also when Redis is full: somebody may want to help just then."""
        (reply,) = await self._store.call([request], function="free")
        if isinstance(reply, ItemError):
            raise reply
        return reply


class BanFollower:
    """Keeps `held` as Redis has it. `on_added` is told of bans that were not there before; it must not wait
    or raise."""

    def __init__(
        self,
        store: Store,
        held: BanList,
        on_added: Callable[[Sequence[Ban]], None],
    ) -> None:
        self._store = store
        self._held = held
        self._on_added = on_added
        self._channel = keys.bans_channel(store.prefix)
        self._version = -1
        self._missed: list[Change] | None = None  # while the list is read
        self._must_load = anyio.Event()
        self.is_loaded = anyio.Event()
        """Set when the list has been read for the first time."""

    async def run(self) -> None:
        """Follows until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_listening)
            tasks.start_soon(self._keep_sweeping)

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except StoreError as error:
                logger.debug("the channel of bans has failed: %s", error)
            await anyio.sleep(_RETRY_SECONDS)

    async def _listen(self) -> None:
        self._missed = []
        connection = await self._store.connect_to_channels([self._channel], self._take)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_loaded, connection.abort)
                reason = await connection.until_closed()
                tasks.cancel_scope.cancel()
        finally:
            connection.abort("closed")
        raise StoreUnavailable(reason)

    async def _keep_loaded(self, abort: Callable[[str], None]) -> None:
        """Reads the list, and again whenever something is missing."""
        try:
            while True:
                self._must_load = anyio.Event()
                await self._load()
                self.is_loaded.set()
                await self._must_load.wait()
        except StoreUnavailable as error:
            abort(str(error))
        except StoreError as error:  # somebody has to look at the keys
            logger.error("the bans could not be read: %s", error)
            abort(str(error))

    async def _load(self) -> None:
        self._missed = self._missed or []
        version = await self._store.ban_version()
        loaded, added, cursor = BanList(), list[Ban](), -1
        while cursor:
            cursor, page = await self._store.ban_page(max(cursor, 0))
            for ban in _readable(page):
                loaded.add(ban)
                if self._held.get(ban.target) != ban:
                    added.append(ban)
        self._held.become(loaded)
        self._version = version
        changes, self._missed = self._missed, None
        if added:
            self._on_added(added)
        for change in changes:
            if change.version > version:
                self._apply(change)

    def _take(self, channel: bytes, payload: bytes) -> None:
        try:
            change = bans.unpack_change(payload)
        except _DAMAGE as error:
            logger.error("a ban that can't be read is left out: %s", error)
            self._reload()
            return
        if self._missed is not None:
            self._missed.append(change)
        elif change.version != self._version + 1:
            self._reload()
        else:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        self._version = change.version
        if change.ban is None:
            self._held.remove(change.target)
        else:
            self._held.add(change.ban)
            self._on_added([change.ban])

    def _reload(self) -> None:
        if self._missed is None:
            self._missed = []
        self._must_load.set()

    async def _keep_sweeping(self) -> None:
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            try:
                await self._sweep()
            except (StoreUnavailable, RedisFull, ItemError) as error:
                logger.debug("bans wait: %s", error)

    async def _sweep(self) -> None:
        before = self._version
        (reply,) = await self._store.call([bans.sweep(_SWEPT)], function="free")
        if isinstance(reply, ItemError):
            raise reply
        swept = bans.parse_sweep(reply)
        if swept.ended:
            for name in swept.ended:
                record("ban_expired", ban=name)
        elif swept.version != before and self._version == before and self._missed is None:
            self._reload()  # what was told has not come


def _readable(page: Mapping[bytes, bytes]) -> Iterator[Ban]:
    """Those of a newer release, or damaged, are left out."""
    for name, packed in page.items():
        try:
            yield bans.unpack(name.decode(), packed)
        except _DAMAGE as error:
            logger.error("a ban that can't be read is left out: %r: %s", name, error)
