"""Checking passwords: a few at a time, in threads, for all who look at them.

Hashing takes tens of milliseconds of a core, on purpose. The threads give way to the event loop where they
can (Linux); who wants a place waits in the gate, or is told that the node is busy.
"""

import asyncio
import os
import sys
import threading
from base64 import b64encode
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError

from broker.auth.gate import Gate

_MEMORY_KIB: Final = 19_456  # with 2 passes the least that OWASP recommends: nodes hash for many clients
_PASSES: Final = 2
_MEMORY_KIB_MAXIMUM: Final = 1_048_576
_PASSES_MAXIMUM: Final = 64
_LANES_MAXIMUM: Final = 16
_NICENESS: Final = 10

_hasher: Final = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)


def hash_password(password: str) -> str:
    """What is kept in place of the password."""
    return _hasher.hash(password)


def mistake_in(hashed: str) -> str | None:
    """Why it can't be checked; None if it can."""
    try:
        parameters = extract_parameters(hashed)
    except ValueError:
        return "no argon2id hash"
    if parameters.type is not Type.ID:
        return "the hash is not by argon2id"
    is_dear = parameters.time_cost > _PASSES_MAXIMUM or parameters.parallelism > _LANES_MAXIMUM
    if is_dear or parameters.memory_cost > _MEMORY_KIB_MAXIMUM:
        return f"over {_MEMORY_KIB_MAXIMUM} KiB, {_PASSES_MAXIMUM} passes or {_LANES_MAXIMUM} lanes"
    return None


def decoy_like(hashed: str | None) -> str:
    """One that no password has, and that costs as much as this one; None: as those of `hash_password`."""
    if hashed is None:
        beginning = f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p=1"
    else:
        beginning = hashed.rsplit("$", 2)[0]
    salt, digest = (b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (16, 32))
    return f"{beginning}${salt}${digest}"


class Hashing:
    """All passwords of a node are checked here."""

    def __init__(self, threads: int, queue_limit: int) -> None:
        self.gate = Gate(threads, queue_limit)
        self._pool = ThreadPoolExecutor(threads, "passwords", initializer=_give_way)

    async def is_right(self, hashed: str, password: bytes, address: str) -> bool:
        """For a client at this address. Raises Busy. The place in the gate is given back when the thread is
        done, even if nobody waits for it any more."""
        await self.gate.enter(address)
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


def _give_way() -> None:
    if sys.platform == "linux":  # where a thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
