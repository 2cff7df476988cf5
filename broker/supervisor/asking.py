"""One HTTP question to a worker, at its unix socket."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import h11
from anyio.abc import ByteStream

_CHUNK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body."""

    status: int
    body: bytes


async def ask(socket: Path, target: str, timeout_seconds: float) -> Answer | None:
    """The answer to `GET target`; None if there is none in time, or not the whole of it."""
    try:
        with anyio.fail_after(timeout_seconds):
            async with await anyio.connect_unix(socket) as stream:
                return await _exchange(stream, target)
    except (OSError, anyio.BrokenResourceError, h11.RemoteProtocolError):  # TimeoutError is an OSError
        return None


async def _exchange(stream: ByteStream, target: str) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=target, headers=[("Host", "worker"), ("Connection", "close")])
    await stream.send(connection.send(request) + connection.send(h11.EndOfMessage()))
    status = 0
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await _receive(stream))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, bytes(body))


async def _receive(stream: ByteStream) -> bytes:
    """Empty at the end."""
    try:
        return await stream.receive(_CHUNK_BYTES)
    except anyio.EndOfStream:
        return b""
