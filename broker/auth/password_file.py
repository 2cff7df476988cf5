"""The password file: a line `name:hash` for each user, hashed by argon2id; and the authenticator that asks
it.

Hashing takes tens of milliseconds of a core, on purpose. It is done in threads, few at a time, which on Linux
give way to the event loop; who wants it waits in the gate, or is told that the server is busy. An unknown
user costs as much time as a wrong password. What was answered is remembered for a while, so that a storm of
clients that come back is not one of hashes.
"""

import asyncio
import os
import re
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError

from broker.auth.access import Credentials, Denied, Identity, Verdict
from broker.auth.cache import VerdictCache
from broker.auth.gate import Busy, Gate
from broker.mqtt import ReasonCode

SOURCE: Final = "password_file"

_MEMORY_KIB: Final = 19_456  # with 2 passes the least that OWASP recommends: nodes hash for many clients
_PASSES: Final = 2
_MEMORY_KIB_MAXIMUM: Final = 1_048_576
_PASSES_MAXIMUM: Final = 64
_LANES_MAXIMUM: Final = 16
_NICENESS: Final = 10
_NAME: Final = re.compile(r"[^:\x00-\x1f\x7f#][^:\x00-\x1f\x7f]{0,254}")

_NOBODY: Final = Denied()
"""What is remembered of an unknown user: an answer that comes sooner the second time must not tell."""

_hasher: Final = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)


def is_user_name(name: str) -> bool:
    """Whether it can be in the file."""
    return _NAME.fullmatch(name) is not None


def hash_password(password: str) -> str:
    """What the file has in place of the password."""
    return _hasher.hash(password)


@dataclass(frozen=True, slots=True)
class Passwords:
    """Hashes by user. `decoy`: one that no password has, and that costs as much as they do."""

    users: Mapping[str, str]
    decoy: str


def load_passwords(path: Path) -> Passwords:
    """For an authenticator. ValueError as of `read_passwords`."""
    users = read_passwords(path)
    return Passwords(users, _decoy(users))


def read_passwords(path: Path) -> dict[str, str]:
    """Hashes by user. ValueError has a line for each mistake, and no part of the file."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None
    users: dict[str, str] = {}
    mistakes = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
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
    try:
        parameters = extract_parameters(hashed)
    except ValueError:
        return "no argon2id hash after the colon"
    if parameters.type is not Type.ID:
        return "the hash is not by argon2id"
    is_dear = parameters.time_cost > _PASSES_MAXIMUM or parameters.parallelism > _LANES_MAXIMUM
    if is_dear or parameters.memory_cost > _MEMORY_KIB_MAXIMUM:
        return f"over {_MEMORY_KIB_MAXIMUM} KiB, {_PASSES_MAXIMUM} passes or {_LANES_MAXIMUM} lanes"
    return None


class PasswordFile:
    """Knows the users of the file. Who is not in there may be known to another authenticator."""

    def __init__(self, passwords: Passwords, threads: int, queue_limit: int, cache: VerdictCache) -> None:
        self.gate = Gate(threads, queue_limit)
        self._passwords = passwords
        self._cache = cache
        self._pool = ThreadPoolExecutor(threads, "passwords", initializer=_give_way)

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
        key = self._cache.key(name, password)
        verdict = self._cache.find(key)
        if verdict is None:
            try:
                await self.gate.enter(credentials.address)
            except Busy:
                return Denied(ReasonCode.SERVER_BUSY)
            verdict = await self._look(name, password, key)
        return None if verdict is _NOBODY else verdict

    async def _look(self, name: str, password: bytes, key: bytes) -> Identity | Denied:
        passwords = self._passwords
        hashed = passwords.users.get(name)
        is_right = await self._verify(hashed or passwords.decoy, password)
        if hashed is None:
            verdict: Identity | Denied = _NOBODY
        else:
            verdict = Identity(name, source=SOURCE) if is_right else Denied()
        if self._passwords is not passwords:  # the next attempt is by the new file
            return Denied(ReasonCode.SERVER_BUSY)
        self._cache.keep(key, verdict)
        return verdict

    async def _verify(self, hashed: str, password: bytes) -> bool:
        """Gives the place in the gate back when the thread is done, even if nobody waits for it any more."""
        loop = asyncio.get_running_loop()

        def done(_: "Future[bool]") -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.gate.leave)

        work = self._pool.submit(_is_right, hashed, password)
        work.add_done_callback(done)
        return await asyncio.wrap_future(work)


def _is_right(hashed: str, password: bytes) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except (Argon2Error, InvalidHashError):
        return False


def _decoy(users: Mapping[str, str]) -> str:
    example = next(iter(users.values()), None)
    if example is None:
        return _hasher.hash(os.urandom(16))
    parameters = extract_parameters(example)
    hasher = PasswordHasher(parameters.time_cost, parameters.memory_cost, parameters.parallelism)
    return hasher.hash(os.urandom(16))


def _give_way() -> None:
    if sys.platform == "linux":  # where a thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
