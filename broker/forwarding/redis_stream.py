"""The sink that adds messages to a stream of Redis, an entry each."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import orjson

from broker.forwarding.sink import ForwardedMessage, Retry
from broker.settings import ForwardSettings
from cluster.store.connection import Connection
from cluster.store.endpoint import ServerFiles, parse_url
from cluster.store.errors import InvalidRedisUrl, StoreError
from cluster.store.store import Store
from cluster.store.stream import Fields, Stream, connector


class RedisStream:
    """A batch is one exchange."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def send(self, messages: Sequence[ForwardedMessage]) -> None:
        """See Sink. Whatever Redis refuses, it is about the place."""
        try:
            await self._stream.add([_fields(message) for message in messages])
        except StoreError as error:
            raise Retry(f"Redis: {error}") from None


def _fields(message: ForwardedMessage) -> Fields:
    """What a message does not have is left out."""
    fields: dict[str, str | bytes | int] = {
        "id": message.key,
        "topic": message.topic,
        "payload": message.payload,
        "qos": message.qos,
        "retain": int(message.retain),
    }
    if message.user_properties:
        fields["user_properties"] = orjson.dumps(message.user_properties)
    if message.content_type is not None:
        fields["content_type"] = message.content_type
    if message.response_topic is not None:
        fields["response_topic"] = message.response_topic
    if message.correlation_data is not None:
        fields["correlation_data"] = message.correlation_data
    return [each for pair in fields.items() for each in pair]


@asynccontextmanager
async def open_redis_stream(settings: ForwardSettings, store: Store) -> AsyncIterator[RedisStream]:
    """In the broker's own Redis, if no other is named."""
    assert settings.stream is not None
    connect: Callable[[], Awaitable[Connection]] = partial(store.connect_for, settings.stream)
    if settings.url is not None:
        endpoint = parse_url(settings.url, _files(settings))
        if endpoint.is_cluster:
            raise InvalidRedisUrl("a forward writes to one server: give the URL of the primary of its stream")
        connect = connector(endpoint, settings.timeout_seconds)
    stream = Stream(settings.stream, settings.stream_length, connect)
    try:
        yield RedisStream(stream)
    finally:
        await stream.aclose()


def _files(settings: ForwardSettings) -> ServerFiles:
    return ServerFiles(
        username=settings.username or "",
        password_file=settings.password_file,
        ca_file=settings.ca_file,
        certificate_file=settings.certificate,
        key_file=settings.key,
    )
