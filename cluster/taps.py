"""Taps: what happens in a node, told to somebody elsewhere who watches.

Theory of operation. The process that serves a watcher asks all nodes to open a tap (a question, see
`cluster.questions`), for 30 s at most, and asks again each 10 s: so a node that joins is asked, and a tap
whose asker has died ends by itself. What the tap's source has to tell is written to a stream of Redis, once
in a tenth of a second, on a connection that is there only while there are taps.

Bounded: taps, records a second, their size, what waits here. What is beyond that is left out and counted.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Protocol

import anyio
from pydantic import Field, TypeAdapter, ValidationError

from broker.observability.token_bucket import TokenBucket
from cluster.questions import QuestionRefused
from cluster.store import taps
from cluster.store.connection import Connection
from cluster.store.errors import StoreError
from cluster.store.store import Store
from cluster.store.taps import Told

QUESTION: Final = "tap"
TAPS_MAXIMUM: Final = 8
TAP_SECONDS: Final = 30.0
"""How long one goes on at most without being asked for again."""
RECORDS_PER_SECOND: Final = 100
RECORDS_AT_ONCE: Final = 200
RECORD_BYTES: Final = 32_768
FLUSH_SECONDS: Final = 0.1

_RETRY_SECONDS: Final = 0.5

logger = logging.getLogger(__name__)


class Tap:
    """What a source tells goes in here. `offer` first; if that is True, `put`."""

    __slots__ = ("_bucket", "_number", "_told", "_unseen", "_waiting", "id", "until")

    def __init__(self, tap_id: str, until: float, now: float) -> None:
        self.id = tap_id
        self.until = until
        self._bucket = TokenBucket(RECORDS_PER_SECOND, RECORDS_AT_ONCE, now)
        self._waiting: list[Told] = []
        self._number = 0
        self._unseen = 0
        self._told = (0, 0)

    def offer(self, now: float) -> bool:
        """There is something to tell. False: it is left out, and counted."""
        self._number += 1
        return len(self._waiting) < RECORDS_AT_ONCE and self._bucket.take_if_there(now)

    def put(self, record: bytes) -> None:
        """JSON of what there is to tell."""
        if len(record) <= RECORD_BYTES:
            self._waiting.append(Told(self._number, self._unseen, record))

    def skip(self, count: int) -> None:
        """There may have been something, which nobody has looked at."""
        self._unseen += count

    def take(self) -> list[Told]:
        """What is to be written now."""
        told, self._waiting = self._waiting, []
        counts = (self._number, self._unseen)
        newest = (told[-1].number, told[-1].unseen) if told else self._told
        if counts != newest:
            told.append(Told(*counts, b""))
        self._told = counts
        return told


class Source(Protocol):
    """What taps can be opened at."""

    async def begin(self, tap: Tap, asked: Mapping[str, object]) -> None:
        """From now on the tap is told what was asked for. Raises ValueError if that makes no sense."""

    def end(self, tap_id: str) -> None:
        """The tap is told nothing any more. It may never have begun."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question. `seconds` 0 ends the tap."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    source: str
    seconds: Annotated[float, Field(ge=0, le=TAP_SECONDS)]
    what: dict[str, object]


_ASKED: Final = TypeAdapter(_Asked)


class Taps:
    """Those of one node, `sources` by name."""

    def __init__(
        self,
        store: Store,
        incarnation: str,
        sources: Mapping[str, Source],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._incarnation = incarnation
        self._sources = sources
        self._clock = clock
        self._open: dict[str, tuple[Tap, Source]] = {}
        self._is_open = anyio.Event()

    def __len__(self) -> int:
        return len(self._open)

    async def answer(self, argument: bytes) -> bool:
        """Opens a tap, or lets it go on for longer, or ends it. Raises QuestionRefused."""
        try:
            asked = _ASKED.validate_json(argument)
        except ValidationError as error:
            raise QuestionRefused(f"not understood: {error.errors()[0]['msg']}") from None
        until = self._clock() + asked.seconds
        if asked.seconds == 0:
            self._end(asked.id)
        elif asked.id in self._open:
            self._open[asked.id][0].until = until
        else:
            await self._begin(asked, until)
        return True

    async def _begin(self, asked: _Asked, until: float) -> None:
        source = self._sources.get(asked.source)
        if source is None:
            raise QuestionRefused(f"this release knows no {asked.source} to watch")
        if len(self._open) >= TAPS_MAXIMUM:
            raise QuestionRefused(f"{TAPS_MAXIMUM} others watch already, and there may be no more")
        tap = Tap(asked.id, until, self._clock())
        self._open[asked.id] = tap, source
        try:
            await source.begin(tap, asked.what)
        except BaseException as error:
            self._end(asked.id)
            if isinstance(error, ValueError):
                raise QuestionRefused(str(error)) from None
            raise
        self._is_open.set()

    def _end(self, tap_id: str) -> None:
        opened = self._open.pop(tap_id, None)
        if opened is not None:
            opened[1].end(tap_id)

    async def run(self) -> None:
        """Writes what taps are told, until cancelled."""
        while True:
            await self._is_open.wait()
            while self._open:
                try:
                    await self._write()
                except StoreError as error:  # what was on its way is missing there, and counted
                    logger.debug("taps wait: %s", error)
                    self._end_old()
                    await anyio.sleep(_RETRY_SECONDS)
            self._is_open = anyio.Event()

    async def _write(self) -> None:
        """As long as there are taps. Raises StoreError."""
        connection = await self._store.connect()
        try:
            while self._open:
                await anyio.sleep(FLUSH_SECONDS)
                self._end_old()
                await self._flush(connection)
        finally:
            await connection.aclose()

    async def _flush(self, connection: Connection) -> None:
        commands: list[bytes] = []
        for tap, _ in self._open.values():
            if told := tap.take():
                commands += taps.write(self._store.prefix, tap.id, self._incarnation, told)
        if not commands:
            return
        for reply in await connection.ask(b"".join(commands), len(commands)):
            if isinstance(reply, StoreError):
                raise reply

    def _end_old(self) -> None:
        now = self._clock()
        for tap_id in [tap.id for tap, _ in self._open.values() if tap.until <= now]:
            self._end(tap_id)
