"""What has been exported (`cluster.moved`), made again in a broker that serves meanwhile.

A request to Redis may be repeated, and so may a whole import: what is there stays, unless it is to be
replaced. First a session is made, whole in one call; then its subscriptions go into the rows that every
node follows. Whoever stops in between imports again: the rows of a session that is there are written, too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from broker.mqtt import is_exclusive, is_valid_topic_filter, is_valid_topic_name, without_exclusive
from cluster import moved
from cluster.browsing import Browser
from cluster.moved import MovedEntries, MovedRetained, MovedSession, MovedToken, Record
from cluster.retained import RetainedBook
from cluster.store import exclusive, moving, retained, subscriptions
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError
from cluster.store.keys import BUCKETS, bucket_of_topic
from cluster.store.moving import Imported, Outcome
from cluster.store.reply import as_int
from cluster.store.store import Store

PROBLEMS: Final = 100
"""That are told in words, of a batch."""
_BYTES_PER_CALL: Final = 64 << 10
_ENTRIES_PER_CALL: Final = 100
_WEIGHT_PER_CALL: Final = 200
"""In entries, subscriptions and exchanges: about a millisecond of Redis."""
_WEIGHT_OF_SESSION: Final = 12
_BYTES_OF_WEIGHT: Final = 512
_ROWS_PER_CALL: Final = 200
_RETAINED_PER_CALL: Final = 50
_NAMES_MAXIMUM: Final = 65_535


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the broker that imports. Maxima of 0: any number."""

    queue: int
    drop_oldest: bool
    subscriptions: int
    retained: int
    retained_payload_bytes: int
    token_ttl_ms: int


@dataclass(slots=True)
class Summary:
    """What has become of the records. `there`: was there, and stays. `access`: users, rules and bans, if
    there are any (`moving_users`). `problems`: what can't be imported, and why."""

    sessions: dict[str, int] = field(default_factory=lambda: {each.name.lower(): 0 for each in Outcome})
    entries: int = 0
    dropped: int = 0
    retained: dict[str, int] = field(default_factory=lambda: {"made": 0, "there": 0, "refused": 0})
    access: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0

    def add_problem(self, text: str) -> None:
        """Too many are only counted."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS:
            self.problems.append(text)


@dataclass(frozen=True, slots=True)
class Order:
    """How an import goes. `import_id`: one of all its batches. `replaces`: what is there goes."""

    import_id: bytes
    limits: Limits
    replaces: bool = False


class Importer:
    """Writes by side connections, beside the lane. Its methods raise StoreError: then the same may be
    imported again."""

    def __init__(self, store: Store, browser: Browser, book: RetainedBook) -> None:
        self._store = store
        self._browser = browser
        self._book = book

    async def take(self, records: Sequence[Record], order: Order) -> Summary:
        """Imports a batch; the records of a whole export, in their order, over one or several batches."""
        batch = _Batch(self._store, order, await self._store.time_ms())
        for record in records:
            if isinstance(record, MovedSession):
                await batch.take_session(record)
            elif isinstance(record, MovedEntries):
                await batch.take_entries(record)
            elif isinstance(record, MovedToken):
                await batch.take_token(record)
            else:
                batch.take_retained(record)
        await batch.finish()
        return batch.summary

    async def look(self, records: Sequence[Record], order: Order) -> Summary:
        """What `take` would do, as far as can be told; writes nothing. `entries`: at most so many."""
        summary = Summary()
        sessions = [each for each in records if isinstance(each, MovedSession)]
        sessions = [each for each in sessions if _is_fit(each, order.limits, summary)]
        briefs = await self._browser.briefs([each.client_id for each in sessions])
        there = {brief.client_id: brief.owner for brief in briefs}
        for session in sessions:
            outcome = Outcome.MADE
            if session.client_id in there:
                owner = there[session.client_id]
                outcome = Outcome.CONNECTED if owner is not None else Outcome.THERE
                outcome = Outcome.REPLACED if order.replaces else outcome
            summary.sessions[outcome.name.lower()] += 1
        summary.entries = sum(len(each.entries) for each in records if isinstance(each, MovedEntries))
        for each in records:
            if isinstance(each, MovedRetained) and _is_fit_to_retain(each, order.limits, summary):
                is_there = not order.replaces and await self._book.facts(each.topic) is not None
                summary.retained["there" if is_there else "made"] += 1
        return summary


class _Batch:
    """A batch under way. Requests gather until they are a call; retained messages come last."""

    def __init__(self, store: Store, order: Order, now_ms: int) -> None:
        self._store = store
        self._order = order
        self._now_ms = now_ms
        self._requests: list[tuple[Request, Callable[[Reply], object]]] = []
        self._weight = 0
        self._imported: list[tuple[MovedSession, Imported]] = []
        self._retained: list[MovedRetained] = []
        self.summary = Summary()

    async def take_entries(self, record: MovedEntries) -> None:
        """Puts them aside."""
        if not all(is_valid_topic_name(entry.topic) for entry in record.entries):
            self.summary.add_problem(f"client {record.client_id}: a message has no valid topic")
            return
        order = self._order
        is_first = record.first
        for part in _parts(record, self._now_ms):
            request = moving.import_entries(
                record.client_id,
                order.import_id,
                part,
                replaces=order.replaces,
                is_first=is_first,
                hi=record.hi,
                limit=order.limits.queue,
                drop_oldest=order.limits.drop_oldest,
            )
            weight = len(part) + sum(len(packed) for _, packed in part) // _BYTES_OF_WEIGHT
            await self._add(request, weight, partial(self._note_entries, len(part)))
            is_first = False

    def _note_entries(self, count: int, reply: Reply) -> None:
        dropped = as_int(reply)
        if dropped >= 0:  # else their session says why
            self.summary.entries += count
            self.summary.dropped += dropped

    async def take_session(self, session: MovedSession) -> None:
        """Makes it, behind its entries."""
        if not _is_fit(session, self._order.limits, self.summary):
            return
        order = self._order
        state = moved.state_of(session)
        request = moving.import_session(
            session.client_id,
            order.import_id,
            state,
            replaces=order.replaces,
            has_entries=session.has_entries,
        )
        weight = len(state.subscriptions) + len(state.released) + len(state.receiving) + len(state.delayed)
        await self._add(request, weight + _WEIGHT_OF_SESSION, partial(self._note_session, session))

    def _note_session(self, session: MovedSession, reply: Reply) -> None:
        imported = moving.parse_import(reply)
        self._imported.append((session, imported))
        self.summary.sessions[imported.outcome.name.lower()] += 1
        if imported.outcome == Outcome.LOST:
            self.summary.add_problem(f"client {session.client_id}: its messages are gone, import it again")

    async def take_token(self, record: MovedToken) -> None:
        """Who has a message."""
        members = [member.encode() for member in record.members]
        ttl_ms = self._order.limits.token_ttl_ms
        for first in range(0, len(members), _WEIGHT_PER_CALL):
            some = members[first : first + _WEIGHT_PER_CALL]
            request = moving.import_token(record.bucket, record.token, some, ttl_ms)
            await self._add(request, len(some), as_int)

    async def _add(self, request: Request, weight: int, then: Callable[[Reply], object]) -> None:
        """With others, in order; `then` gets the reply."""
        if self._requests and self._weight + weight > _WEIGHT_PER_CALL:
            await self._flush()
        self._requests.append((request, then))
        self._weight += weight

    async def _flush(self) -> None:
        """Makes what has gathered, then the rows of the sessions."""
        some, self._requests, self._weight = self._requests, [], 0
        if not some:
            return
        replies = await self._ask([request for request, _ in some])
        for (_, then), reply in zip(some, replies, strict=True):
            then(reply)
        pairs, self._imported = self._imported, []
        await self._write_rows(pairs)
        for session, imported in pairs:
            if imported.outcome in (Outcome.MADE, Outcome.REPLACED):
                await self._take_exclusive(session, imported)

    async def finish(self) -> None:
        """All that was taken is there then."""
        await self._flush()
        some = self._retained
        while some:
            rooms, free = await self._rooms()
            count = min(free, _RETAINED_PER_CALL) or _RETAINED_PER_CALL  # so that those of a call find room
            await self._retain(some[:count], rooms)
            some = some[count:]

    async def _write_rows(self, pairs: Sequence[tuple[MovedSession, Imported]]) -> None:
        adds = [(session.client_id, *row) for session, imported in pairs for row in imported.subscriptions]
        deletes = [(session.client_id, *row) for session, imported in pairs for row in imported.ended_rows]
        for first in range(0, len(deletes), _ROWS_PER_CALL):
            await self._ask([subscriptions.rows([], deletes[first : first + _ROWS_PER_CALL])])
        for first in range(0, len(adds), _ROWS_PER_CALL):
            await self._ask([subscriptions.rows(adds[first : first + _ROWS_PER_CALL], [])])

    async def _take_exclusive(self, session: MovedSession, imported: Imported) -> None:
        for each in session.subscriptions:
            if not is_exclusive(each.filter):
                continue
            matched = without_exclusive(each.filter)
            request = exclusive.take(matched, session.client_id, imported.epoch, None)
            (reply,) = await self._ask([request])
            holder = exclusive.parse_take(reply)
            if holder is not None:
                self.summary.add_problem(
                    f"client {session.client_id}: {holder.client_id} has {each.filter}, too"
                )

    def take_retained(self, message: MovedRetained) -> None:
        """With others, last."""
        if _is_fit_to_retain(message, self._order.limits, self.summary):
            self._retained.append(message)

    async def _retain(self, some: Sequence[MovedRetained], rooms: Mapping[int, int]) -> None:
        requests: list[Request] = []
        for each in some:
            record, deadline_ms = moved.retained_record(each, self._now_ms)
            maximum = rooms.get(bucket_of_topic(each.topic))
            requests.append(
                moving.import_retained(
                    each.topic, record, deadline_ms, replaces=self._order.replaces, maximum=maximum
                )
            )
        for part in _of_size(requests, [len(each.payload) for each in some]):
            for reply in await self._ask(part):
                outcome = as_int(reply)
                what = "refused" if outcome == moving.NO_ROOM else "made" if outcome else "there"
                self.summary.retained[what] += 1
                if outcome == moving.NO_ROOM:
                    self.summary.add_problem(
                        f"retained messages: there is room for {self._order.limits.retained}"
                    )

    async def _rooms(self) -> tuple[Mapping[int, int], int]:
        """How many each bucket may hold, and for how many more there is room in all of them together."""
        maximum = self._order.limits.retained
        if not maximum:
            return {}, _RETAINED_PER_CALL
        replies = await self._ask([retained.retained_count(bucket) for bucket in range(BUCKETS)])
        counts = [as_int(reply) for reply in replies]
        free = max(maximum - sum(counts), 0)
        return {bucket: count + free for bucket, count in enumerate(counts)}, free

    async def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        replies = await self._store.call(requests)
        for reply in replies:
            if isinstance(reply, ItemError):
                raise reply
        return replies


def _parts(record: MovedEntries, now_ms: int) -> Iterator[list[tuple[int, bytes]]]:
    """Entries as they are stored, as many as are in a call."""
    part: list[tuple[int, bytes]] = []
    size = 0
    for entry in record.entries:
        packed = moved.packed_entry(entry, now_ms)
        if part and (size + len(packed) > _BYTES_PER_CALL or len(part) == _ENTRIES_PER_CALL):
            yield part
            part, size = [], 0
        part.append((entry.n, packed))
        size += len(packed)
    if part:
        yield part


def _of_size(requests: Sequence[Request], sizes: Sequence[int]) -> Iterator[list[Request]]:
    """As many as are in a call."""
    part: list[Request] = []
    total = 0
    for request, size in zip(requests, sizes, strict=True):
        if part and total + size > _BYTES_PER_CALL:
            yield part
            part, total = [], 0
        part.append(request)
        total += size
    if part:
        yield part


def _is_fit(session: MovedSession, limits: Limits, summary: Summary) -> bool:
    count = len(session.subscriptions)
    reason = None
    if count > limits.subscriptions:
        reason = f"{count} subscriptions, the limit is {limits.subscriptions}"
    elif not all(is_valid_topic_filter(each.filter) for each in session.subscriptions):
        reason = "a subscription has no valid filter"
    elif len(session.client_id.encode()) > _NAMES_MAXIMUM:
        reason = "its name is too long"
    if reason is not None:
        summary.add_problem(f"client {session.client_id}: {reason}")
    return reason is None


def _is_fit_to_retain(message: MovedRetained, limits: Limits, summary: Summary) -> bool:
    size, most = len(message.payload), limits.retained_payload_bytes
    reason = None
    if not is_valid_topic_name(message.topic):
        reason = "no valid topic"
    elif not size:
        reason = "it is empty"
    elif most and size > most:
        reason = f"{size} bytes, the limit is {most}"
    if reason is not None:
        summary.retained["refused"] += 1
        summary.add_problem(f"retained message of {message.topic}: {reason}")
    return reason is None
