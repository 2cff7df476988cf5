"""All bans of the cluster in the memory of a node, so that looking for one costs next to nothing. No I/O.

Exact names are in a dict. Addresses are in one dict for each length of a network that there is: at most 33
look-ups, 129 for IPv6, however many bans there are. So it is with patterns, by their text before the first
`*`; those of one beginning are tried one by one.
"""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Final

from broker.auth.address import parsed_address, plain_address
from broker.auth.ban import ANY, Ban, BanKind, Target, pair_of
from broker.auth.rules import is_named

BANS_MAXIMUM: Final = 100_000
PATTERNS_MAXIMUM: Final = 200
"""Those that begin with `*` are all tried at each CONNECT, half a microsecond each."""


class _Networks:
    """Of one version of the internet protocol."""

    __slots__ = ("_by_length", "_width")

    def __init__(self, width: int) -> None:
        self._width = width
        self._by_length: dict[int, dict[int, Ban]] = {}  # bits that count -> those bits -> ban

    def add(self, first: int, length: int, ban: Ban) -> None:
        self._by_length.setdefault(length, {})[first >> (self._width - length)] = ban

    def remove(self, first: int, length: int) -> None:
        bans = self._by_length.get(length, {})
        bans.pop(first >> (self._width - length), None)
        if not bans:
            self._by_length.pop(length, None)

    def find(self, address: int, now_ms: int, only_set: bool) -> Ban | None:
        for length, bans in self._by_length.items():
            ban = bans.get(address >> (self._width - length))
            if ban is not None and _counts(ban, now_ms, only_set):
                return ban
        return None


class BanList:
    """Bans by their targets. What has ended holds no more, and stays until somebody removes it. `only_set`:
    those that came by themselves do not count."""

    def __init__(self) -> None:
        self._bans: dict[Target, Ban] = {}
        self._patterns: dict[str, dict[str, Ban]] = {}  # text before the first "*" -> pattern -> ban
        self._lengths: frozenset[int] = frozenset()  # of those texts
        self._networks = {4: _Networks(32), 6: _Networks(128)}
        self._counts = dict.fromkeys((kind.value for kind in BanKind), 0)

    def __len__(self) -> int:
        return len(self._bans)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many there are of each kind; this is always up to date."""
        return self._counts

    def get(self, target: Target) -> Ban | None:
        """The ban of exactly this target, whether it has ended or not."""
        return self._bans.get(target)

    def become(self, other: "BanList") -> None:
        """All that `other` holds, and nothing else; that is not to be used any more."""
        self._bans = other._bans
        self._patterns = other._patterns
        self._lengths = other._lengths
        self._networks = other._networks
        self._counts.update(other._counts)

    def add(self, ban: Ban) -> None:
        """In place of one with the same target."""
        target = ban.target
        if target not in self._bans:
            self._counts[target.kind] += 1
        self._bans[target] = ban
        if target.kind is BanKind.ADDRESS:
            network = ip_network(target.value)
            self._networks[network.version].add(int(network.network_address), network.prefixlen, ban)
        elif target.is_pattern:
            self._patterns.setdefault(target.value.partition(ANY)[0], {})[target.value] = ban
            self._lengths = frozenset(map(len, self._patterns))

    def remove(self, target: Target) -> Ban | None:
        """What it was, if it was there."""
        ban = self._bans.pop(target, None)
        if ban is None:
            return None
        self._counts[target.kind] -= 1
        if target.kind is BanKind.ADDRESS:
            network = ip_network(target.value)
            self._networks[network.version].remove(int(network.network_address), network.prefixlen)
        elif target.is_pattern:
            beginning = target.value.partition(ANY)[0]
            del self._patterns[beginning][target.value]
            if not self._patterns[beginning]:
                del self._patterns[beginning]
                self._lengths = frozenset(map(len, self._patterns))
        return ban

    def find_address(self, text: str, now_ms: int, *, only_set: bool = False) -> Ban | None:
        """The ban of an address, or of a network that it is in."""
        # Mostly there are none at all, and that costs less to see.
        if not self._bans or not self._counts[BanKind.ADDRESS]:
            return None
        address = parsed_address(text)
        if address is None:
            return None
        return self._networks[address.version].find(int(address), now_ms, only_set)

    def find_user(self, username: str | None, now_ms: int, *, only_set: bool = False) -> Ban | None:
        """The ban of a user name."""
        if username is None or not self._counts[BanKind.USER]:
            return None
        return self._holding(Target(BanKind.USER, username), now_ms, only_set)

    def find_client(self, client_id: str, address: str, now_ms: int, *, only_set: bool = False) -> Ban | None:
        """The ban of a Client Identifier, anywhere or at this address."""
        if not self._bans:
            return None
        ban = self._holding(Target(BanKind.CLIENT, client_id), now_ms, only_set)
        if ban is None and self._counts[BanKind.PAIR]:
            ban = self._holding(pair_of(plain_address(address), client_id), now_ms, only_set)
        if ban is None and self._patterns:
            ban = self._matching(client_id, now_ms, only_set)
        return ban

    def _holding(self, target: Target, now_ms: int, only_set: bool) -> Ban | None:
        ban = self._bans.get(target)
        return ban if ban is not None and _counts(ban, now_ms, only_set) else None

    def _matching(self, client_id: str, now_ms: int, only_set: bool) -> Ban | None:
        for length in self._lengths:
            for pattern, ban in self._patterns.get(client_id[:length], {}).items():
                if _counts(ban, now_ms, only_set) and is_named(client_id, (pattern,)):
                    return ban
        return None


def _counts(ban: Ban, now_ms: int, only_set: bool) -> bool:
    return ban.holds(now_ms) and not (only_set and ban.is_automatic)
