"""A stream that is none of the broker's own, for others to read, in its Redis or another one."""

from collections.abc import Awaitable, Callable, Sequence

from cluster.store.call import pack_command
from cluster.store.connection import Connection, open_connection
from cluster.store.endpoint import Endpoint
from cluster.store.errors import StoreError

Fields = Sequence[str | bytes | int]
"""Name, value, name, value, ..."""

CLIENT_NAME = "moorline-forward"


def connector(endpoint: Endpoint, timeout_seconds: float) -> Callable[[], Awaitable[Connection]]:
    """Of another Redis than the broker's."""

    async def connect() -> Connection:
        return await open_connection(endpoint, CLIENT_NAME, timeout_seconds, timeout_seconds)

    return connect


class Stream:
    """`length`: about how many entries it keeps, 0 for all. `connect` makes a connection, which is kept."""

    def __init__(self, key: str, length: int, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._key = key
        self._bound: tuple[str | int, ...] = ("MAXLEN", "~", length) if length else ()
        self._connect = connect
        self._connection: Connection | None = None

    async def add(self, entries: Sequence[Fields]) -> None:
        """Returns when all of them are stored, in this order. Raises StoreError; some may be then."""
        connection = self._connection
        if connection is None or connection.is_closed:
            connection = self._connection = await self._connect()
        commands = [pack_command("XADD", self._key, *self._bound, "*", *fields) for fields in entries]
        for reply in await connection.ask(b"".join(commands), len(commands)):
            if isinstance(reply, StoreError):
                connection.abort("refused")  # the next try may have to prove itself anew, or elsewhere
                raise reply

    async def aclose(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            await self._connection.aclose()
