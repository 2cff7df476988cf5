"""The lane to a primary: one connection, one batch in flight, as fast as many in parallel (and in order).

Theory of operation. `exchange` sends all calls of a batch, and the question for the version of the
subscriptions, in one write; it returns when all is answered. While Redis can't answer (it is gone, loading, a
replica, or its disk is full) the lane connects again, with back-off, and sends the *same bytes* again, until
it is cancelled: what it returns is always the answer of Redis. So a request may be carried out twice, and the
library's functions allow for that. Whoever sends the batch may revise it first, on the new connection: much
may have happened while Redis was away.

A cancelled exchange leaves the connection closed; the next one opens another.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import anyio

from cluster.store.call import Call, CallEncoder, Reply, Request, pack_command, unpack_replies
from cluster.store.connection import Connection
from cluster.store.errors import (
    CallFailed,
    LibraryMissing,
    NodeGone,
    RedisFull,
    StoreError,
    StoreStartError,
    StoreUnavailable,
)
from cluster.store.identity import Identity
from cluster.store.outage import Outage, StatusListener, StoreStatus

__all__ = [
    "Ask",
    "Call",
    "CallReplies",
    "Exchange",
    "Lane",
    "PartlyRefused",
    "Reply",
    "Request",
    "Revise",
    "StatusListener",
    "StoreStatus",
]

FIRST_VERSION: Final = "1.0"
"""Of subscriptions that nobody has changed yet; `lua/change_log.lua` counts on from there."""

logger = logging.getLogger(__name__)

CallReplies: TypeAlias = list[Reply] | StoreError
"""One reply per request; RedisFull or CallFailed if the whole call was refused."""


class PartlyRefused(list[Reply]):
    """The replies of a call of which some primaries of a Redis Cluster had no room for their part: RedisFull
    in place of each request that was not carried out."""


class Exchange:
    """The answer to a batch: replies per call, and the version of the subscriptions if it was asked for."""

    __slots__ = ("replies", "version")

    def __init__(self, replies: list[CallReplies], version: str | None) -> None:
        self.replies = replies
        self.version = version


Ask: TypeAlias = Callable[[Sequence[Call]], Awaitable[list[CallReplies]]]
"""Sends calls and returns what they were answered, as `Lane.exchange` does."""
Revise: TypeAlias = Callable[[Ask], Awaitable[Sequence[Call]]]
"""The calls to send after a reconnect, in place of those that may have been carried out: as many, with as
many requests each. It may ask before; if that raises StoreUnavailable, it is called again on the next
connection."""


class Lane:
    """`connect` opens a connection to a server that is ready for calls; `load_library` helps one that has
    lost its functions. `connection` may be one that is open already; `pause` waits before the next try."""

    def __init__(
        self,
        encoder: CallEncoder,
        version_key: str,
        connect: Callable[[], Awaitable[Connection]],
        load_library: Callable[[Connection], Awaitable[None]],
        on_status: StatusListener,
        connection: Connection | None = None,
        pause: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._encoder = encoder
        self._get_version = pack_command("GET", version_key)
        self._connect = connect
        self._load_library = load_library
        self._outage = Outage(on_status)
        self._connection = connection
        self._pause = pause
        self._is_busy = False

    def __repr__(self) -> str:
        return f"<Lane {self._connection!r}, away since {self.away_since}>"

    @property
    def away_since(self) -> float | None:
        """When Redis was last known to answer, by time.monotonic(); None unless it is away now."""
        return self._outage.since

    async def exchange(
        self, calls: Sequence[Call], read_version: bool = False, revise: Revise | None = None
    ) -> Exchange:
        """Sends `calls`, in order, and returns what they were answered, in the same order.

        Takes as long as Redis is away; after that, `revise` may change what is sent. A call that Redis
        refused has a RedisFull or CallFailed in place of its replies; a request that failed has an ItemError.
        Raises NodeGone if this incarnation is declared dead."""
        if not (calls or read_version):
            return Exchange([], None)
        if self._is_busy:
            raise RuntimeError("one exchange at a time")
        self._is_busy = True
        try:
            return await self._exchange(calls, read_version, revise)
        finally:
            self._is_busy = False

    @property
    def identity(self) -> Identity | None:
        """Of the server that has answered last, or is about to."""
        return self._connection.identity if self._connection is not None else None

    def drop(self, reason: str) -> None:
        """The next exchange looks for the primary again."""
        if self._connection is not None:
            self._connection.abort(reason)

    async def aclose(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            await self._connection.aclose()

    def _pack(self, calls: Sequence[Call], read_version: bool) -> bytes:
        parts: list[bytes] = []
        for call in calls:
            self._encoder.append_to(parts, call)
        if read_version:
            parts.append(self._get_version)
        return b"".join(parts)

    async def _exchange(self, calls: Sequence[Call], read_version: bool, revise: Revise | None) -> Exchange:
        """Asks until Redis has answered every command with something that is no passing trouble."""
        while True:
            started = time.monotonic()
            connection = self._connection
            try:
                if connection is None or connection.is_closed:
                    is_first = connection is None
                    connection = self._connection = await self._connect()
                    if revise is not None and not is_first:
                        calls = await revise(partial(self._ask_on, connection))
                answers = await self._answers(connection, calls, read_version)
            except (StoreUnavailable, StoreStartError, RedisFull) as error:  # full: no room for the library
                await self._wait_out(error, started)
                continue
            if self._outage.since is not None:
                self._outage.end()
            version = version_of(answers.pop()) if read_version else None
            return Exchange(_replies(calls, answers), version)

    async def _ask_on(self, connection: Connection, calls: Sequence[Call]) -> list[CallReplies]:
        return _replies(calls, await self._answers(connection, calls, False))

    async def _answers(
        self, connection: Connection, calls: Sequence[Call], read_version: bool
    ) -> list[object]:
        """Raises what stands between us and a real answer."""
        commands = self._pack(calls, read_version)
        answers = await connection.ask(commands, len(calls) + read_version)
        trouble = _trouble_of(answers)
        if isinstance(trouble, LibraryMissing):
            logger.warning("Redis has lost the function library, or has an older one: loading ours")
            await self._load_library(connection)
            answers = await connection.ask(commands, len(calls) + read_version)
            trouble = _trouble_of(answers)
        if trouble is not None:
            raise trouble
        return answers

    async def _wait_out(self, trouble: StoreError, started: float) -> None:
        """Notes that Redis is away, and waits."""
        self._outage.note(trouble, started)
        if self._connection is not None:
            # Also if the server did answer: one that turned replica, say, is found anew by its name.
            self._connection.abort(str(trouble))
        await self._outage.pause(self._pause)


def version_of(answer: object) -> str:
    """The version of the subscriptions, from what is stored under its key: nothing, before the first one."""
    return answer.decode() if isinstance(answer, bytes) else FIRST_VERSION


def _trouble_of(answers: Sequence[object]) -> StoreError | None:
    """What stands between us and a real answer: passing, or for a person to repair."""
    for answer in answers:
        if isinstance(answer, StoreUnavailable | StoreStartError):
            return answer
        if isinstance(answer, NodeGone):
            raise answer
    return None


def _replies(calls: Sequence[Call], answers: Sequence[object]) -> list[CallReplies]:
    return [replies_of(call, answer) for call, answer in zip(calls, answers, strict=True)]


def replies_of(call: Call, answer: object) -> CallReplies:
    """The answer to one call."""
    if type(answer) is bytes:
        try:
            return unpack_replies(answer, len(call.requests))
        except CallFailed as error:
            return error
    return answer if isinstance(answer, StoreError) else CallFailed("a call answered with no string")
