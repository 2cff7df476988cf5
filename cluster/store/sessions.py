"""Claiming a session for a connection, and giving it back."""

from collections.abc import Sequence
from typing import Final

from cluster.store.call import Reply
from cluster.store.deadlines import DueWill, parse_rows, parse_wills
from cluster.store.keys import bucket_of
from cluster.store.reply import as_bytes, as_int, as_ints, as_list, as_text, in_pairs, in_triples

NEVER: int = 0xFFFFFFFF
"""Session Expiry Interval of a session that does not expire."""

_WHOLE: Final = 14
"""So many fields has an answer that is not brief, at least."""
_DOUBTED: Final = 15


class Claim:
    """The session as its new owner finds it: by default a new one without a queue.

    `present`: it was there before. `gen` and `n` name the last queue entry, `sent` is the last that may
    have been sent, none beyond `hi` may be sent now. `wills` are to be published before CONNACK;
    `ended_rows` are rows of a session that was deleted, for the caller to delete. `receiving`: inbound QoS
    2 exchanges (packet identifier, token, whether routed); `released`: outbound ones in their PUBREL phase,
    in order; `replays`: filters whose retained messages have not all been queued, and from where to go on.
    `unsure`: so many entries are queued of which the client may have acknowledged some, as another primary
    has come since; `doubted`: Packet Identifiers of `receiving` which it may have released, for the same
    reason."""

    __slots__ = (
        "doubted",
        "ended_rows",
        "epoch",
        "gen",
        "hi",
        "n",
        "present",
        "previous_epoch",
        "previous_owner",
        "receiving",
        "released",
        "replays",
        "sent",
        "subscriptions",
        "unsure",
        "wills",
    )

    def __init__(self, epoch: int) -> None:
        self.present = False
        self.epoch = epoch
        self.gen = epoch
        self.n = 0
        self.sent = 0
        self.hi = 0
        self.previous_owner: str | None = None
        self.previous_epoch = 0
        self.subscriptions: Sequence[tuple[str, bytes, int]] = ()
        self.receiving: Sequence[tuple[int, bytes, bool]] = ()
        self.released: Sequence[int] = ()
        self.wills: Sequence[DueWill] = ()
        self.ended_rows: Sequence[tuple[str, int]] = ()
        self.replays: Sequence[tuple[str, str]] = ()
        self.unsure = 0
        self.doubted: Sequence[int] = ()


class Detached:
    """`stale`: another owner has the session, nothing was done. `ended_rows`: it has ended with its
    connection, for the caller to delete. `will`: to be published now."""

    __slots__ = ("ended_rows", "stale", "will")

    def __init__(self, stale: bool, ended_rows: Sequence[tuple[str, int]], will: DueWill | None) -> None:
        self.stale = stale
        self.ended_rows = ended_rows
        self.will = will


def claim(
    client_id: str,
    *,
    nonce: bytes,
    clean_start: bool,
    expiry_seconds: int,
    protocol: int,
    window: int,
    will: bytes | None,
    will_delay_seconds: int,
    is_repeat: bool = False,
) -> list[object]:
    """Makes the caller the owner of a session. A claim with the same `nonce` gets the same answer.
    `is_repeat` asks only for that answer, False if there is none: nothing is claimed.

    `window`: how many entries may be in flight, at least 1. `will`: from `records.pack_will`.
    """
    return [
        "claim",
        bucket_of(client_id),
        client_id,
        nonce,
        clean_start,
        expiry_seconds,
        protocol,
        window,
        False if will is None else will,
        will_delay_seconds,
        is_repeat,
        True,  # a brief answer will do
    ]


def parse_claim(reply: Reply) -> Claim:
    """The answer to `claim`."""
    fields = as_list(reply)
    claim = Claim(as_int(fields[1]))
    if len(fields) < _WHOLE:  # a direct session, as of nearly all that come and go: there was nothing to find
        return claim
    present, _, gen, n, sent, hi, owner, owner_epoch = fields[:8]
    filters, receiving, released, wills, rows, replays = fields[8:14]
    claim.present = bool(present)
    claim.gen = as_int(gen)
    claim.n = as_int(n)
    claim.sent = as_int(sent)
    claim.hi = as_int(hi)
    claim.previous_owner = as_text(owner) if owner else None
    claim.previous_epoch = as_int(owner_epoch)
    claim.subscriptions = _parse_subscriptions(filters) if filters else []
    claim.receiving = _parse_receiving(receiving) if receiving else []
    claim.released = as_ints(released)
    claim.wills = parse_wills(wills)
    claim.ended_rows = parse_rows(rows)
    claim.replays = _parse_replays(replays) if replays else []
    if len(fields) > _WHOLE:
        claim.unsure = as_int(fields[_WHOLE])
    if len(fields) > _DOUBTED and fields[_DOUBTED]:
        claim.doubted = as_ints(fields[_DOUBTED])
    return claim


def _parse_subscriptions(flat: object) -> list[tuple[str, bytes, int]]:
    return [(as_text(name), as_bytes(options), as_int(stamp)) for name, options, stamp in in_triples(flat)]


def _parse_receiving(flat: object) -> list[tuple[int, bytes, bool]]:
    return [(as_int(key), as_bytes(token), bool(routed)) for key, token, routed in in_triples(flat)]


def _parse_replays(flat: object) -> list[tuple[str, str]]:
    return [(as_text(name), as_text(cursor)) for name, cursor in in_pairs(flat)]


def detach(
    client_id: str,
    epoch: int,
    *,
    sent: int,
    expiry_seconds: int | None,
    fire_will: bool,
    is_plain: bool = False,
) -> list[object]:
    """Gives a session back. `sent`: the last number sent over this connection, 0 for none.

    `expiry_seconds`: what DISCONNECT changed it to, None for no change. `fire_will` False: the will is
    deleted [MQTT-3.1.2-10]. `is_plain`: the session is direct, and its connection had no will.
    """
    expiry: object = False  # not an int: mypyc would make it 0
    if expiry_seconds is not None:
        expiry = expiry_seconds
    return [
        "detach",
        bucket_of(client_id),
        client_id,
        epoch,
        sent,
        expiry,
        fire_will,
        is_plain,
    ]


def parse_detach(reply: Reply) -> Detached:
    """The answer to `detach`."""
    stale, rows, will = as_list(reply)[:3]
    wills = parse_wills(will)
    return Detached(bool(stale), parse_rows(rows), wills[0] if wills else None)


def session_count(bucket: int) -> list[object]:
    """Asks how many persistent sessions this bucket has. Answer: the number."""
    return ["session_count", bucket]
