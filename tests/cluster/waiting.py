"""Waiting for what nobody can tell us: looked at again and again, for so long at most."""

import asyncio
from collections.abc import Callable
from typing import Final

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
