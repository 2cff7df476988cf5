"""Brings the index of subscriptions up to date by the change log."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import anyio

from broker.routing.index import SubscriptionIndex
from broker.routing.rows import apply_changes, load_index
from cluster.store import inboxes, subscriptions
from cluster.store.errors import ItemError, StoreUnavailable
from cluster.store.lane import Call, Exchange, Request
from cluster.store.reply import as_text
from cluster.store.store import Store

_AGAIN_SECONDS: Final = 0.1

logger = logging.getLogger(__name__)

Exchanging: TypeAlias = Callable[[Sequence[Call], bool, Callable[[], Sequence[Call]]], Awaitable[Exchange]]
"""Asks the store: calls, whether to read the version, and the calls to send if it is asked again."""


class ChangeLog:
    """As one node reads it."""

    def __init__(self, index: SubscriptionIndex, store: Store, incarnation: str) -> None:
        self._index = index
        self._store = store
        self._incarnation = incarnation

    async def read(self, exchange: Exchanging) -> tuple[bool, str]:
        """Applies changes that others, and we ourselves, have logged; whether there are more, and the newest
        entry of the inbox."""
        requests: list[Request] = [
            subscriptions.log_since(self._index.version),
            inboxes.inbox_tail(self._incarnation),
        ]
        calls = [Call("free", requests)]
        (answer,) = (await exchange(calls, False, lambda: calls)).replies
        if isinstance(answer, Exception):
            raise answer
        for reply in answer:
            if isinstance(reply, ItemError):
                raise reply
        log, tail = subscriptions.parse_log(answer[0]), as_text(answer[1])
        if log is None:  # fell behind the capped log, or another term
            logger.warning("the log of subscriptions does not reach back to ours: loading all of them")
            await self._load()
            return True, tail
        apply_changes(self._index, log.changes, log.version)
        return log.more, tail

    async def _load(self) -> None:
        try:
            await load_index(self._index, self._store)
        except StoreUnavailable as error:  # by the time that the lane has it again, there may be another log
            logger.warning("subscriptions not loaded, once more: %s", error)
            await anyio.sleep(_AGAIN_SECONDS)
