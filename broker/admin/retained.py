"""`/api/v1/retained`: retained messages by topic, as they are stored: with mount points before the topics."""

import re
from base64 import b64encode
from typing import Final

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.asking import control_of
from broker.admin.audit import note_change
from broker.admin.describe import AFTER, LIMIT, Query, describe
from broker.admin.exchange import Body, answer, read_body, time_text
from broker.admin.paging import flag_of, limit_of
from broker.admin.publishing import Published, new_token, publish, untold
from broker.client.operator_message import OperatorMessage
from broker.mqtt import SYS_PREFIX, MalformedPacket, Properties, ProtocolError, is_valid_topic_name
from broker.mqtt.property import IN_CLIENT_PUBLISH, decode_properties
from cluster.control import Desk
from cluster.retained import LevelPage, RetainedBook
from cluster.store.records import Retained
from cluster.store.retained_browse import Facts

_IN_NO_PATH: Final = {"topic": "The topic, with none in the path; a path can have no line break."}
_NO_NODE: Final = 503
_NO_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class RetainedEntry(BaseModel):
    """A retained message. `bytes` are those of the payload. Of one that is larger than some 1 MiB, or
    damaged, they are what it takes, and `qos` is null."""

    topic: str
    qos: int | None
    bytes: int
    expires_at: str | None


class RetainedMessage(RetainedEntry):
    """With its content: `payload` if it is text, else `payload_base64`; neither if `qos` is null."""

    payload: str | None = None
    payload_base64: str | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data_base64: str | None = None
    payload_format_indicator: int | None = None
    user_properties: list[tuple[str, str]] = []


class Level(BaseModel):
    """`level` is the name from the first level on, `name` the last level of it. `retained`: it has a message
    itself. `below`: topics below it."""

    level: str
    name: str
    retained: bool
    below: int


class RetainedPage(BaseModel):
    """Either `retained` or `levels`."""

    retained: list[RetainedEntry] = []
    levels: list[Level] = []
    next: str | None


def retained_routes(desk: Desk) -> list[Route]:
    """The routes below `/api/v1`."""
    api = _Retained(desk)
    return [
        Route("/retained", api.list, methods=["GET"]),
        Route("/retained/{topic:path}", api.show, methods=["GET"]),
        Route("/retained/{topic:path}", api.delete, methods=["DELETE"]),
    ]


class _Retained:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe(
        "messages",
        "Topics with a retained message, in order: what is below a topic follows it.",
        query={
            "prefix": "Topics that begin with this text.",
            "levels": Query(
                "Instead, as `levels`, each once up to the end of the level in which `prefix` ends.",
                {"type": "boolean", "default": False},
            ),
            "limit": LIMIT,
            "after": AFTER,
        },
        answer=RetainedPage,
    )
    async def list(self, request: Request) -> Response:
        prefix = _text(request.query_params.get("prefix", ""))
        after = request.query_params.get("after")
        after = None if after is None else _text(after)
        limit = limit_of(request)
        if flag_of(request, "levels"):
            shown = _levels(await self._book().levels(prefix, after, limit))
        else:
            page = await self._book().page(prefix, after, limit)
            found = [_entry(topic, facts) for topic, facts in page.items]
            shown = RetainedPage(retained=found, next=page.following)
        return answer(shown.model_dump(exclude_unset=True))

    @describe("messages", "A retained message with its payload.", query=_IN_NO_PATH, answer=RetainedMessage)
    async def show(self, request: Request) -> Response:
        topic = _topic(request)
        facts = await self._facts(topic)
        shown = RetainedMessage(**_entry(topic, facts).model_dump())
        if facts.qos is not None:
            shown = _message(topic, await self._message(topic))
        return answer(shown.model_dump())

    @describe(
        "messages",
        "Clears a retained message, also while Redis is full; then publishes an empty one with RETAIN, which"
        " subscribers get: in time, if Redis is full (`result`).",
        body=Body,
        query=_IN_NO_PATH,
        answer=Published,
    )
    async def delete(self, request: Request) -> Response:
        await read_body(request, Body)
        topic = _topic(request)
        if topic.startswith(SYS_PREFIX):
            raise HTTPException(422, "topic: what begins with $SYS/ is the nodes' own, and expires by itself")
        await self._facts(topic)
        await self._book().forget(topic)
        note_change(request, "retained_deleted", topic=topic)
        return answer((await self._tell(topic)).model_dump())

    async def _tell(self, topic: str) -> Published:
        """The empty message clears once more what a publisher of that moment may have put there. It has its
        place behind what is held while Redis is full, as by topic the order has to be kept."""
        message = OperatorMessage(topic, "", 1, True, new_token(), clears=True)
        try:
            return await publish(self._desk, message)
        except HTTPException as error:
            if error.status_code != _NO_NODE:
                raise
            return untold(message, f"its subscribers are not told yet: {error.detail}")

    async def _facts(self, topic: str) -> Facts:
        facts = await self._book().facts(topic)
        if facts is None:
            raise _unknown(topic)
        return facts

    async def _message(self, topic: str) -> Retained:
        try:
            message = await self._book().message(topic)
        except ValueError as error:
            raise HTTPException(409, f"the message can't be read: {error}") from None
        if message is None:
            raise _unknown(topic)
        return message

    def _book(self) -> RetainedBook:
        return control_of(self._desk).retained


def _unknown(topic: str) -> HTTPException:
    return HTTPException(404, f"there is no retained message of {topic}")


def _topic(request: Request) -> str:
    topic: str = request.path_params["topic"] or request.query_params.get("topic", "")
    if not is_valid_topic_name(topic):
        raise HTTPException(422, "topic: it is empty or too long, or has +, # or U+0000")
    return topic


def _text(given: str) -> str:
    """Of a query. Raises HTTPException."""
    if given and not is_valid_topic_name(given):
        raise HTTPException(422, "prefix, after: no beginning of a topic")
    return given


def _entry(topic: str, facts: Facts) -> RetainedEntry:
    return RetainedEntry(
        topic=topic,
        qos=facts.qos,
        bytes=facts.size_bytes,
        expires_at=time_text(facts.deadline_ms) if facts.deadline_ms else None,
    )


def _levels(page: LevelPage) -> RetainedPage:
    found = [
        Level(level=level, name=level.rpartition("/")[2], retained=facts.has_message, below=facts.below)
        for level, facts in page.items
    ]
    return RetainedPage(levels=found, next=page.following)


def _message(topic: str, message: Retained) -> RetainedMessage:
    properties = _properties(message.properties)
    text = _text_of(message.payload)
    correlation_data = properties.correlation_data
    return RetainedMessage(
        topic=topic,
        qos=message.qos,
        bytes=len(message.payload),
        expires_at=time_text(message.deadline_ms) if message.deadline_ms else None,
        payload=text,
        payload_base64=b64encode(message.payload).decode() if text is None else None,
        content_type=properties.content_type,
        response_topic=properties.response_topic,
        correlation_data_base64=b64encode(correlation_data).decode()
        if correlation_data is not None
        else None,
        payload_format_indicator=properties.payload_format_indicator,
        user_properties=list(properties.user_property),
    )


def _properties(wire: bytes) -> Properties:
    try:
        return decode_properties(wire, 0, len(wire), IN_CLIENT_PUBLISH)
    except (MalformedPacket, ProtocolError):  # somebody has damaged them
        return Properties()


def _text_of(payload: bytes) -> str | None:
    """None if a person could not read it."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return None if _NO_TEXT.search(text) else text
