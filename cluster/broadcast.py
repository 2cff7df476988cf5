"""What nodes tell each other without waiting: messages at QoS 0, and which of those they want.

Two connections: one listens to this node's channel and to that of interest, one publishes. Whatever is said
while a connection is down is lost, as QoS 0 allows; but what nodes are interested in is read again from their
hashes whenever the listening has been interrupted."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

from cluster.store import keys
from cluster.store.channels import ChannelConnection
from cluster.store.errors import StoreError, StoreUnavailable
from cluster.store.store import Store

_RETRY_SECONDS: Final = 0.2

logger = logging.getLogger(__name__)


class Broadcast:
    """`on_messages` gets a record for this node's clients, `on_interest` a node, what it wants and what it no
    longer wants; neither may wait or raise. `on_listening` is awaited whenever the channels are listened to
    (again): it reads what may have been missed."""

    def __init__(
        self,
        store: Store,
        incarnation: str,
        on_messages: Callable[[bytes], None],
        on_interest: Callable[[str, list[str], list[str]], None],
        on_listening: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._on_messages = on_messages
        self._on_interest = on_interest
        self._on_listening = on_listening
        self._own = keys.messages_channel(store.prefix, incarnation)
        self._interest = keys.interest_channel(store.prefix).encode()
        self._sender: ChannelConnection | None = None
        self.is_listening = anyio.Event()
        """Set when the channels have been listened to for the first time."""
        self.lost = 0
        """Records that could not leave."""

    def publish(self, node: str, record: bytes) -> None:
        """A record for the clients of another node."""
        sender = self._sender
        channel = keys.messages_channel(self._store.prefix, node)
        if sender is None or not sender.publish(channel, record):
            self.lost += 1

    async def run(self) -> None:
        """Keeps both connections until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep, self._listen)
            tasks.start_soon(self._keep, self._send)

    async def _keep(self, connect: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await connect()
            except StoreError as error:
                logger.debug("a channel connection failed: %s", error)
            await anyio.sleep(_RETRY_SECONDS)

    async def _send(self) -> None:
        connection = await self._store.connect_to_channels([], _ignore)
        self._sender = connection
        try:
            await connection.until_closed()
        finally:
            self._sender = None
            connection.abort("closed")

    async def _listen(self) -> None:
        channels = [self._own, self._interest.decode()]
        connection = await self._store.connect_to_channels(channels, self._take)
        try:
            await self._on_listening()
            self.is_listening.set()
            reason = await connection.until_closed()
        finally:
            connection.abort("closed")
        raise StoreUnavailable(reason)

    def _take(self, channel: bytes, payload: bytes) -> None:
        if channel != self._interest:
            self._on_messages(payload)
            return
        try:
            node, added, removed = msgpack.unpackb(payload, raw=True)[:3]  # a newer node may say more
            self._on_interest(node.decode(), [f.decode() for f in added], [f.decode() for f in removed])
        except (ValueError, TypeError, AttributeError) as error:
            logger.error("what a node says of its interest can't be read: %s", error)


def _ignore(channel: bytes, payload: bytes) -> None:
    """A connection that publishes listens to nothing."""
