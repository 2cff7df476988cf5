"""One connection of an MQTT client, as bare as can be: for many of them in one process."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from broker.mqtt import MQTT_5, Connect, Decoder, Packet, Properties, encode

LARGEST: Final = 1 << 24
P = TypeVar("P", bound=Packet)


class Link:
    """Sends packets, takes packets; answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = Decoder(False, LARGEST, MQTT_5)
        self._packets: list[Packet] = []

    @classmethod
    async def open(cls, port: int, source: str = "127.0.0.1") -> "Link":
        """Raises OSError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        return cls(reader, writer)

    async def connect(
        self,
        client_id: str,
        username: str | None = None,
        password: bytes | None = None,
        *,
        keep_alive: int = 0,
        properties: Properties | None = None,
    ) -> Packet:
        """CONNECT and what comes then. Raises EOFError if nothing does."""
        connect = Connect(client_id, MQTT_5, True, keep_alive, username, password, None, properties)
        self.send(connect)
        return await self.next()

    def send(self, *packets: Packet) -> None:
        """Without waiting."""
        self.writer.write(b"".join(encode(packet, MQTT_5) for packet in packets))

    async def next(self) -> Packet:
        """The next packet. Raises EOFError, OSError."""
        while not self._packets:
            data = await self.reader.read(65_536)
            if not data:
                raise EOFError
            self._decoder.feed(data, self._packets)
        return self._packets.pop(0)

    def close(self) -> None:
        """Without a word."""
        self.writer.transport.abort()


async def gathered(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """So many at a time, each with its number."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(_awaited(work(number)))


async def _awaited(work: Awaitable[None]) -> None:
    await work
