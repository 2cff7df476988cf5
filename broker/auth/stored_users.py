"""The authenticator that asks users who are kept in a store, which all nodes have.

As with the password file an unknown user costs as much time as a wrong password. What is remembered is which
password fits which hash: so a password, group or rule that was changed counts as soon as the store's user is
known, and nothing has to be forgotten. If the store can't be asked nobody comes in (0x88).
"""

from collections.abc import Awaitable, Callable
from typing import Final

from broker.auth.access import Credentials, Denied, Identity, Verdict
from broker.auth.cache import VerdictCache
from broker.auth.gate import Busy
from broker.auth.hashing import Hashing, decoy_like
from broker.auth.user import StoredUser, is_user_name
from broker.errors import MoorlineError
from broker.mqtt import ReasonCode

SOURCE: Final = "redis_users"

_RIGHT: Final = Identity(None, source=SOURCE)
_WRONG: Final = Denied()

Find = Callable[[str], Awaitable[StoredUser | None]]
"""A user by its name. Raises MoorlineError if that can't be known now."""


class StoredUsers:
    """Who is not there may be known to another authenticator. `hides_unknown`: none of those that are asked
    after this one takes the time of a hash for everybody."""

    def __init__(self, find: Find, hashing: Hashing, cache: VerdictCache, hides_unknown: bool = True) -> None:
        self._find = find
        self._hashing = hashing
        self._cache = cache
        self._hides_unknown = hides_unknown
        self._decoy = decoy_like(None)

    async def authenticate(self, credentials: Credentials) -> Verdict:
        name, password = credentials.username, credentials.password
        if name is None or not is_user_name(name):
            return None
        try:
            found = await self._find(name)
            if password is None:
                return None if found is None else Denied()
            if found is None and not self._hides_unknown:
                return None
            is_right = await self._fits(name, password, found, credentials.address)
            if found is None:
                return None
            now = await self._find(name)
        except Busy:
            return Denied(ReasonCode.SERVER_BUSY)
        except MoorlineError:  # the log says why, once for all clients
            return Denied(ReasonCode.SERVER_UNAVAILABLE)
        if not is_right or not found.user.is_enabled:
            return Denied()
        if now is None or now.version != found.version:  # the next attempt is by what it is now
            return Denied(ReasonCode.SERVER_BUSY)
        return found.identity(SOURCE)

    async def _fits(self, name: str, password: bytes, found: StoredUser | None, address: str) -> bool:
        hashed = found.user.hashed if found is not None else self._decoy
        key = self._cache.key(name, password, hashed)
        verdict = self._cache.find(key)
        if verdict is None:
            is_right = await self._hashing.verify(address, hashed, password)
            verdict = _RIGHT if is_right else _WRONG
            self._cache.keep(key, verdict)
        return verdict is _RIGHT
