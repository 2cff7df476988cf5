"""`/api/v1/publish`: a message on behalf of an operator, stored everywhere before it is answered."""

import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.asking import ask_one
from broker.admin.audit import note_change
from broker.admin.describe import describe
from broker.admin.exchange import Body, answer, read_body
from broker.client.operator_message import OUTCOME, QUESTION, OperatorMessage, Outcome, encoded
from broker.mqtt import Properties, forwarded_properties, is_payload_as_said, is_valid_topic_name
from cluster.control import Desk

PAYLOAD_BYTES: Final = 1 << 20
"""Of what is published here; for more there are clients."""
_BODY_BYTES: Final = PAYLOAD_BYTES * 4 // 3 + (128 << 10)
_STRING_BYTES: Final = 65_535
_EXPIRY_MAXIMUM: Final = 0xFFFF_FFFF


def _is_string(text: str) -> str:
    """[MQTT-1.5.4-1], [MQTT-1.5.4-2]."""
    if "\0" in text or len(text.encode()) > _STRING_BYTES:
        raise ValueError(f"has U+0000, or more than {_STRING_BYTES} bytes")
    return text


def _is_topic(topic: str) -> str:
    if not is_valid_topic_name(topic):
        raise ValueError("not a Topic Name: it is empty or too long, or has +, # or U+0000")
    return topic


def _is_base64(text: str) -> str:
    try:
        b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise ValueError("not base64") from None
    return text


Text = Annotated[str, AfterValidator(_is_string)]
Topic = Annotated[str, AfterValidator(_is_topic)]
Base64 = Annotated[str, AfterValidator(_is_base64)]


class PublishBody(Body):
    """An Application Message. The payload is text, or base64 of any bytes; none is empty. `user_properties`:
    pairs of name and value, in order."""

    topic: Topic
    payload: str | None = None
    payload_base64: Base64 | None = None
    qos: Annotated[int, Field(ge=0, le=2)] = 0
    retain: bool = False
    expiry_seconds: Annotated[int | None, Field(ge=0, le=_EXPIRY_MAXIMUM)] = None
    content_type: Text | None = None
    response_topic: Topic | None = None
    correlation_data_base64: Base64 | None = None
    payload_format_indicator: Literal[0, 1] | None = None
    user_properties: Annotated[list[tuple[Text, Text]], Field(max_length=100)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.payload is not None and self.payload_base64 is not None:
            raise ValueError("payload and payload_base64: give one of them")
        if len(self.content()) > PAYLOAD_BYTES:
            raise ValueError(f"payload: more than {PAYLOAD_BYTES} bytes")
        if len(self.correlation_data() or b"") > _STRING_BYTES:
            raise ValueError(f"correlation_data_base64: more than {_STRING_BYTES} bytes")
        if not is_payload_as_said(self.content(), self.properties()):
            raise ValueError("payload: not UTF-8, as payload_format_indicator says")
        return self

    def content(self) -> bytes:
        """The payload."""
        return b64decode(self.payload_base64) if self.payload_base64 else (self.payload or "").encode()

    def correlation_data(self) -> bytes | None:
        given = self.correlation_data_base64
        return None if given is None else b64decode(given)

    def properties(self) -> Properties:
        """Those that subscribers get as they are."""
        return Properties(
            payload_format_indicator=self.payload_format_indicator,
            content_type=self.content_type,
            response_topic=self.response_topic,
            correlation_data=self.correlation_data(),
            user_property=tuple(self.user_properties),
        )


class Published(BaseModel):
    """`sessions` and `groups` (of shared subscriptions) are those that the message was for, `nodes` other
    nodes with clients whose sessions only these know. `result` is `published`, or `no matching subscribers`;
    of a retained message that was cleared it may say why no node has told the subscribers so far.
    `retained`: `yes`, `no`, `cleared`, or `no room` (limits.retained_messages). `token` names the message on
    its way, at QoS 2, as `/explain` takes it."""

    topic: str
    qos: int
    retain: bool
    node: str
    result: str
    sessions: int
    groups: int
    nodes: int
    retained: str
    token: str | None


def publish_routes(desk: Desk) -> list[Route]:
    """The routes below `/api/v1`."""
    return [Route("/publish", _Publishing(desk).publish, methods=["POST"])]


async def publish(desk: Desk, message: OperatorMessage) -> Published:
    """Has a node publish it. Raises HTTPException, StoreError."""
    node, said = await ask_one(desk, QUESTION, message.to_json())
    outcome: Outcome = OUTCOME.validate_python(said)
    if outcome.refused is not None:
        raise HTTPException(422, outcome.refused)
    return Published(
        topic=message.topic,
        qos=message.qos,
        retain=message.retain,
        node=node,
        result="published"
        if outcome.sessions or outcome.groups or outcome.nodes
        else "no matching subscribers",
        sessions=outcome.sessions,
        groups=outcome.groups,
        nodes=outcome.nodes,
        retained=outcome.retained,
        token=message.token.encode().hex() if message.qos == 2 else None,
    )


def untold(message: OperatorMessage, why: str) -> Published:
    """What has been cleared, though no node has said that it has published that."""
    return Published(
        topic=message.topic,
        qos=message.qos,
        retain=message.retain,
        node="",
        result=why,
        sessions=0,
        groups=0,
        nodes=0,
        retained="cleared",
        token=None,
    )


def new_token() -> str:
    """Names one message."""
    return f"operator-{secrets.token_hex(16)}"


class _Publishing:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe(
        "messages", "Publishes a message; answered when it is stored.", body=PublishBody, answer=Published
    )
    async def publish(self, request: Request) -> Response:
        body = await read_body(request, PublishBody, _BODY_BYTES)
        content = body.content()
        message = OperatorMessage(
            body.topic,
            encoded(content),
            body.qos,
            body.retain,
            new_token(),
            encoded(forwarded_properties(body.properties())),
            body.expiry_seconds,
        )
        published = await publish(self._desk, message)
        note_change(
            request, "published", topic=body.topic, qos=body.qos, retain=body.retain, bytes=len(content)
        )
        return answer(published.model_dump())
