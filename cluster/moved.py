"""Sessions, their messages and retained messages as they are in a file between two brokers: readable JSON,
a record in a line.

All times are milliseconds from the moment of the export, as each Redis has a clock of its own; a deadline
may have passed. Bytes are base64. A newer release may add fields, which are ignored; what an older one
would misread raises FORMAT.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from cluster.store import records
from cluster.store.entry import pack_entry, pack_head, unpack_entry
from cluster.store.moving import ExportPage, Receiving, State, Waiting, WaitingWill
from cluster.store.records import StoredWill

FORMAT: Final = 1

_LARGEST: Final = (1 << 53) - 1
"""Lua counts in doubles."""


def _bytes_of(given: object) -> object:
    return b64decode(given, validate=True) if isinstance(given, str) else given


def _text_of(given: bytes) -> str:
    return b64encode(given).decode()


Blob = Annotated[bytes, BeforeValidator(_bytes_of), PlainSerializer(_text_of, return_type=str)]
Number = Annotated[int, Field(ge=0, le=_LARGEST)]
PacketId = Annotated[int, Field(ge=1, le=65_535)]
Milliseconds = Annotated[int, Field(ge=-_LARGEST, le=_LARGEST)]
Name = Annotated[str, Field(min_length=1, max_length=65_535)]
Qos = Annotated[int, Field(ge=0, le=2)]


class Moved(BaseModel):
    """A record, or a part of one."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class MovedEntry(Moved):
    """A message in a queue. `was_retained`: published with RETAIN; `retain`: as its receiver is told."""

    n: Annotated[int, Field(ge=1, le=_LARGEST)]
    qos: Annotated[int, Field(ge=1, le=2)]
    topic: Name
    payload: Blob = b""
    properties: Blob = b""
    retain: bool = False
    was_retained: bool = False
    subscription_identifiers: Sequence[Annotated[int, Field(ge=1, le=268_435_455)]] = ()
    expires_ms: Milliseconds | None = None


class MovedEntries(Moved):
    """Some of a queue, in order, before its session. `first`: there are none before; `hi`: what may have
    been sent."""

    kind: Literal["entries"]
    client_id: Name
    first: bool = False
    hi: Number = 0
    entries: Sequence[MovedEntry]


class MovedSubscription(Moved):
    """With its options."""

    filter: Name
    qos: Qos = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: Qos = 0
    subscription_identifier: Annotated[int, Field(ge=0, le=268_435_455)] = 0


class MovedReplay(Moved):
    """Retained messages that a subscription is still owed, from the cursor on."""

    filter: Name
    cursor: str


class MovedExchange(Moved):
    """An inbound QoS 2 message whose PUBREL has not come."""

    packet_id: PacketId
    is_routed: bool
    age_ms: Milliseconds = 0
    token: Blob


class MovedLater(Moved):
    """A delayed message, or a will that waits; `id` of a delayed one, `delay_seconds` of a will."""

    due_ms: Milliseconds
    topic: Name
    payload: Blob = b""
    properties: Blob = b""
    qos: Qos = 0
    retain: bool = False
    expiry_seconds: Number | None = None
    id: str = ""
    delay_seconds: Number = 0


class MovedSession(Moved):
    """A session; its entries came before. `has_entries`: there were some. `lives_ms` None: its time has
    not begun, or it never ends."""

    kind: Literal["session"]
    client_id: Name
    connected: bool = False
    n: Number
    hi: Number
    expiry_seconds: Annotated[int, Field(ge=1, le=0xFFFFFFFF)]
    lives_ms: Number | None = None
    has_entries: bool = False
    subscriptions: Sequence[MovedSubscription] = ()
    replays: Sequence[MovedReplay] = ()
    released: Sequence[Number] = ()
    receiving: Sequence[MovedExchange] = ()
    delayed: Sequence[MovedLater] = ()
    will: MovedLater | None = None


class MovedToken(Moved):
    """Who has a message already that its publisher, at QoS 2, may send again."""

    kind: Literal["token"]
    bucket: Annotated[int, Field(ge=0, le=63)]
    token: Blob
    members: Sequence[str]


class MovedRetained(Moved):
    """A retained message."""

    kind: Literal["retained"]
    topic: Name
    payload: Blob
    qos: Qos = 0
    properties: Blob = b""
    expires_ms: Milliseconds | None = None


Record = Annotated[MovedEntries | MovedSession | MovedToken | MovedRetained, Field(discriminator="kind")]


def entries_of(client_id: str, page: ExportPage, now_ms: int, *, is_first: bool) -> MovedEntries:
    """Raises ValueError if an entry can't be read."""
    moved = [_entry(n, packed, now_ms) for n, packed in page.entries]
    return MovedEntries(kind="entries", client_id=client_id, first=is_first, hi=page.hi, entries=moved)


def _entry(n: int, packed: bytes, now_ms: int) -> MovedEntry:
    entry = unpack_entry(packed)
    return MovedEntry(
        n=n,
        qos=entry.qos,
        topic=entry.topic,
        payload=entry.payload,
        properties=entry.properties,
        retain=entry.retain,
        was_retained=entry.was_retained,
        subscription_identifiers=entry.subscription_identifiers,
        expires_ms=_ms_from(now_ms, entry.deadline_ms),
    )


def packed_entry(entry: MovedEntry, now_ms: int) -> bytes:
    """As a queue has it."""
    head = pack_head(entry.qos, entry.retain, tuple(entry.subscription_identifiers), entry.was_retained)
    deadline_ms = _deadline(now_ms, entry.expires_ms)
    return pack_entry(head, entry.topic, entry.payload, entry.properties, deadline_ms)


def session_of(client_id: str, state: State, *, has_entries: bool) -> MovedSession:
    """Raises ValueError if some of it can't be read."""
    return MovedSession(
        kind="session",
        client_id=client_id,
        connected=state.is_connected,
        n=state.n,
        hi=state.hi,
        expiry_seconds=state.expiry_seconds,
        lives_ms=state.lives_ms,
        has_entries=has_entries,
        subscriptions=[_subscription(filter, options) for filter, options in state.subscriptions],
        replays=[MovedReplay(filter=filter, cursor=cursor) for filter, cursor in state.replays],
        released=state.released,
        receiving=[
            MovedExchange(
                packet_id=each.packet_id, is_routed=each.is_routed, age_ms=each.age_ms, token=each.token
            )
            for each in state.receiving
        ],
        delayed=[_later(each.record, each.due_ms, id=each.id) for each in state.delayed],
        will=None
        if state.will is None
        else _later(state.will.record, state.will.due_ms, delay_seconds=state.will.delay_seconds),
    )


def state_of(session: MovedSession) -> State:
    """As the store takes it."""
    will = session.will
    return State(
        session.connected,
        session.n,
        session.hi,
        session.expiry_seconds,
        session.lives_ms,
        [(each.filter, _options(each)) for each in session.subscriptions],
        [(each.filter, each.cursor) for each in session.replays],
        session.released,
        [Receiving(each.packet_id, each.is_routed, each.age_ms, each.token) for each in session.receiving],
        [Waiting(each.id, each.due_ms, _will_record(session, each)) for each in session.delayed],
        None if will is None else WaitingWill(will.delay_seconds, will.due_ms, _will_record(session, will)),
    )


def retained_of(topic: str, record: bytes, now_ms: int) -> MovedRetained:
    """Raises ValueError if it can't be read."""
    message = records.unpack_retained(record)
    return MovedRetained(
        kind="retained",
        topic=topic,
        payload=message.payload,
        qos=message.qos,
        properties=message.properties,
        expires_ms=_ms_from(now_ms, message.deadline_ms),
    )


def retained_record(message: MovedRetained, now_ms: int) -> tuple[bytes, int]:
    """As the store takes it, and its deadline."""
    deadline_ms = _deadline(now_ms, message.expires_ms)
    return records.pack_retained(message.payload, message.qos, message.properties, deadline_ms), deadline_ms


def _subscription(filter: str, packed: bytes) -> MovedSubscription:
    options = records.unpack_options(packed)
    return MovedSubscription(
        filter=filter,
        qos=options.qos,
        no_local=options.no_local,
        retain_as_published=options.retain_as_published,
        retain_handling=options.retain_handling,
        subscription_identifier=options.subscription_identifier,
    )


def _options(given: MovedSubscription) -> bytes:
    return records.pack_options(
        given.qos,
        given.no_local,
        given.retain_as_published,
        given.retain_handling,
        given.subscription_identifier,
    )


def _later(record: bytes, due_ms: int, *, id: str = "", delay_seconds: int = 0) -> MovedLater:
    stored: StoredWill = records.unpack_will(record)
    return MovedLater(
        due_ms=due_ms,
        topic=stored.topic,
        payload=stored.payload,
        properties=stored.properties,
        qos=stored.qos,
        retain=stored.retain,
        expiry_seconds=stored.message_expiry_seconds,
        id=id,
        delay_seconds=delay_seconds,
    )


def _will_record(session: MovedSession, message: MovedLater) -> bytes:
    return records.pack_will(
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        message.properties,
        message.expiry_seconds,
        session.client_id,
    )


def _ms_from(now_ms: int, deadline_ms: int) -> int | None:
    return deadline_ms - now_ms if deadline_ms else None


def _deadline(now_ms: int, expires_ms: int | None) -> int:
    """Redis time, 0 for never."""
    return 0 if expires_ms is None else max(now_ms + expires_ms, 1)
