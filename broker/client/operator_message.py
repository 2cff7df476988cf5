"""Messages that an operator publishes by way of the admin API: the node itself is their publisher.

They go the way of wills: into the router's next batch, and whoever asked is answered when all of it is
stored. So they reach clients of other nodes at QoS 0, too, by their inboxes; an order that comes twice has
the same token at QoS 2. Beyond a number of messages that wait for Redis no more are taken.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Final, Literal

import anyio
from pydantic import Field, TypeAdapter, ValidationError

from broker.client.hub import Hub
from broker.client.publishing import refusal_of_topic
from broker.mqtt import ProtocolError, is_valid_topic_name
from broker.routing import Publication
from broker.routing.subscription import PERSISTENT_INTEREST
from broker.session import NO_DEADLINE, Message
from cluster.questions import QuestionRefused

QUESTION: Final = "publish"
WAITING_MAXIMUM: Final = 64
WAITING_BYTES_MAXIMUM: Final = 16 << 20
_PACKET_BYTES: Final = 16
"""Of a PUBLISH beside topic, properties and payload."""


@dataclass(frozen=True, slots=True)
class OperatorMessage:
    """What a node is to publish. `payload` and `properties` (in wire form) are base64. `token` names the
    message at QoS 2. `clears`: it takes a retained message away, whatever may be published otherwise."""

    topic: str
    payload: str
    qos: Annotated[int, Field(ge=0, le=2)]
    retain: bool
    token: str
    properties: str = ""
    expiry_seconds: int | None = None
    clears: bool = False

    def to_json(self) -> dict[str, object]:
        """For a question."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it: sessions and groups (of shared subscriptions) that it was for, and other nodes with
    clients whose sessions only these know. `refused`: why nothing was published; then nothing else counts."""

    sessions: int = 0
    groups: int = 0
    nodes: int = 0
    retained: Literal["yes", "no", "no room", "cleared"] = "no"
    refused: str | None = None


OUTCOME: Final = TypeAdapter(Outcome)
_ORDER: Final = TypeAdapter(OperatorMessage)


def encoded(content: bytes) -> str:
    """As `OperatorMessage` has it."""
    return b64encode(content).decode()


class OperatorMessages:
    """Of one node."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting = 0
        self._waiting_bytes = 0

    async def answer(self, argument: bytes) -> object:
        """To the question. Raises QuestionRefused."""
        try:
            order = _ORDER.validate_json(argument)
            payload = b64decode(order.payload, validate=True)
            properties = b64decode(order.properties, validate=True)
        except (ValidationError, ValueError) as error:
            raise QuestionRefused(f"not understood: {type(error).__name__}") from None
        return asdict(await self.publish(order, payload, properties))

    async def publish(self, order: OperatorMessage, payload: bytes, properties: bytes) -> Outcome:
        """Returns when everything is stored. Cancelled before that, the message is published all the same.
        Raises QuestionRefused."""
        hub = self._hub
        refused = None if order.clears else self._refusal(order, payload, properties)
        if refused is not None:
            return Outcome(refused=refused)
        self._take_place(len(payload))
        settled = _Settled(partial(self._leave_place, len(payload)))
        hub.when_sure(partial(self._route, order, payload, properties, settled))
        if order.clears and hub.committer.is_full:  # the retained message is gone already
            raise QuestionRefused("it follows when there is room for what is held")
        return _outcome(await settled.wait())

    def _route(self, order: OperatorMessage, payload: bytes, properties: bytes, settled: "_Settled") -> None:
        hub = self._hub
        message = Message(
            order.topic, payload, order.qos, order.retain, properties,
            NO_DEADLINE if order.expiry_seconds is None else hub.clock.now_ms + order.expiry_seconds * 1000,
        )  # fmt: skip
        if order.qos == 2:
            message.token = order.token.encode()
            message.token_ttl_ms = hub.settings.qos2_retry_limit_seconds * 1000
        hub.router.publish(Publication(message, None, origin=settled))

    def _refusal(self, order: OperatorMessage, payload: bytes, properties: bytes) -> str | None:
        """By what holds for clients, too."""
        settings, topic = self._hub.settings, order.topic
        if not is_valid_topic_name(topic, settings.topic_levels_maximum):
            return "topic: not a Topic Name, or with too many levels"
        limits = self._hub.topic_limits
        if refusal_of_topic(topic, None) is not None:
            return "topic: what begins with $SYS/ is the nodes' own, and $delayed/ is for clients"
        if limits is not None and limits.is_beyond(topic):
            return "topic: longer or deeper than limits.topic_bytes and limits.topic_levels allow"
        size_bytes = len(topic.encode()) + len(payload) + len(properties) + _PACKET_BYTES
        if size_bytes > settings.connection.maximum_packet_size:
            return "payload: the packet would be larger than mqtt.maximum_packet_size"
        try:
            settings.capabilities.check_publish(order.qos, order.retain)
        except ProtocolError as error:
            return str(error)
        if order.retain and settings.capabilities.is_too_large(payload):
            return "payload: larger than limits.retained_payload_bytes"
        return None

    def _take_place(self, size_bytes: int) -> None:
        hub = self._hub
        if hub.is_stopping or hub.is_redis_away():
            raise QuestionRefused("it is about to stop, or Redis is away")
        if self._waiting >= WAITING_MAXIMUM or self._waiting_bytes + size_bytes > WAITING_BYTES_MAXIMUM:
            raise QuestionRefused("too many messages of operators wait for Redis")
        self._waiting += 1
        self._waiting_bytes += size_bytes

    def _leave_place(self, size_bytes: int) -> None:
        self._waiting -= 1
        self._waiting_bytes -= size_bytes


class _Settled:
    """Waits for a message to be stored."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._event = anyio.Event()
        self._publication: Publication | None = None

    def settled(self, publication: Publication) -> None:
        """From the router."""
        self._publication = publication
        self._then()
        self._event.set()

    async def wait(self) -> Publication:
        await self._event.wait()
        assert self._publication is not None
        return self._publication


def _outcome(publication: Publication) -> Outcome:
    message = publication.message
    sessions = groups = 0
    nodes = set()
    for target in publication.targets if publication.is_matched else ():
        subscriber = target.subscriber
        if subscriber.share is not None:
            groups += 1
        elif subscriber.node:
            if message.qos == 0 or subscriber.interest != PERSISTENT_INTEREST:
                nodes.add(subscriber.node)
        elif subscriber.session is not None or publication.queued_part(target) is not None:
            sessions += 1
    retained: Literal["yes", "no", "no room", "cleared"] = "no"
    if message.retain:
        stored: Literal["yes", "cleared"] = "yes" if message.payload else "cleared"
        retained = "no room" if publication.is_not_retained else stored
    return Outcome(sessions, groups, len(nodes), retained)
