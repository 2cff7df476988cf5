"""Waiting for what nobody can tell us, and for what blocks."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

POLL_SECONDS: Final = 0.02


async def poll_until(
    condition: Callable[[], bool], seconds: float, every_seconds: float = POLL_SECONDS
) -> bool:
    """Whether it held within so long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(every_seconds)
    return True


async def in_thread(work: Callable[[], T]) -> T:
    """Runs what blocks. Who is cancelled meanwhile waits for its end all the same: nothing is started or
    stopped behind the back of whoever cleans up."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
