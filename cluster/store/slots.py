"""Hash slots of Redis Cluster: which slot a key has, and which primary serves it now. No I/O.

A view is what one node says of all; the address that it tells of itself may be empty (it is the one that
was asked) or unknown. What we do not know is asked again, and bounded: a cluster has at most 1,000
primaries.
"""

from binascii import crc_hqx
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cluster.store.errors import StoreUnavailable
from cluster.store.reply import as_int, as_list, as_text

SLOTS: Final = 16384

Address: TypeAlias = tuple[str, int]
"""Host and port."""

_NODES_MAXIMUM: Final = 5000


def hash_slot(key: str | bytes) -> int:
    """CRC-16 (XMODEM) of the key, or of what is in its first pair of braces if that is not empty."""
    name = key if isinstance(key, bytes) else key.encode()
    opening = name.find(b"{")
    if opening >= 0:
        closing = name.find(b"}", opening + 1)
        if closing > opening + 1:
            name = name[opening + 1 : closing]
    return crc_hqx(name, 0) & (SLOTS - 1)


@dataclass(frozen=True, slots=True)
class SlotRange:
    """Slots that one primary serves, both ends included."""

    first: int
    last: int
    primary: Address


@dataclass(frozen=True, slots=True)
class View:
    """What a node says: who serves what, and all nodes that it names, replicas too."""

    ranges: tuple[SlotRange, ...]
    nodes: tuple[Address, ...]

    @property
    def primaries(self) -> list[Address]:
        """Each once, in the order of their slots."""
        return list(dict.fromkeys(each.primary for each in self.ranges))

    def by_slot(self) -> Mapping[int, Address]:
        """Of all slots that are served."""
        return {slot: each.primary for each in self.ranges for slot in range(each.first, each.last + 1)}


def parse_slots(reply: object, asked: Address) -> View:
    """The answer of CLUSTER SLOTS. Raises StoreUnavailable if it is none: whoever asked tries elsewhere."""
    ranges: list[SlotRange] = []
    nodes: dict[Address, None] = {}
    try:
        for each in as_list(reply):
            first, last, *serving = as_list(each)
            addresses = [_address(as_list(node), asked) for node in serving]
            known = [address for address in addresses if address is not None]
            nodes.update(dict.fromkeys(known))
            if addresses and addresses[0] is not None:
                ranges.append(SlotRange(as_int(first), as_int(last), addresses[0]))
    except (TypeError, ValueError, IndexError) as error:
        raise StoreUnavailable(f"{asked[0]}:{asked[1]}: no answer to CLUSTER SLOTS: {error}") from error
    if len(nodes) > _NODES_MAXIMUM or any(not 0 <= r.first <= r.last < SLOTS for r in ranges):
        raise StoreUnavailable(f"{asked[0]}:{asked[1]}: an answer to CLUSTER SLOTS that can't be")
    return View(tuple(ranges), tuple(nodes))


def _address(node: list[object], asked: Address) -> Address | None:
    """Of what is preferred there: an address or a host name. Empty or NULL: the host that was asked; "?": it
    is not known."""
    host = as_text(node[0]) if node[0] else asked[0]
    return None if host == "?" else (host, as_int(node[1]) or asked[1])


def moved_to(error: str, asked: Address) -> tuple[int, Address] | None:
    """Slot and address that "MOVED <slot> <host>:<port>" names; None if there is no reading it."""
    words = error.split(" ")
    if len(words) < 3 or words[0] != "MOVED" or not words[1].isdecimal():
        return None
    host, _, port = words[2].rpartition(":")
    if not port.isdecimal():
        return None
    return int(words[1]), (host.strip("[]") or asked[0], int(port))
