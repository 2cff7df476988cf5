"""The side connections: a small pool for what is no batch of the lane.

A connection is made when it is needed, and kept. One that fails may merely have been stale, as it lay there
unused: then the question is asked once more, on a new one.
"""

from typing import Final

import anyio

from cluster.store.access import Access
from cluster.store.call import pack_command
from cluster.store.connection import Connection
from cluster.store.errors import StoreError, StoreUnavailable

_MAXIMUM_CONNECTIONS: Final = 4


class SideConnections:
    """Not connected yet."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._places = anyio.Semaphore(_MAXIMUM_CONNECTIONS)
        self._idle: list[Connection] = []
        self._in_use: set[Connection] = set()

    def __repr__(self) -> str:
        return f"<SideConnections to {self._access}: {len(self._idle)} idle, {len(self._in_use)} in use>"

    async def ask(self, commands: bytes, count: int) -> list[object]:
        """Sends `commands`, which may be carried out twice, and waits for `count` replies; an error reply is
        a StoreError object. Raises StoreUnavailable (whether they were carried out is unknown),
        StoreStartError."""
        try:
            with anyio.fail_after(self._access.exchange_timeout_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"{self._access}: all side connections are in use") from None
        try:
            return await self._ask(commands, count)
        finally:
            self._places.release()

    async def ask_one(self, *arguments: str | bytes | int) -> object:
        """Sends one command and returns its reply; raises the StoreError that it is."""
        (reply,) = await self.ask(pack_command(*arguments), 1)
        if isinstance(reply, StoreError):
            raise reply
        return reply

    def renew(self) -> None:
        """Another primary has come: nobody is asked on a connection that leads to the one before."""
        for connection in (*self._idle, *self._in_use):
            connection.abort("another primary has come")

    async def aclose(self) -> None:
        """Closes all connections; who asks is told."""
        for connection in (*self._idle, *self._in_use):
            await connection.aclose()
        self._idle.clear()

    async def _ask(self, commands: bytes, count: int) -> list[object]:
        connection = self._take_idle()
        if connection is not None:
            try:
                return await self._ask_on(connection, commands, count)
            except StoreUnavailable:
                pass  # on a new one then, which also looks where the primary is now
        return await self._ask_on(await self._access.connect(), commands, count)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed:
                return connection
        return None

    async def _ask_on(self, connection: Connection, commands: bytes, count: int) -> list[object]:
        self._in_use.add(connection)
        try:
            replies = await connection.ask(commands, count)
        finally:
            self._in_use.discard(connection)
        for reply in replies:
            if type(reply) is StoreUnavailable:  # loading, a replica now, ...: looked for anew the next time
                connection.abort(str(reply))
        if not connection.is_closed:
            self._idle.append(connection)
        return replies
