"""Where the memory of one server goes, without looking at all of its keys.

Two parts. Keys of ours of which there is a fixed number (retained messages, subscriptions, dead letters, ...)
are asked for by name: a few of them may hold most, which chance would miss. Of all others some are taken at
random, and stand for the rest; so each number comes with a margin.

Bounded: in samples, in time, and in what Redis does in one go: after _PIECE commands others have their turn.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from cluster.store.call import pack_command
from cluster.store.connection import Connection
from cluster.store.errors import AccessDenied, CallFailed, SlotMoved, StoreError
from cluster.store.key_kinds import KINDS, NOT_OURS, SESSIONS, Named, common_keys, name_of

SAMPLES_MAXIMUM: Final = 1000
PREFIXES_SHOWN: Final = 50
_PIECE: Final = 20
_INNER_SAMPLES: Final = 5
"""Elements of a key that MEMORY USAGE looks at; the rest is taken to be alike."""
_PAUSE_SECONDS: Final = 0.001
_NO_RIGHT: Final = (
    "this user of Redis may not take keys at random, so only a part is known: it lacks +dbsize or +randomkey"
    " (`moorline redis acl` tells the whole list)"
)
_CONFIDENCE: Final = 1.96
"""Standard errors in a margin: 19 of 20 are nearer."""


@dataclass(frozen=True, slots=True)
class Part:
    """Keys of one kind, or with one prefix. `margin_bytes`: the true number is nearer than that, most likely.
    `keys` is estimated, too."""

    name: str
    keys: int
    bytes: int
    margin_bytes: int


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest key that was seen. `key` is empty if it is not one of ours."""

    key: str
    prefix: str
    kind: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Account:
    """`measured` keys were asked for by name, `sampled` ones at random; `unreadable` of these are none that
    our user of Redis may look at, and their size is not in here. `session_bytes`: of our keys of kind
    "sessions", for each session. `problem`: why something is missing."""

    keys: int
    measured: int
    sampled: int
    unreadable: int
    kinds: list[Part]
    prefixes: list[Part]
    session_bytes: int | None
    largest: Largest | None
    problem: str


@dataclass(slots=True)
class _Sum:
    """Of what was asked for by name, and of samples."""

    known_keys: int = 0
    known_bytes: int = 0
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def part(self, name: str, sampled: int, population: int) -> Part:
        """`sampled` keys stand for `population`."""
        if not sampled:
            return Part(name, self.known_keys, self.known_bytes, 0)
        mean = self.total / sampled
        variance = max(self.squares / sampled - mean * mean, 0.0)
        margin = _CONFIDENCE * population * math.sqrt(variance / sampled)
        return Part(
            name,
            self.known_keys + round(population * self.count / sampled),
            self.known_bytes + round(population * mean),
            round(margin),
        )


@dataclass(slots=True)
class _Accountant:
    prefix: str
    kinds: dict[str, _Sum] = field(default_factory=lambda: {kind: _Sum() for kind in KINDS})
    prefixes: dict[str, _Sum] = field(default_factory=dict)
    own_sessions: _Sum = field(default_factory=_Sum)
    session_count: int = 0
    known: set[bytes] = field(default_factory=set)
    sampled: int = 0
    unreadable: int = 0
    largest: Largest | None = None
    problem: str = ""

    def take_known(self, key: bytes, size: int) -> None:
        self.known.add(key)
        named = name_of(key)
        for each in self._sums(named):
            each.known_keys += 1
            each.known_bytes += size
        self._see(key, named, size)

    def take_sample(self, key: bytes, size: int | None) -> None:
        """None: it must not be looked at."""
        self.sampled += 1
        if key in self.known:
            return
        named = name_of(key)
        self.unreadable += size is None
        self.session_count += named.is_session and named.prefix == self.prefix
        for each in self._sums(named):
            each.count += 1
            each.total += size or 0
            each.squares += (size or 0) ** 2
        if size is not None:
            self._see(key, named, size)

    def _sums(self, named: Named) -> list[_Sum]:
        """Where this key belongs."""
        name = named.prefix or NOT_OURS
        if name not in self.prefixes and len(self.prefixes) >= PREFIXES_SHOWN:
            name = "others"
        sums = [self.kinds[named.kind], self.prefixes.setdefault(name, _Sum())]
        if named.kind == SESSIONS and named.prefix == self.prefix:
            sums.append(self.own_sessions)
        return sums

    def _see(self, key: bytes, named: Named, size: int) -> None:
        if self.largest is None or size > self.largest.bytes:
            # Names of others' keys are their clients' ids.
            shown = key.decode(errors="replace") if named.prefix == self.prefix else ""
            self.largest = Largest(shown, named.prefix, named.kind, size)

    def account(self, keys: int) -> Account:
        # The mean over all samples times all keys; those that were measured count as nothing there.
        kinds = [each.part(kind, self.sampled, keys) for kind, each in self.kinds.items()]
        prefixes = [each.part(name, self.sampled, keys) for name, each in self.prefixes.items()]
        return Account(
            keys,
            len(self.known),
            self.sampled,
            self.unreadable,
            [part for part in kinds if part.keys],
            sorted(prefixes, key=lambda part: -part.bytes),
            self._session_bytes(keys),
            self.largest,
            self.problem,
        )

    def _session_bytes(self, keys: int) -> int | None:
        if not self.session_count:
            return None
        own = self.own_sessions.part(SESSIONS, self.sampled, keys)
        return round(own.bytes * self.sampled / (keys * self.session_count))


async def account_of(
    connection: Connection, prefix: str, samples: int = SAMPLES_MAXIMUM, seconds: float = 1.5
) -> Account:
    """Of the server that `connection` leads to; not for much longer than `seconds`. Raises StoreError."""
    accountant = _Accountant(prefix)
    until = time.monotonic() + seconds
    await _measure(connection, accountant, until - seconds / 2)
    (keys,) = await connection.ask(pack_command("DBSIZE"), 1)
    if isinstance(keys, AccessDenied):
        accountant.problem = _NO_RIGHT
    elif isinstance(keys, int) and keys:
        await _sample(connection, accountant, samples, until)
    return accountant.account(keys if isinstance(keys, int) else len(accountant.known))


def usage(names: Sequence[str | bytes]) -> bytes:
    """Asks how much memory some keys take, in as many commands."""
    return b"".join(pack_command("MEMORY", "USAGE", name, "SAMPLES", _INNER_SAMPLES) for name in names)


def sizes_of(replies: Sequence[object]) -> list[int]:
    """The answers to that, of keys of ours; 0 for one that is not there. Raises StoreError."""
    for reply in replies:
        if isinstance(reply, StoreError):
            raise reply
    return [reply if isinstance(reply, int) else 0 for reply in replies]


async def _measure(connection: Connection, accountant: _Accountant, until: float) -> None:
    names = list(common_keys(accountant.prefix))
    for first in range(0, len(names), _PIECE):
        piece = names[first : first + _PIECE]
        replies = await connection.ask(usage(piece), len(piece))
        here = [each for each in zip(piece, replies, strict=True) if not isinstance(each[1], SlotMoved)]
        for (name, _), size in zip(here, sizes_of([reply for _, reply in here]), strict=True):
            if size:
                accountant.take_known(name.encode(), size)
        await anyio.sleep(_PAUSE_SECONDS)
        if time.monotonic() > until:
            accountant.problem = "Redis is slow: not all was asked for"
            return


async def _sample(connection: Connection, accountant: _Accountant, samples: int, until: float) -> None:
    while accountant.sampled < samples:
        count = min(_PIECE, samples - accountant.sampled)
        found = await connection.ask(pack_command("RANDOMKEY") * count, count)
        names = [each for each in found if isinstance(each, bytes)]
        if not names:
            if isinstance(found[0], AccessDenied):
                accountant.problem = _NO_RIGHT
            return
        sizes = await connection.ask(usage(names), len(names))
        for name, size in zip(names, sizes, strict=True):
            if isinstance(size, int):
                accountant.take_sample(name, size)
            elif isinstance(size, AccessDenied):
                accountant.take_sample(name, None)
            elif isinstance(size, StoreError) and not isinstance(size, CallFailed):
                raise size
        await anyio.sleep(_PAUSE_SECONDS)
        if time.monotonic() > until:
            accountant.problem = "Redis is slow: fewer samples were taken"
            return
