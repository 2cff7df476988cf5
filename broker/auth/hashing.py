"""Passwords and their hashes by argon2id.

Hashing takes tens of milliseconds of a core, on purpose. It is done in threads, few at a time, which on Linux
give way to the event loop; who wants it waits in the gate, or is told that the server is busy. All that
hashes in a node has the same threads and gate.
"""

import asyncio
import base64
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError

from broker.auth.gate import Gate

_MEMORY_KIB: Final = 19_456  # with 2 passes the least that OWASP recommends: nodes hash for many clients
_PASSES: Final = 2
_MEMORY_KIB_MAXIMUM: Final = 1_048_576
_PASSES_MAXIMUM: Final = 64
_LANES_MAXIMUM: Final = 16
_LENGTH_MAXIMUM: Final = 512
_NICENESS: Final = 10

_hasher: Final = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)

Result = TypeVar("Result")


def hash_password(password: str) -> str:
    """What is kept in place of the password."""
    return _hasher.hash(password)


def hash_mistake(hashed: str) -> str | None:
    """Why it can't be taken; None if it can."""
    if len(hashed) > _LENGTH_MAXIMUM:
        return f"a hash of more than {_LENGTH_MAXIMUM} characters"
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


def decoy_like(example: str | None) -> str:
    """A hash that no password has, and that costs as much as the example, or as those that we make."""
    passes, memory, lanes = _PASSES, _MEMORY_KIB, 1
    if example is not None:
        parameters = extract_parameters(example)
        passes, memory, lanes = parameters.time_cost, parameters.memory_cost, parameters.parallelism
    return f"$argon2id$v=19$m={memory},t={passes},p={lanes}${_random_text(16)}${_random_text(32)}"


class Hashing:
    """Hashes in `threads`; `queue_limit` wait for them, by address."""

    def __init__(self, threads: int, queue_limit: int) -> None:
        self.gate = Gate(threads, queue_limit)
        self._pool = ThreadPoolExecutor(threads, "passwords", initializer=_give_way)

    async def verify(self, address: str, hashed: str, password: bytes) -> bool:
        """Whether it is the password of that hash, as somebody from this address says. Raises Busy."""
        return await self.run(address, partial(_is_right, hashed, password))

    async def run(self, address: str, work: Callable[[], Result]) -> Result:
        """Does this in a thread. Raises Busy, and what `work` does.

        The place in the gate is given back when the thread is done, even if nobody waits for it any more."""
        await self.gate.enter(address)
        loop = asyncio.get_running_loop()

        def done(_: "Future[Result]") -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.gate.leave)

        under_way = self._pool.submit(work)
        under_way.add_done_callback(done)
        return await asyncio.wrap_future(under_way)


def _is_right(hashed: str, password: bytes) -> bool:
    try:
        return hash_mistake(hashed) is None and _hasher.verify(hashed, password)
    except (Argon2Error, InvalidHashError):
        return False


def _random_text(length: int) -> str:
    return base64.b64encode(os.urandom(length)).decode().rstrip("=")


def _give_way() -> None:
    if sys.platform == "linux":  # where a thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
