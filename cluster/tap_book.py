"""Watching from any process: asks the nodes for a tap (`cluster.taps`), and reads what they tell.

A trace is known to the whole cluster by a key that ends with it: it may be begun at one process, and followed
at another.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import anyio
import orjson

from broker.errors import MoorlineError
from cluster.questions import Questions
from cluster.store import taps
from cluster.store.connection import Connection
from cluster.store.errors import StoreError
from cluster.store.store import Store
from cluster.store.taps import Entry
from cluster.taps import QUESTION, TAP_SECONDS

RENEW_SECONDS: Final = 10.0
BLOCK_MS: Final = 500
"""How long a look waits, and how late an end is noticed."""
_RETRY_SECONDS: Final = 0.5
_FIRST: Final = "0-0"

logger = logging.getLogger(__name__)


class NobodyTells(MoorlineError):
    """No node has opened the tap; the text says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a node tells: JSON. Whoever goes on later does so behind `id`."""

    id: str
    json: bytes


@dataclass(frozen=True, slots=True)
class LeftOut:
    """So many records of a node are missing here; and so much that may have been one was not looked at."""

    incarnation: str
    records: int
    unseen: int


News = Record | LeftOut


@dataclass(frozen=True, slots=True)
class Watched:
    """What is asked for: something of a source, for so long without being asked again."""

    source: str
    what: Mapping[str, object]
    seconds: float = TAP_SECONDS


class TapBook:
    """Of one process."""

    def __init__(self, store: Store, questions: Questions) -> None:
        self._store = store
        self._questions = questions

    async def open(self, tap_id: str, watched: Watched) -> dict[str, str]:
        """Opens the tap on all nodes, or lets it go on; why those who don't do not, by incarnation. Raises
        NobodyTells, StoreError."""
        seconds = min(watched.seconds, TAP_SECONDS)
        argument = {"id": tap_id, "source": watched.source, "seconds": seconds, "what": watched.what}
        answers = await self._questions.ask(QUESTION, argument)
        if not answers.said:
            reasons = dict.fromkeys(answers.silent.values())
            raise NobodyTells("; ".join(reasons) or "there is no node")
        return answers.silent

    async def keep_open(self, tap_id: str, watched: Watched) -> None:
        """Until cancelled. What can't be asked now is asked the next time."""
        while True:
            await anyio.sleep(RENEW_SECONDS)
            try:
                silent = await self.open(tap_id, watched)
            except (StoreError, NobodyTells) as error:
                logger.warning("a tap is not kept open: %s", error)
            else:
                for node, reason in silent.items():
                    logger.debug("%s does not keep a tap open: %s", node, reason)

    async def close(self, tap_id: str, watched: Watched) -> None:
        """Ends it, on all nodes. Raises StoreError."""
        argument = {"id": tap_id, "source": watched.source, "seconds": 0, "what": {}}
        await self._questions.ask(QUESTION, argument)
        await self._ask(taps.remove(self._store.prefix, tap_id))

    def reader(self, tap_id: str, after: str = "", *, is_trace: bool = False) -> "Reader":
        """Reads the tap, from its beginning or behind a record. To be closed."""
        return Reader(self._store, tap_id, after, is_trace=is_trace)

    async def begin_trace(self, trace_id: str, text: bytes, seconds: float) -> None:
        """From now on it is known, for so long. Raises StoreError."""
        await self._ask(taps.keep_trace(self._store.prefix, trace_id, text, int(seconds * 1000)))

    async def trace(self, trace_id: str) -> object:
        """What was given, from JSON; None if it has ended. Raises StoreError."""
        text = await self._ask(taps.get_trace(self._store.prefix, trace_id))
        return orjson.loads(text) if isinstance(text, bytes) else None

    async def end_trace(self, trace_id: str) -> bool:
        """Whoever follows it is told within a second. Whether there was one. Raises StoreError."""
        return await self._ask(taps.remove_trace(self._store.prefix, trace_id)) == 1

    async def _ask(self, command: bytes) -> object:
        connection = await self._store.connect()
        try:
            (reply,) = await connection.ask(command, 1)
        finally:
            await connection.aclose()
        if isinstance(reply, StoreError):
            raise reply
        return reply


class Reader:
    """Of one tap, on a connection of its own, which is made again when it is lost."""

    def __init__(self, store: Store, tap_id: str, after: str, *, is_trace: bool) -> None:
        self._store = store
        self._id = tap_id
        self._is_trace = is_trace
        self.place = after or _FIRST
        self._is_whole = not after
        self._counts: dict[str, tuple[int, int]] = {}
        self._connection: Connection | None = None
        self.has_ended = False
        """Of a trace: its time is over, or somebody has ended it."""

    async def next(self) -> list[News]:
        """Waits for what is new; nothing after half a second, or while Redis is away."""
        try:
            return self._take(await self._look())
        except StoreError as error:
            logger.debug("a tap can't be read now: %s", error)
            await self.aclose()
            await anyio.sleep(_RETRY_SECONDS)
            return []

    async def _look(self) -> list[Entry]:
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._store.connect()
        prefix = self._store.prefix
        commands = [taps.read(prefix, self._id, self.place, BLOCK_MS)]
        if self._is_trace:
            commands.append(taps.get_trace(prefix, self._id))
        replies = await connection.ask(b"".join(commands), len(commands))
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        self.has_ended = self._is_trace and replies[1] is None
        return taps.parse_read(replies[0])

    def _take(self, entries: list[Entry]) -> list[News]:
        news: list[News] = []
        for entry in entries:
            self.place = entry.id
            left_out = self._missing(entry)
            if left_out is not None:
                news.append(left_out)
            if entry.told.record:
                news.append(Record(entry.id, entry.told.record))
        return news

    def _missing(self, entry: Entry) -> LeftOut | None:
        """What was left out before this entry. Numbers that fall are those of a tap that was opened again."""
        told = entry.told
        number, unseen = self._counts.get(entry.incarnation, (0, 0))
        if entry.incarnation not in self._counts and not self._is_whole:
            number, unseen = told.number - bool(told.record), told.unseen
        elif told.number < number or told.unseen < unseen:
            number, unseen = 0, 0
        self._counts[entry.incarnation] = told.number, told.unseen
        records = told.number - number - bool(told.record)
        skipped = told.unseen - unseen
        return LeftOut(entry.incarnation, records, skipped) if records or skipped else None

    async def aclose(self) -> None:
        """Closes the connection; the next look makes another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()
