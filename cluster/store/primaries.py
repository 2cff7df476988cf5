"""Which primary serves a slot, and how often another one has come (`lua/adopt.lua`).

Another one may lack the newest writes: of a fail-over, or of a restart that lost some. Each connection that
carries data asks for all its slots before anything else, so that no number of lost writes is given again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from cluster.store.call import Reply, Slot
from cluster.store.errors import ItemError
from cluster.store.keys import BUCKETS, META_SLOT
from cluster.store.reply import as_int, as_list, as_text

SLOTS: Final[Sequence[Slot]] = (*range(BUCKETS), META_SLOT)


@dataclass(frozen=True, slots=True)
class Primary:
    """`replication_id`: empty if the server does not tell it; then nobody can know another one by it."""

    replication_id: str
    term: int


Primaries: TypeAlias = Mapping[Slot, Primary]


def adopt(met: Primaries) -> list[list[object]]:
    """A request for each slot. `met`: the primaries that the caller has met before."""
    return [
        ["adopt", slot, met[slot].replication_id if slot in met and met[slot].replication_id else False]
        for slot in SLOTS
    ]


def parse_adopt(replies: Sequence[Reply], slots: Sequence[Slot] = SLOTS) -> dict[Slot, Primary]:
    """The answers to `adopt`. Raises ItemError. `slots`: those that were asked for, if not all."""
    found: dict[Slot, Primary] = {}
    for slot, reply in zip(slots, replies, strict=True):
        if isinstance(reply, ItemError):
            raise reply
        replication_id, term = as_list(reply)[:2]
        found[slot] = Primary(as_text(replication_id) if replication_id else "", as_int(term))
    return found


def changed(before: Primaries, now: Primaries) -> list[Slot]:
    """The slots that another primary serves."""
    return [slot for slot, primary in now.items() if slot in before and before[slot] != primary]
