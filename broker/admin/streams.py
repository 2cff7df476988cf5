"""Server-sent events: an answer that goes on until whoever asked has gone, or all has been said."""

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from starlette.types import Receive, Scope, Send

HEARTBEAT_SECONDS: Final = 10.0
"""A comment, so that nobody on the way takes the connection for dead."""
WRITE_SECONDS: Final = 30.0
"""Who reads nothing for so long is gone."""

SSE: Final = "text/event-stream"

_HEADERS: Final = [
    (b"content-type", f"{SSE}; charset=utf-8".encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would gather it first
]


class Voice:
    """Says events, one after the other."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def say(self, kind: str, data: bytes, event_id: str = "") -> None:
        """`data` is JSON, in one line. Raises TimeoutError if nobody reads."""
        head = f"id: {event_id}\n" if event_id else ""
        await self._write(f"{head}event: {kind}\ndata: ".encode() + data + b"\n\n")

    async def comment(self) -> None:
        """Something that means nothing. Raises TimeoutError if nobody reads."""
        await self._write(b":\n\n")

    async def _write(self, data: bytes) -> None:
        with anyio.fail_after(WRITE_SECONDS):
            await self._send({"type": "http.response.body", "body": data, "more_body": True})


class EventStream:
    """A response; `tell` says what there is to say, and returns when that is all. It is cancelled when
    whoever asked has gone, or when `until` returns."""

    def __init__(
        self, tell: Callable[[Voice], Awaitable[None]], until: Callable[[], Awaitable[None]]
    ) -> None:
        self._tell = tell
        self._until = until

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        voice = Voice(send)
        is_read = True
        try:
            await voice.comment()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                tasks.start_soon(_beat, voice)
                tasks.start_soon(_cancel_after, self._until, tasks.cancel_scope)
                await self._tell(voice)
                tasks.cancel_scope.cancel()
        except* TimeoutError:
            is_read = False
        if is_read:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _cancel_after(until: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
    await until()
    scope.cancel()


async def _beat(voice: Voice) -> None:
    while True:
        await anyio.sleep(HEARTBEAT_SECONDS)
        await voice.comment()
