"""The password file: a line `name:hash` or `name:hash:keys` for each user, hashed by argon2id, with keys for
SCRAM; and the authenticator that asks it.

An unknown user costs as much time as a wrong password. What was answered is remembered for a while, so that a
storm of clients that come back is not one of hashes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from broker.auth.access import Credentials, Denied, Identity, Verdict
from broker.auth.cache import VerdictCache
from broker.auth.gate import Busy
from broker.auth.hashing import Hashing, decoy_like, hash_mistake
from broker.auth.hashing import hash_password as hash_password
from broker.auth.scram_keys import parse_keys
from broker.auth.user import StoredUser, User
from broker.auth.user import is_user_name as is_user_name
from broker.files import numbered_lines
from broker.mqtt import ReasonCode

SOURCE: Final = "password_file"

_NOBODY: Final = Denied()
"""What is remembered of an unknown user: an answer that comes sooner the second time must not tell."""


class Kept(NamedTuple):
    """What is kept of a password: the hash, and the keys for SCRAM as they are written; None: none."""

    hashed: str
    keys: str | None = None

    def __repr__(self) -> str:
        return "Kept()"


@dataclass(frozen=True, slots=True)
class Passwords:
    """`decoy`: a hash that no password has, and that costs as much as they do. `scram_iterations`: of the
    first keys for SCRAM; None: there are none."""

    users: Mapping[str, Kept]
    decoy: str
    scram_iterations: int | None


def load_passwords(path: Path) -> Passwords:
    """For an authenticator. ValueError as of `read_passwords`."""
    users = read_passwords(path)
    first_hash = next((kept.hashed for kept in users.values()), None)
    first_keys = next((kept.keys for kept in users.values() if kept.keys is not None), None)
    iterations = parse_keys(first_keys).iterations if first_keys is not None else None
    return Passwords(users, decoy_like(first_hash), iterations)


def read_passwords(path: Path) -> dict[str, Kept]:
    """By user. ValueError has a line for each mistake, and no part of the file."""
    users: dict[str, Kept] = {}
    mistakes = []
    for number, line in numbered_lines(path):
        name, _, rest = line.strip().partition(":")
        hashed, colon, keys = rest.partition(":")
        kept = Kept(hashed, keys if colon else None)
        reason = _mistake(name, kept, users)
        if reason is not None:
            mistakes.append(f"{path}, line {number}: {reason}")
        users[name] = kept
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return users


def _mistake(name: str, kept: Kept, users: Mapping[str, Kept]) -> str | None:
    if not is_user_name(name):
        return "no user name before the colon"
    if name in users:
        return "this user was there before"
    mistake = hash_mistake(kept.hashed)
    if mistake is None and kept.keys is not None:
        try:
            parse_keys(kept.keys)
        except ValueError as error:
            return str(error)
    return mistake


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

    @property
    def scram_iterations(self) -> int | None:
        """Of the keys for SCRAM in there; None: there are none."""
        return self._passwords.scram_iterations

    async def find(self, name: str) -> StoredUser | None:
        """A user, for SCRAM: as it is now, without versions."""
        kept = self._passwords.users.get(name)
        if kept is None:
            return None
        keys = parse_keys(kept.keys) if kept.keys is not None else None
        return StoredUser(name, User(kept.hashed, scram=keys), 0, 0, 0, 0)

    def replace(self, passwords: Passwords) -> frozenset[str]:
        """From now on these; the answer is who has another password, or is no user any more."""
        before, self._passwords = self._passwords, passwords
        self._cache.clear()
        return frozenset(name for name, kept in before.users.items() if passwords.users.get(name) != kept)

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
        kept = passwords.users.get(name)
        hashed = kept.hashed if kept is not None else passwords.decoy
        try:
            is_right = await self._hashing.verify(address, hashed, password)
        except Busy:
            return Denied(ReasonCode.SERVER_BUSY)
        if kept is None:
            verdict: Identity | Denied = _NOBODY
        else:
            verdict = Identity(name, source=SOURCE) if is_right else Denied()
        if self._passwords is not passwords:  # the next attempt is by the new file
            return Denied(ReasonCode.SERVER_BUSY)
        self._cache.keep(key, verdict)
        return verdict
