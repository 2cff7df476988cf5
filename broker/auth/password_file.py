"""The password file: a line `name:hash` for each user, hashed by argon2id; and the authenticator that asks
it.

An unknown user costs as much time as a wrong password. What was answered is remembered for a while, so that a
storm of clients that come back is not one of hashes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.auth.access import Credentials, Denied, Identity, Verdict
from broker.auth.cache import VerdictCache
from broker.auth.gate import Busy
from broker.auth.hashing import Hashing, decoy_like, hash_mistake
from broker.auth.hashing import hash_password as hash_password
from broker.auth.user import is_user_name as is_user_name
from broker.files import numbered_lines
from broker.mqtt import ReasonCode

SOURCE: Final = "password_file"

_NOBODY: Final = Denied()
"""What is remembered of an unknown user: an answer that comes sooner the second time must not tell."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """Hashes by user. `decoy`: one that no password has, and that costs as much as they do."""

    users: Mapping[str, str]
    decoy: str


def load_passwords(path: Path) -> Passwords:
    """For an authenticator. ValueError as of `read_passwords`."""
    users = read_passwords(path)
    return Passwords(users, decoy_like(next(iter(users.values()), None)))


def read_passwords(path: Path) -> dict[str, str]:
    """Hashes by user. ValueError has a line for each mistake, and no part of the file."""
    users: dict[str, str] = {}
    mistakes = []
    for number, line in numbered_lines(path):
        name, _, hashed = line.strip().partition(":")
        reason = _mistake(name, hashed, users)
        if reason is not None:
            mistakes.append(f"{path}, line {number}: {reason}")
        users[name] = hashed
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return users


def _mistake(name: str, hashed: str, users: Mapping[str, str]) -> str | None:
    if not is_user_name(name):
        return "no user name before the colon"
    if name in users:
        return "this user was there before"
    return hash_mistake(hashed)


class PasswordFile:
    """Knows the users of the file. Who is not in there may be known to another authenticator.
    `hides_unknown`: none of those that are asked after this one takes the time of a hash for everybody."""

    def __init__(
        self, passwords: Passwords, hashing: Hashing, cache: VerdictCache, hides_unknown: bool = True
    ) -> None:
        self._passwords = passwords
        self._hashing = hashing
        self._cache = cache
        self._hides_unknown = hides_unknown

    def replace(self, passwords: Passwords) -> frozenset[str]:
        """From now on these; the answer is who has another password, or is no user any more."""
        before, self._passwords = self._passwords, passwords
        self._cache.clear()
        return frozenset(name for name, hashed in before.users.items() if passwords.users.get(name) != hashed)

    async def authenticate(self, credentials: Credentials) -> Verdict:
        name, password = credentials.username, credentials.password
        if name is None:
            return None
        if password is None:
            return Denied() if name in self._passwords.users else None
        if name not in self._passwords.users and not self._hides_unknown:
            return None
        key = self._cache.key(name, password)
        verdict = self._cache.find(key)
        if verdict is None:
            verdict = await self._look(name, password, key, credentials.address)
        return None if verdict is _NOBODY else verdict

    async def _look(self, name: str, password: bytes, key: bytes, address: str) -> Identity | Denied:
        passwords = self._passwords
        hashed = passwords.users.get(name)
        try:
            is_right = await self._hashing.verify(address, hashed or passwords.decoy, password)
        except Busy:
            return Denied(ReasonCode.SERVER_BUSY)
        if hashed is None:
            verdict: Identity | Denied = _NOBODY
        else:
            verdict = Identity(name, source=SOURCE) if is_right else Denied()
        if self._passwords is not passwords:  # the next attempt is by the new file
            return Denied(ReasonCode.SERVER_BUSY)
        self._cache.keep(key, verdict)
        return verdict
