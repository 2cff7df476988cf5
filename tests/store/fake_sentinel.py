"""Sentinels that say what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from cluster.store.call import pack_command
from cluster.store.endpoint import parse_url
from cluster.store.sentinel import EVENTS, SentinelFinder

NAME = "main"
NOBODY = b"-ERR No such master with that name\r\n*-1\r\n"
DENIED = b"-NOAUTH Authentication required.\r\n"


def answer(port: int, epoch: int, **fields: str | int) -> bytes:
    """To both questions. `fields`: more of what it says of the primary, by their names with _ for -."""
    more = [part for name, value in fields.items() for part in (name.replace("_", "-"), value)]
    state = pack_command("name", NAME, "ip", "9.9.9.9", "config-epoch", epoch, *more)
    return state + pack_command("127.0.0.1", port)


@dataclass
class FakeSentinel:
    """`says` is its answer to where the primary is; None: it says nothing at all."""

    says: bytes | None
    quorum: bytes = b"+OK 3 usable Sentinels\r\n"
    port: int = 0
    asked: int = 0
    listeners: list[asyncio.StreamWriter] = field(default_factory=list)
    is_heard: anyio.Event = field(default_factory=anyio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection."""
        try:
            while data := await reader.read(65_536):
                if b"SETNAME" in data:
                    writer.write(b"+OK\r\n")
                elif b"SUBSCRIBE" in data:
                    self.listeners.append(writer)
                    self.is_heard.set()
                    writer.write(b":1\r\n" * len(EVENTS))
                elif b"CKQUORUM" in data:
                    writer.write(self.quorum)
                else:
                    self.asked += 1
                    if self.says is not None:
                        writer.write(self.says)
        finally:
            writer.close()

    def tell(self, event: str, text: str) -> None:
        """To whoever listens."""
        for listener in self.listeners:
            listener.write(pack_command("message", event, text))


@asynccontextmanager
async def sentinels(
    *says: bytes | None, user: str = ""
) -> AsyncIterator[tuple[SentinelFinder, list[FakeSentinel]]]:
    """Some that run, and who asks them."""
    fakes = [FakeSentinel(each) for each in says]
    listeners = [await asyncio.start_server(fake.serve, "127.0.0.1", 0) for fake in fakes]
    for fake, listener in zip(fakes, listeners, strict=True):
        fake.port = listener.sockets[0].getsockname()[1]
    finder = SentinelFinder(parse_url(url_of(fakes, user)))
    try:
        yield finder, fakes
    finally:
        finder.close()
        for listener in listeners:
            listener.close()
            await listener.wait_closed()


def url_of(fakes: Sequence[FakeSentinel], user: str = "") -> str:
    """What a node would be told."""
    hosts = ",".join(f"127.0.0.1:{fake.port}" for fake in fakes)
    return f"redis+sentinel://{user}{hosts}/{NAME}"
