"""What Redis knows of a client, a message or a topic, for a person who asks: `lua/explain.lua`. Payloads are
never among it."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Final

from cluster.store.call import Reply
from cluster.store.events import StoredEvent, unpack_events
from cluster.store.keys import bucket_of, bucket_of_topic
from cluster.store.records import Options, unpack_options
from cluster.store.reply import as_bytes, as_int, as_list, as_text, in_pairs, in_triples

SUBSCRIPTIONS: Final = 100
ENTRIES: Final = 3
"""Of each end of a queue."""
EXCHANGES: Final = 100
LETTERS_AT_A_TIME: Final = 100
TOKEN_HOLDERS: Final = 200
"""Of a bucket: if there are more, they are only counted."""

_QOS: Final = 0b11
_RETAIN: Final = 0b100
_ENTRY_FIELDS: Final = 6


@dataclass(frozen=True, slots=True)
class QueuedEntry:
    """A message in a queue. `deadline_ms` is 0 if it does not expire."""

    gen: int
    n: int
    qos: int
    retain: bool
    topic: str
    payload_bytes: int
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Subscribed:
    """`options` is None if they are damaged. `is_replaying`: its retained messages are not all queued."""

    filter: str
    options: Options | None
    is_replaying: bool


@dataclass(frozen=True, slots=True)
class StoredWillFacts:
    """`due_ms` is None as long as it is not decided that it is to be published."""

    topic: str
    qos: int
    retain: bool
    payload_bytes: int
    due_ms: int | None


@dataclass(frozen=True, slots=True)
class Receiving:
    """A QoS 2 message that the client has sent. `is_routed`: whoever had to get it has it, and PUBREL is what
    is waited for."""

    packet_id: int
    is_routed: bool
    since_ms: int
    token: bytes


@dataclass(frozen=True, slots=True)
class StoredSession:
    """Of a direct one there is little. `n` numbers the last entry of the queue, none beyond `hi` was sent.
    `deadline_ms`: when it ends, if nobody owns it; None: never, or it is owned. `tail`: the newest first."""

    epoch: int
    owner: str | None
    is_direct: bool
    protocol: int
    expiry_seconds: int
    deadline_ms: int | None
    has_will_delay: bool
    gen: int
    n: int
    hi: int
    subscription_count: int
    subscriptions: list[Subscribed]
    queued: int
    queued_bytes: int
    head: list[QueuedEntry]
    tail: list[QueuedEntry]
    will: StoredWillFacts | None
    releasing: list[int]
    receiving_count: int
    receiving: list[Receiving]


@dataclass(frozen=True, slots=True)
class Explained:
    """`session` is None if there is none. `events`: the newest first."""

    time_ms: int
    session: StoredSession | None
    events: list[StoredEvent]


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that did not reach its client."""

    time_ms: int
    topic: str
    reason: str


@dataclass(frozen=True, slots=True)
class Letters:
    """`before`: the id to go on with, None if all have been looked at."""

    before: str | None
    looked_at: int
    letters: list[Letter]


@dataclass(frozen=True, slots=True)
class PlaceOfEntry:
    """Where a message of a queue is. `entry` is None if it is not in there."""

    gen: int
    n: int
    hi: int
    is_released: bool
    entry: QueuedEntry | None
    head: int


@dataclass(frozen=True, slots=True)
class Brief:
    """A session in three facts."""

    owner: str | None
    deadline_ms: int | None
    queued: int


def explain(client_id: str) -> list[object]:
    """Asks for all that there is of a client."""
    return ["explain", bucket_of(client_id), client_id, SUBSCRIPTIONS, ENTRIES, EXCHANGES]


def parse_explain(reply: Reply) -> Explained:
    """The answer to `explain`."""
    fields = as_list(reply)
    events = as_bytes(fields[12]) if fields[12] else b""
    own = as_list(fields[1])
    session = _parse_session(own, fields) if own[1] else None
    return Explained(as_int(fields[0]), session, unpack_events(events))


def _parse_session(own: Sequence[object], fields: Sequence[object]) -> StoredSession:
    gen, epoch, owner, n, hi, protocol, expiry, deadline, will_delay, direct = own[:10]
    replays = {as_text(name) for name, _ in in_pairs(fields[4])}
    subscriptions = [
        Subscribed(as_text(name), _options(as_bytes(options)), as_text(name) in replays)
        for name, options, _ in in_triples(fields[3])
    ]
    return StoredSession(
        epoch=_number(epoch),
        owner=as_text(owner) if owner else None,
        is_direct=bool(direct),
        protocol=_number(protocol),
        expiry_seconds=_number(expiry),
        deadline_ms=_number(deadline) if deadline else None,
        has_will_delay=bool(will_delay),
        gen=_number(gen),
        n=_number(n),
        hi=_number(hi),
        subscription_count=len(subscriptions) if fields[13] else as_int(fields[2]) - _others(own, replays),
        subscriptions=subscriptions[:SUBSCRIPTIONS],
        queued=as_int(fields[5]),
        queued_bytes=as_int(fields[14]),
        head=_parse_entries(fields[6]),
        tail=_parse_entries(fields[7]),
        will=_parse_will(fields[8]),
        releasing=[int(as_bytes(each)) for each in as_list(fields[9])],
        receiving_count=as_int(fields[11]),
        receiving=_parse_receiving(fields[10]),
    )


def _others(own: Sequence[object], replays: Sized) -> int:
    """Fields of a session that are no subscriptions, as far as replays are known."""
    return sum(bool(each) for each in own) + len(replays)


def _number(value: object) -> int:
    return int(as_bytes(value)) if value else 0


def _options(packed: bytes) -> Options | None:
    try:
        return unpack_options(packed)
    except (ValueError, TypeError):
        return None


def _parse_entries(flat: object) -> list[QueuedEntry]:
    fields = as_list(flat)
    return [_parse_entry(fields[i : i + _ENTRY_FIELDS]) for i in range(0, len(fields), _ENTRY_FIELDS)]


def _parse_entry(fields: Sequence[object]) -> QueuedEntry:
    gen, n, flags, topic, size, deadline = fields
    bits = as_int(flags)
    return QueuedEntry(
        as_int(gen),
        as_int(n),
        bits & _QOS,
        bits & _RETAIN != 0,
        as_bytes(topic).decode(errors="replace"),
        as_int(size),
        as_int(deadline),
    )


def _parse_will(reply: Reply) -> StoredWillFacts | None:
    if not reply:
        return None
    topic, flags, size, due = as_list(reply)[:4]
    bits = as_int(flags)
    return StoredWillFacts(
        as_bytes(topic).decode(errors="replace"),
        bits & _QOS,
        bits & _RETAIN != 0,
        as_int(size),
        as_int(due) if due else None,
    )


def _parse_receiving(flat: object) -> list[Receiving]:
    found = []
    for packet_id, value in in_pairs(flat):
        state, _, token = as_bytes(value).partition(b":")
        is_routed = state[:1] in (b"1", b"3")
        found.append(Receiving(int(as_bytes(packet_id)), is_routed, int(state[1:] or 0), token))
    return sorted(found, key=lambda each: each.since_ms)


def explain_letters(client_id: str, before: str | None) -> list[object]:
    """Asks for the dead letters of a client among some of its bucket, from the newest on."""
    place: object = before or False
    return ["explain_letters", bucket_of(client_id), client_id, place, LETTERS_AT_A_TIME]


def parse_letters(reply: Reply) -> Letters:
    """The answer to `explain_letters`."""
    before, looked_at, flat = as_list(reply)[:3]
    letters = [
        Letter(as_int(time_ms), as_bytes(topic).decode(errors="replace"), as_text(reason))
        for time_ms, topic, reason in in_triples(flat)
    ]
    return Letters(as_text(before) if before else None, as_int(looked_at), letters)


def explain_entry(client_id: str, n: int) -> list[object]:
    """Asks where an entry of a queue is."""
    return ["explain_entry", bucket_of(client_id), client_id, n]


def parse_place(reply: Reply) -> PlaceOfEntry | None:
    """The answer to `explain_entry`; None if there is no session."""
    if not reply:
        return None
    gen, n, hi, is_released, flat, head = as_list(reply)[:6]
    entries = _parse_entries(flat)
    return PlaceOfEntry(
        as_int(gen), as_int(n), as_int(hi), bool(is_released), entries[0] if entries else None, as_int(head)
    )


def explain_token(bucket: int, token: bytes) -> list[object]:
    """Asks who of a bucket has the message of a token."""
    return ["explain_token", bucket, token, TOKEN_HOLDERS]


def parse_holders(reply: Reply) -> tuple[int, list[str]]:
    """The answer to `explain_token`: how many, and who, unless they are too many: `s:<client>`,
    `g:<group/filter>`, `r` (retained)."""
    count, names = as_list(reply)[:2]
    return as_int(count), [as_bytes(name).decode(errors="replace") for name in as_list(names)]


def explain_queue(client_id: str) -> list[object]:
    """Asks for a session in brief."""
    return ["explain_queue", bucket_of(client_id), client_id]


def parse_brief(reply: Reply) -> Brief | None:
    """The answer to `explain_queue`; None if there is no session."""
    if not reply:
        return None
    owner, deadline, queued = as_list(reply)[:3]
    return Brief(as_text(owner) if owner else None, as_int(deadline) if deadline else None, as_int(queued))


def explain_retained(topic: str) -> list[object]:
    """Asks for the retained message of a topic."""
    return ["explain_retained", bucket_of_topic(topic), topic]


def parse_retained(reply: Reply) -> tuple[int, int] | None:
    """The answer to `explain_retained`: bytes of its record, and its deadline in ms or 0. None if there is
    none."""
    if not reply:
        return None
    size, deadline = as_list(reply)[:2]
    return as_int(size), as_int(deadline)
