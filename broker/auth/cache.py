"""What authenticators have answered, for a while. Passwords are not in there: a verdict is found by a hash of
all that it depends on, with a key that only this process has."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, TypeVar

from broker.auth.access import Denied, Identity

_KEY_BYTES: Final = 32
_DIGEST_BYTES: Final = 16

Entry = TypeVar("Entry")


class VerdictCache:
    """At most `entries_maximum` of each kind, so that wrong guesses push nobody out who was let in."""

    def __init__(
        self,
        ttl_seconds: float,
        entries_maximum: int,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = secrets.token_bytes(_KEY_BYTES)
        self._ttl_seconds = ttl_seconds
        self._entries_maximum = entries_maximum
        self._clock = clock
        self._wall_clock = wall_clock
        self._accepted: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()
        self._denied: OrderedDict[bytes, tuple[Denied, float]] = OrderedDict()

    def key(self, *facts: str | bytes | None) -> bytes:
        """For all that a verdict depends on."""
        digest = blake2b(key=self._key, digest_size=_DIGEST_BYTES)
        for fact in facts:
            data = fact.encode() if isinstance(fact, str) else fact
            digest.update(b"-" if data is None else b"%d:" % len(data))
            digest.update(data or b"")
        return digest.digest()

    def find(self, key: bytes) -> Identity | Denied | None:
        """None: not known, or not any more."""
        now = self._clock()
        accepted = self._accepted.get(key)
        if accepted is not None and now < accepted[1]:
            deadline = accepted[0].deadline
            return accepted[0] if deadline is None or self._wall_clock() < deadline else None
        denied = self._denied.get(key)
        return denied[0] if denied is not None and now < denied[1] else None

    def keep(self, key: bytes, verdict: Identity | Denied) -> None:
        """Until its time has passed, or others need the place."""
        if not self._ttl_seconds:
            return
        until = self._clock() + self._ttl_seconds
        if isinstance(verdict, Identity):
            _put(self._accepted, key, (verdict, until), self._entries_maximum)
        else:
            _put(self._denied, key, (verdict, until), self._entries_maximum)

    def clear(self) -> None:
        """What verdicts depend on has changed."""
        self._accepted.clear()
        self._denied.clear()


def _put(entries: OrderedDict[bytes, Entry], key: bytes, entry: Entry, maximum: int) -> None:
    entries[key] = entry
    entries.move_to_end(key)
    if len(entries) > maximum:
        entries.popitem(last=False)
