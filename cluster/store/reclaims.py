"""What a node holds of a session, said to a primary that may have lost some of it (`lua/reclaim.lua`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.store.call import Reply, Slot
from cluster.store.deadlines import DueWill, parse_rows, parse_wills
from cluster.store.keys import bucket_of
from cluster.store.reply import as_int, as_list, as_text

LOST, KEPT, MADE_AGAIN = 0, 1, 2
_OWNED_PER_CALL: Final = 200


@dataclass(frozen=True, slots=True)
class Held:
    """A session as its node knows it. Of a direct one the numbers are 0 and the lists are empty.

    `first_gen`: entries of older gens are of an earlier session. `n`: the last number known, `next_n` the
    first that was not sent yet. `stamp`: up to which its subscriptions are known, `subscriptions` all that
    there are then. `in_flight`: gen, n, ...; `released`: numbers in the PUBREL phase, `releasing` those about
    to be. `receiving`: packet identifier, token, whether it was routed; without a token and not routed: what
    the store has of it stays. `replays`: filters whose retained messages are being queued, and from where it
    goes on.
    """

    client_id: str
    epoch: int
    is_direct: bool
    protocol: int
    expiry_seconds: int
    will: bytes | None = None
    will_delay_seconds: int = 0
    gen: int = 0
    first_gen: int = 0
    n: int = 0
    next_n: int = 0
    hi: int = 0
    stamp: int = 0
    subscriptions: Sequence[tuple[str, bytes, int]] = ()
    in_flight: Sequence[int] = ()
    released: Sequence[int] = ()
    releasing: Sequence[int] = ()
    receiving: Sequence[tuple[int, bytes, bool]] = ()
    replays: Sequence[tuple[str, str]] = ()

    @property
    def size(self) -> int:
        """How many of the smallest sessions take as much time."""
        items = len(self.subscriptions) + len(self.in_flight) // 2 + len(self.released) + len(self.receiving)
        return 1 + items // 8


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """`status`: LOST, KEPT or MADE_AGAIN. `gen` and `n` name the last entry from now on. `settled`: entries
    that were still here though the client has settled them; `differing`: QoS 2 exchanges that were in another
    state; `kept`: entries in flight that are here. `cursor`: ask again from there, None if that was all."""

    status: int
    gen: int
    n: int
    settled: int
    differing: int
    kept: int
    cursor: str | None


def reclaim(held: Held, cursor: str | None = None) -> list[object]:
    """Makes the session in the store equal to what is held."""
    subscriptions: list[object] = []
    for row in held.subscriptions:
        subscriptions += row
    receiving: list[object] = []
    for exchange in held.receiving:
        receiving += exchange
    state = [
        held.epoch,
        held.gen,
        held.first_gen,
        held.n,
        held.next_n,
        held.hi,
        held.protocol,
        held.expiry_seconds,
        held.is_direct,
        False if held.will is None else held.will,
        held.will_delay_seconds,
        held.stamp,
        subscriptions,
        held.in_flight,
        held.released,
        held.releasing,
        receiving,
        [item for replay in held.replays for item in replay],
    ]
    where = False if cursor is None else cursor
    return ["reclaim", bucket_of(held.client_id), held.client_id, state, where]


def parse_reclaim(reply: Reply) -> Reclaimed:
    """The answer to `reclaim`."""
    status, gen, n, settled, differing, kept, cursor = as_list(reply)[:7]
    return Reclaimed(
        as_int(status),
        as_int(gen),
        as_int(n),
        as_int(settled),
        as_int(differing),
        as_int(kept),
        as_text(cursor) if cursor else None,
    )


def owned(bucket: Slot, cursor: str) -> list[object]:
    """Asks for some of the sessions that the caller owns in this bucket; "0" is the beginning, and the
    end."""
    return ["owned", bucket, cursor, _OWNED_PER_CALL]


def parse_owned(reply: Reply) -> tuple[str, list[str]]:
    """Where to go on, and Client Identifiers; one may come twice."""
    cursor, clients = as_list(reply)[:2]
    return as_text(cursor), [as_text(client) for client in as_list(clients)]


def give_back(client_id: str) -> list[object]:
    """A session that the caller owns and has no connection of: it is free, or ends."""
    return ["give_back", bucket_of(client_id), client_id]


def parse_give_back(reply: Reply) -> tuple[list[tuple[str, int]], DueWill | None]:
    """Rows of the session if it has ended, and its will if that is to be published now."""
    rows, will = as_list(reply)[:2]
    wills = parse_wills(will)
    return parse_rows(rows), wills[0] if wills else None
