"""The sink that posts messages to an HTTP server, as JSON, by a connection that is kept open."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import orjson

from broker.auth.access import Unavailable
from broker.auth.http_client import HttpClient, read_headers
from broker.auth.watched import WatchedFile
from broker.forwarding.sink import ForwardedMessage, Refused, Retry
from broker.forwarding.text import text_or_base64
from broker.observability.metrics import Tally
from broker.settings import ForwardSettings
from broker.settings.auth_http import http_context

_ABOUT_THE_MESSAGE: Final = range(400, 500)
_ABOUT_THE_PLACE: Final = frozenset({401, 403, 404, 405, 407, 408, 425, 429})
"""Other messages would be answered the same: by a server whose address or token is wrong, or that is busy."""


class Webhook:
    """A batch is one request."""

    def __init__(self, client: HttpClient, *, is_batch: bool) -> None:
        self._client = client
        self._is_batch = is_batch

    async def send(self, messages: Sequence[ForwardedMessage]) -> None:
        """See Sink. The key of a batch is that of its first message and that of its last."""
        key = messages[0].key
        if self._is_batch:
            document = orjson.dumps({"messages": [document_of(message) for message in messages]})
            key = f"{key}..{messages[-1].key}"
        else:
            document = orjson.dumps(document_of(messages[0]))
        headers = [(b"Idempotency-Key", key.encode())] if all(each.key for each in messages) else []
        try:
            status, _ = await self._client.exchange(document, headers)
        except Unavailable as error:
            raise Retry(str(error)) from None
        if 200 <= status < 300:
            return
        if status in _ABOUT_THE_MESSAGE and status not in _ABOUT_THE_PLACE:
            raise Refused(f"answered with status {status}")
        raise Retry(f"answered with status {status}")


def document_of(message: ForwardedMessage) -> dict[str, object]:
    """What is posted. Bytes that are UTF-8 are text, others are in base64."""
    document: dict[str, object] = {
        "id": message.key or None,
        "topic": message.topic,
        **text_or_base64("payload", message.payload),
        "qos": message.qos,
        "retain": message.retain,
        "repeat": message.is_repeat,
    }
    if message.user_properties:
        document["user_properties"] = [list(pair) for pair in message.user_properties]
    if message.content_type is not None:
        document["content_type"] = message.content_type
    if message.response_topic is not None:
        document["response_topic"] = message.response_topic
    if message.correlation_data is not None:
        document |= text_or_base64("correlation_data", message.correlation_data)
    if message.expires_after_seconds is not None:
        document["expires_after_seconds"] = message.expires_after_seconds
    return document


@asynccontextmanager
async def open_webhook(settings: ForwardSettings, batch: int, reloads: Tally) -> AsyncIterator[Webhook]:
    """Its headers follow their file. Raises Retry if that has mistakes."""
    assert settings.url is not None
    context = http_context(settings.ca_file, settings.certificate, settings.key)
    client = HttpClient(settings.url, (), context)
    async with anyio.create_task_group() as tasks:
        if settings.headers_file is not None:
            follow = _follow(client, settings.headers_file, reloads)
            tasks.start_soon(follow.run, lambda headers: setattr(client, "headers", headers))
        try:
            yield Webhook(client, is_batch=batch > 1)
        finally:
            await client.close()
            tasks.cancel_scope.cancel()


def _follow(client: HttpClient, path: Path, reloads: Tally) -> WatchedFile[Sequence[tuple[bytes, bytes]]]:
    file = WatchedFile("forward_headers_file", path, read_headers, reloads)
    try:
        client.headers = file.load()
    except ValueError as error:
        raise Retry(str(error)) from None
    return file
