"""This node's inbox: what the others have for it, in the order in which they wrote it.

It is read on a connection of its own, which waits at the end of the stream; so a record is here a round trip
after it was written. What has been handled is trimmed when some of it has gathered, or when nothing has come
for a second: a trim costs Redis more than a look. If Redis goes away the reader begins again behind the last
record that it has handled, as what was handled is in memory, and worth nothing to anybody else."""

import logging
from collections.abc import Callable
from typing import Final

import anyio

from cluster.pulse import Pulse
from cluster.store import inbox_records, inboxes, keys
from cluster.store.call import Call, pack_command, unpack_replies
from cluster.store.connection import Connection
from cluster.store.errors import CallFailed, StoreError, StoreStartError, StoreUnavailable
from cluster.store.inbox_records import Record
from cluster.store.store import Store

BLOCK_MS: Final = 1000
_RECORDS: Final = 100  # in one look
_TRIM_LOOKS: Final = 16
_TRIM_BYTES: Final = 262_144
_RETRY_SECONDS: Final = 0.1
_FIRST: Final = "0-0"

logger = logging.getLogger(__name__)


class Inbox:
    """`on_records` handles what has come; it must not wait and must not raise. `last_id` is the id of the
    last record that was handled."""

    def __init__(
        self, store: Store, incarnation: str, pulse: Pulse, on_records: Callable[[list[Record]], None]
    ) -> None:
        self._store = store
        self._incarnation = incarnation
        self._pulse = pulse
        self._on_records = on_records
        self._key = keys.inbox(store.prefix, incarnation)
        self._handled_bytes = 0
        self._connection: Connection | None = None
        self._waiting: list[tuple[tuple[int, int], Callable[[], None]]] = []
        self.last_id = _FIRST
        self.records = 0
        self.unknown = 0
        """Records of a kind or version that only newer nodes know."""

    async def open(self) -> None:
        """Makes it; once, after joining. Raises StoreError."""
        await self._store.call([inboxes.open_inbox(self._incarnation)], function="free")

    async def close(self) -> None:
        """Deletes it: nobody will read it any more."""
        try:
            await self._store.call([inboxes.close_inbox(self._incarnation)], function="free")
        except StoreUnavailable as error:
            logger.warning("could not close the inbox", extra={"error": str(error)})

    def renew(self, now_ms: int) -> None:
        """Another primary has come: what is read from now on is there. It gives ids by its own clock; if that
        is behind, what is new there has lower ones than what was handled."""
        if _place(self.last_id)[0] >= now_ms:
            logger.warning("the clock of the new primary is behind: the inbox is read from its beginning")
            self.last_id = _FIRST
        if self._connection is not None:
            self._connection.abort("another primary has come")

    def after(self, tail: str, action: Callable[[], None]) -> None:
        """Runs `action` when everything up to the entry `tail` has been handled: at once, if it has."""
        place = _place(tail)
        if place <= _place(self.last_id):
            action()
        else:
            self._waiting.append((place, action))

    async def run(self) -> None:
        """Reads until cancelled. Raises NodeGone if this node has been declared dead."""
        while True:
            try:
                connection = self._connection = await self._store.connect(self._incarnation)
                try:
                    await self._read(connection)
                finally:
                    await connection.aclose()
            except (StoreUnavailable, StoreStartError, CallFailed) as error:
                logger.debug("the inbox waits: %s", error)
                await anyio.sleep(_RETRY_SECONDS)

    async def _read(self, connection: Connection) -> None:
        trimmed_id = _FIRST
        looks = 0  # that have brought something since the last trim
        is_idle = True  # what an earlier connection has read is trimmed at once
        while True:
            commands = pack_command(
                "XREAD", "COUNT", _RECORDS, "BLOCK", BLOCK_MS, "STREAMS", self._key, self.last_id
            )
            count = 1
            has_gathered = looks >= _TRIM_LOOKS or self._handled_bytes >= _TRIM_BYTES
            if self.last_id != trimmed_id and (is_idle or has_gathered):
                trim = inboxes.trim_inbox(self._incarnation, self.last_id, self._handled_bytes)
                commands = self._store.pack(Call("free", [trim], slot=self._incarnation)) + commands
                count = 2
            replies = await connection.ask(commands, count)
            for reply in replies:
                if isinstance(reply, StoreError):
                    raise reply
            if count == 2:
                trimmed_id = self.last_id
                self._handled_bytes = 0
                looks = 0
                unpack_replies(_bytes(replies[0]), 1)
            is_idle = replies[-1] is None
            if not is_idle:
                looks += 1
                await self._handle(replies[-1])

    async def _handle(self, answer: object) -> None:
        """Takes the answer of XREAD: stream and entries."""
        assert isinstance(answer, list)
        _, entries = answer[0]
        if self._pulse.look():  # it may be for sessions that we have lost
            await self._pulse.until_alive()
        records: list[Record] = []
        for entry_id, fields in entries:
            record = self._unpack(fields[1])
            if record is not None:
                records.append(record)
            self._handled_bytes += len(fields[1])
            self.last_id = entry_id.decode()
        self.records += len(records)
        self._on_records(records)
        self._go_on()

    def _unpack(self, packed: bytes) -> Record | None:
        try:
            record = inbox_records.unpack(packed)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            logger.error("a damaged record in the inbox: %s", error)
            return None
        if record is None:
            if not self.unknown:
                logger.warning(
                    "a record in the inbox that this release does not know: skipped, as others will be"
                )
            self.unknown += 1
        return record

    def _go_on(self) -> None:
        if not self._waiting:
            return
        last = _place(self.last_id)
        ready = [action for place, action in self._waiting if place <= last]
        self._waiting = [waiting for waiting in self._waiting if waiting[0] > last]
        for action in ready:
            action()


def _place(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


def _bytes(reply: object) -> bytes:
    if not isinstance(reply, bytes):
        raise CallFailed("a call answered with no string")
    return reply
