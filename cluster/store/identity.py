"""How a primary is known again: whether what it had answered once is still all there."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from cluster.store.call import Slot

_NONE: Final = "0"


class Identity:
    """Of a server, from INFO. Its replication id is another one after a fail-over or a restart. Without
    either it changes, too: when a first replica comes, or none has been there for an hour. Then the process
    is the same, and there is no second id, which would name the primary that it has followed."""

    __slots__ = ("_ids", "_run_id", "_second_id")

    def __init__(self, run_id: str, replication_id: str, second_id: str) -> None:
        self._run_id = run_id
        self._ids = {replication_id}
        self._second_id = second_id

    def __repr__(self) -> str:
        return f"Identity({self._run_id}, {sorted(self._ids)})"

    def is_still(self, replication_id: str, second_id: str, *, run_id: str = "") -> bool:
        """Whether a server that says so of itself has lost nothing since; `run_id` of the process to which a
        connection leads, if it is known."""
        if replication_id in self._ids:
            return True
        if run_id and run_id == self._run_id and not second_id.strip(_NONE):
            self._ids.add(replication_id)
            return True
        return False

    def is_same(self, other: "Identity") -> bool:
        """Whether that server has lost nothing since."""
        return all(self.is_still(each, other._second_id, run_id=other._run_id) for each in other._ids)

    @property
    def run_id(self) -> str:
        """Of its process."""
        return self._run_id


class Identities:
    """Of the primaries of a Redis Cluster that have answered, slot by slot. It grows as slots are asked for
    the first time. As soon as a slot is with another primary, after a fail-over or as it has moved, there is
    another object."""

    __slots__ = ("_by_slot",)

    def __init__(self, by_slot: Mapping[Slot, Identity] | None = None) -> None:
        self._by_slot: dict[Slot, Identity] = dict(by_slot or {})

    def __repr__(self) -> str:
        return f"Identities({self.of(list(self._by_slot))})"

    def of(self, slots: Sequence[Slot]) -> list[Identity]:
        """Who has answered these, each once; nobody, as long as none of them was asked for."""
        found = [self._by_slot[slot] for slot in slots if slot in self._by_slot]
        return list(dict.fromkeys(found))

    def joined(self, found: Mapping[Slot, Identity]) -> "Identities":
        """With those who answer now: this object, or another one if a slot has another primary."""
        known = {
            slot: self._by_slot[slot]
            for slot, identity in found.items()
            if slot in self._by_slot and self._by_slot[slot].is_same(identity)
        }
        if any(slot in self._by_slot and slot not in known for slot in found):
            return Identities({**self._by_slot, **found, **known})
        self._by_slot.update({**found, **known})
        return self


Primary: TypeAlias = Identity | Identities
"""Whoever has answered the lane."""
