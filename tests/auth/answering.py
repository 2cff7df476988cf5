"""An HTTP server in the loop of the test, that answers byte by byte what a test wants."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    document: dict[str, Any]


Reply = Callable[[Asked], bytes | None]
"""The bytes of the answer; None: it never comes."""


@dataclass
class Server:
    """What has come."""

    reply: Reply
    port: int = 0
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)
    most: int = 0
    """Requests at a time."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    _under_way: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
                document = json.loads(await reader.readexactly(int(headers["content-length"])))
                asked = Asked(head[0].split()[1], headers, document)
                self.asked.append(asked)
                self._under_way += 1
                self.most = max(self.most, self._under_way)
                try:
                    data = self.reply(asked)
                    if data is None:
                        await self.ending.wait()
                        return
                    await asyncio.sleep(0.005)
                    writer.write(data)
                    if not data.startswith(b"HTTP/1.1") or b"Connection: close" in data:
                        return
                finally:
                    self._under_way -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def answering(reply: Reply, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server at 127.0.0.1."""
    server = Server(reply)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.ending.set()
        listening.close()


def answer(document: object, status: int = 200, *headers: str) -> bytes:
    """In JSON, or the bytes themselves."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body
