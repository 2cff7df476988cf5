"""Exclusive subscriptions: who has a filter that only one client at a time may have.

A holder whose session has ended without freeing it (its node was killed, say) is found out by the next who
wants the filter: see lua/exclusive.lua.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.store.call import Reply
from cluster.store.keys import bucket_of
from cluster.store.reply import as_bytes, as_int, as_list, as_text


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has it: ask whether that is still so, then take it from `name`."""

    epoch: int
    client_id: str
    name: bytes


def take(matched: str, client_id: str, epoch: int, beaten: bytes | None) -> list[object]:
    """Takes a filter (without its prefix) if nobody has it, or only `beaten` had (Holder.name)."""
    beaten_or_not = False if beaten is None else beaten
    return ["take_exclusive", bucket_of(matched), matched, client_id, epoch, beaten_or_not]


def parse_take(reply: Reply) -> Holder | None:
    """The answer to `take`: None if it is the client's now."""
    if reply == 1:
        return None
    epoch, client_id, name = as_list(reply)
    return Holder(as_int(epoch), as_text(client_id), as_bytes(name))


def holds(holder: Holder, filter: str) -> list[object]:
    """Asks whether a session still has the filter (as it is in the session). Answer: True or False."""
    return ["holds_exclusive", bucket_of(holder.client_id), holder.client_id, holder.epoch, filter]


def free(matched: Sequence[str], client_id: str, epoch: int) -> list[list[object]]:
    """Frees filters that the client took with this epoch or an earlier one; a request for each bucket."""
    buckets: dict[int, list[str]] = {}
    for each in matched:
        buckets.setdefault(bucket_of(each), []).append(each)
    return [["free_exclusive", bucket, found, client_id, epoch] for bucket, found in buckets.items()]
