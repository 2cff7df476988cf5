"""Which node runs a forward: who has the turn in Redis, which ends by itself within seconds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from broker.observability.logs import get_logger
from cluster.control import Control
from cluster.store.errors import StoreError

TURN_SECONDS: Final = 4
"""Within which another node goes on after a kill, and LOOK_SECONDS."""
LOOK_SECONDS: Final = 1.0

logger = get_logger(__name__)


class ForwardTurn:
    """At the forward `name`, for the node of `control`."""

    def __init__(self, control: Control, name: str) -> None:
        self._control = control
        self._chore = f"forward:{name}"

    async def until_ours(self) -> None:
        """Waits until this node has it."""
        while not await self._take(TURN_SECONDS):  # noqa: ASYNC110 - it is Redis that is looked at
            await anyio.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """While the turn is ours; ends what is in it when it is another's. Given back in the end."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._renew, tasks.cancel_scope)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                with anyio.move_on_after(LOOK_SECONDS, shield=True):
                    await self._take(0)

    async def _renew(self, scope: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(LOOK_SECONDS)
            if await self._is_another_s():
                scope.cancel()

    async def _is_another_s(self) -> bool:
        """While Redis does not answer nobody can take it."""
        try:
            return not await self._control.take_turn(self._chore, self._control.incarnation, TURN_SECONDS)
        except StoreError:
            return False

    async def _take(self, seconds: int) -> bool:
        try:
            return await self._control.take_turn(self._chore, self._control.incarnation, seconds)
        except StoreError as error:
            logger.debug("no turn: %s", error)
            return False
