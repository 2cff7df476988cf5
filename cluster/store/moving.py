"""Sessions as they are taken out of one Redis and put into another, page by page.

Times are milliseconds from now, as the two have clocks of their own: `cluster.moved` makes them so. What
is consistent with what: lua/session_export.lua, lua/session_import.lua.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cluster.store.call import Reply
from cluster.store.keys import bucket_of, bucket_of_topic
from cluster.store.reply import as_bytes, as_int, as_list, as_text, in_pairs, in_triples

_STATE: Final = 11
_RECEIVING: Final = 4


@dataclass(frozen=True, slots=True)
class Receiving:
    """An inbound QoS 2 exchange; `is_routed`: its message has reached everybody."""

    packet_id: int
    is_routed: bool
    age_ms: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delayed message (`records.unpack_will`)."""

    id: str
    due_ms: int
    record: bytes


@dataclass(frozen=True, slots=True)
class WaitingWill:
    """A will that waits for its delay (`records.unpack_will`)."""

    delay_seconds: int
    due_ms: int
    record: bytes


@dataclass(frozen=True, slots=True)
class State:
    """A session but its queue. `lives_ms` None: it never ends, or its client is connected, so that its
    time has not begun. `subscriptions`: filter, packed options; `replays`: filter, cursor."""

    is_connected: bool
    n: int
    hi: int
    expiry_seconds: int
    lives_ms: int | None
    subscriptions: Sequence[tuple[str, bytes]]
    replays: Sequence[tuple[str, str]]
    released: Sequence[int]
    receiving: Sequence[Receiving]
    delayed: Sequence[Waiting]
    will: WaitingWill | None


@dataclass(frozen=True, slots=True)
class ExportPage:
    """Entries (n, packed), and on the last page the session. `gen`: if it is not that of the page before,
    this is another session. None beyond `hi` was sent when the page was read."""

    gen: int
    entries: Sequence[tuple[int, bytes]]
    state: State | None
    hi: int


class Outcome(IntEnum):
    """What became of a session or of a retained message."""

    LOST = -2
    """Its entries, which were put aside before, are gone."""
    CONNECTED = -1
    THERE = 0
    MADE = 1
    REPLACED = 2


NO_ROOM: Final = -1
"""What `import_retained` answers in place of an Outcome."""


@dataclass(frozen=True, slots=True)
class Imported:
    """`ended_rows` (filter, stamp) are for the caller to delete, `subscriptions` (filter, options, stamp)
    for it to write into the rows."""

    outcome: Outcome
    epoch: int
    ended_rows: Sequence[tuple[str, int]]
    subscriptions: Sequence[tuple[str, bytes, int]]


def export(client_id: str, behind: int, size_bytes: int, *, with_queue: bool) -> list[object]:
    """Asks for a page of a session, of about so many bytes of entries."""
    return ["session_export", bucket_of(client_id), client_id, behind, size_bytes, with_queue]


def parse_export(reply: Reply) -> ExportPage | None:
    """The answer to `export`; None if there is no session that could be resumed."""
    if not reply:
        return None
    gen, entries, state, hi = as_list(reply)[:4]
    packed = [(as_int(n), as_bytes(entry)) for n, entry in in_pairs(entries)]
    return ExportPage(as_int(gen), packed, _state(state) if state else None, as_int(hi))


def _state(reply: object) -> State:
    connected, n, hi, expiry, lives_ms, filters, replays, released, receiving, delayed, will = as_list(reply)[
        :_STATE
    ]
    return State(
        bool(connected),
        as_int(n),
        as_int(hi),
        as_int(expiry),
        None if lives_ms is False else as_int(lives_ms),
        [(as_text(name), as_bytes(options)) for name, options, _ in in_triples(filters)],
        [(as_text(name), as_text(cursor)) for name, cursor in in_pairs(replays)],
        [as_int(number) for number in as_list(released)],
        _receiving(as_list(receiving)),
        [Waiting(as_text(id), as_int(ms), as_bytes(record)) for id, ms, record in in_triples(delayed)],
        _will(as_list(will)) if will else None,
    )


def _receiving(flat: list[object]) -> list[Receiving]:
    found = []
    for at in range(0, len(flat), _RECEIVING):
        packet_id, is_routed, age_ms, token = flat[at : at + _RECEIVING]
        found.append(Receiving(as_int(packet_id), bool(is_routed), as_int(age_ms), as_bytes(token)))
    return found


def _will(fields: list[object]) -> WaitingWill:
    delay, due_ms, record = fields
    return WaitingWill(as_int(delay), as_int(due_ms), as_bytes(record))


def once_members(bucket: int, tokens: Sequence[bytes]) -> list[object]:
    """Asks who of a bucket has the messages of these tokens. Answer: a list of members for each."""
    return ["once_members", bucket, tokens]


def import_entries(
    client_id: str,
    import_id: bytes,
    entries: Iterable[tuple[int, bytes]],
    *,
    replaces: bool,
    is_first: bool,
    hi: int,
    limit: int,
    drop_oldest: bool,
) -> list[object]:
    """Puts entries aside for the session that follows. `hi`: of the session, as what may have been sent is
    not dropped. Answer: how many were dropped; -1 the session is there, -2 those before these are gone."""
    flat = [item for entry in entries for item in entry]
    bucket = bucket_of(client_id)
    return ["import_entries", bucket, client_id, import_id, replaces, is_first, hi, limit, drop_oldest, flat]


def import_session(
    client_id: str, import_id: bytes, state: State, *, replaces: bool, has_entries: bool
) -> list[object]:
    """Makes a session. `has_entries`: some were put aside for it."""
    will = state.will
    return [
        "import_session",
        bucket_of(client_id),
        client_id,
        import_id,
        replaces,
        has_entries,
        state.n,
        state.hi,
        state.expiry_seconds,
        False if state.lives_ms is None else state.lives_ms,
        [item for subscription in state.subscriptions for item in subscription],
        [item for replay in state.replays for item in replay],
        state.released,
        [
            item
            for each in state.receiving
            for item in (each.packet_id, each.is_routed, each.age_ms, each.token)
        ],
        [item for each in state.delayed for item in (each.id, each.due_ms, each.record)],
        False if will is None else [will.delay_seconds, will.due_ms, will.record],
    ]


def parse_import(reply: Reply) -> Imported:
    """The answer to `import_session`."""
    outcome, epoch, ended, subscriptions = as_list(reply)[:4]
    return Imported(
        Outcome(as_int(outcome)),
        as_int(epoch),
        [(as_text(name), as_int(stamp)) for name, stamp in in_pairs(ended)],
        [
            (as_text(name), as_bytes(options), as_int(stamp))
            for name, options, stamp in in_triples(subscriptions)
        ],
    )


def import_retained(
    topic: str, record: bytes, deadline_ms: int, *, replaces: bool, maximum: int | None
) -> list[object]:
    """Sets a retained message (`records.pack_retained`) of a topic that has none, or whatever it has.
    Answer: MADE, THERE, or NO_ROOM, if the bucket holds `maximum` already."""
    room = False if maximum is None else maximum
    return ["import_retained", bucket_of_topic(topic), topic, replaces, record, deadline_ms, room]


def import_token(bucket: int, token: bytes, members: Sequence[bytes], ttl_ms: int) -> list[object]:
    """Says who of a bucket has the message of a token already."""
    return ["import_token", bucket, token, members, ttl_ms]
