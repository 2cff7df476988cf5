"""Channels of Redis (pub/sub): messages that nobody waits for and that may be lost.

A connection either listens or publishes: one that listens takes no other commands (RESP 2).
"""

from collections.abc import Callable, Sequence
from typing import Final

import hiredis

from cluster.store.call import pack_command
from cluster.store.connection import INCOMPLETE, Connection
from cluster.store.errors import StoreError

_MESSAGE: Final = b"message"
_UNSENT_BYTES: Final = 8 << 20


class ChannelConnection(Connection):
    """A connection for channels. Make one with `Store.connect_to_channels`."""

    __slots__ = ("_on_message",)

    _on_message: Callable[[bytes, bytes], None] | None

    def __init__(self, address: str, timeout_seconds: float) -> None:
        super().__init__(address, timeout_seconds)
        self._on_message = None

    async def listen(self, channels: Sequence[str], on_message: Callable[[bytes, bytes], None]) -> None:
        """From now on `on_message` gets channel and payload of what comes; it must not raise. Without
        channels replies are only looked at for errors: the connection is there to publish. Raises
        StoreUnavailable."""
        self._on_message = on_message
        if channels:
            await self.ask(pack_command("SUBSCRIBE", *channels), len(channels))

    def publish(self, channel: str, payload: bytes) -> bool:
        """Sends a message to whoever listens. False if it can't leave: the connection has ended, or Redis
        does not read."""
        transport = self._transport
        if self._failure or transport is None or transport.get_write_buffer_size() > _UNSENT_BYTES:
            return False
        transport.write(pack_command("PUBLISH", channel, payload))
        return True

    def data_received(self, data: bytes) -> None:
        on_message = self._on_message
        if on_message is None:  # not listening yet: AUTH, SELECT and the like
            super().data_received(data)
            return
        try:
            self._reader.feed(data)
            reply = self._reader.gets()
            while reply is not INCOMPLETE:
                if isinstance(reply, list) and reply[0] == _MESSAGE:
                    on_message(reply[1], reply[2])
                elif isinstance(reply, StoreError):
                    self.abort(str(reply))
                    return
                else:
                    self._count(reply)
                reply = self._reader.gets()
        except hiredis.HiredisError as error:
            self.abort(f"does not speak Redis' protocol ({error})")

    def _count(self, reply: object) -> None:
        """How many have got a message, which nobody asks; or that a channel is listened to."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self._replies.append(reply)
            if len(self._replies) == self._expected:
                waiter.set_result(self._replies)
