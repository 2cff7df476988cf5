"""Looks at the pulse of a node that has nothing else to do."""

from typing import Final

import anyio

from cluster.pulse import Pulse

_INTERVAL_SECONDS: Final = 0.1


async def keep_looking(pulse: Pulse) -> None:
    """Often enough that an idle node isn't taken for one that was stopped; until cancelled."""
    while True:
        pulse.look()
        await anyio.sleep(_INTERVAL_SECONDS)
