"""A round of a batch: which primary of a Redis Cluster gets what, and what its answers mean. No I/O."""

from collections.abc import Sequence
from typing import Final

from cluster.store.call import CallEncoder
from cluster.store.errors import (
    ItemError,
    LibraryMissing,
    NodeGone,
    SlotMoved,
    SlotMoving,
    StoreError,
    StoreStartError,
    StoreUnavailable,
)
from cluster.store.keys import META_SLOT
from cluster.store.lane import CallReplies, replies_of
from cluster.store.slots import Address
from cluster.store.splitting import AnyPiece, Plan
from cluster.store.topology import Topology

_REFUSED_INSIDE: Final = "ttempted to access a non local key"
_HARMLESS: Final[dict[type[StoreError], int]] = {SlotMoving: 1, LibraryMissing: 2, SlotMoved: 3}


class Batch:
    """What one primary gets, and what it has answered."""

    __slots__ = ("address", "answers", "parts", "pieces", "wants_version")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.pieces: list[AnyPiece] = []
        self.parts: list[bytes] = []
        self.wants_version = False
        self.answers: list[object] = []

    @property
    def count(self) -> int:
        """Of the answers that there will be."""
        return len(self.pieces) + self.wants_version


def batches_of(
    pieces: Sequence[AnyPiece], topology: Topology, encoder: CallEncoder, get_version: bytes = b""
) -> list[Batch]:
    """Who gets what. Raises StoreUnavailable if nobody serves a slot."""
    batches: dict[Address, Batch] = {}
    for piece in pieces:
        address = topology.primary_of(piece.call.slot)
        batch = batches.get(address)
        if batch is None:
            batch = batches[address] = Batch(address)
        batch.pieces.append(piece)
        encoder.append_to(batch.parts, piece.call)
    if get_version:
        address = topology.primary_of(META_SLOT)
        batch = batches.setdefault(address, Batch(address))
        batch.wants_version = True
        batch.parts.append(get_version)
    return list(batches.values())


def take_answers(plan: Plan, batch: Batch) -> list[StoreError]:
    """Notes what was answered; what stands between us and the rest, each once. Raises NodeGone."""
    troubles: dict[str, StoreError] = {}
    for piece, answer in zip(batch.pieces, batch.answers, strict=False):
        trouble = _trouble_of(answer)
        if trouble is None:
            replies = replies_of(piece.call, answer)
            trouble = _trouble_inside(replies)
            if trouble is None:
                plan.take(piece, replies)
        if trouble is not None:
            troubles.setdefault(str(trouble), trouble)
    if batch.wants_version and (trouble := _trouble_of(batch.answers[-1])) is not None:
        troubles.setdefault(str(trouble), trouble)
    return list(troubles.values())


def gravest(troubles: Sequence[StoreError]) -> StoreError:
    """That which takes longest to pass."""
    return min(troubles, key=lambda trouble: _HARMLESS.get(type(trouble), 0))


def _trouble_of(answer: object) -> StoreError | None:
    """What stands between us and a real answer; None if it is one."""
    if isinstance(answer, StoreUnavailable | StoreStartError):
        return answer
    if isinstance(answer, NodeGone):
        raise answer
    return None


def _trouble_inside(replies: CallReplies) -> StoreError | None:
    """A request that could not get at its keys though the call was let in, which can't be: all of it is sent
    again."""
    if isinstance(replies, StoreError):
        return None
    for reply in replies:
        if isinstance(reply, ItemError) and _REFUSED_INSIDE in str(reply):
            return SlotMoving(str(reply))
    return None
