"""What becomes of clients and messages, as messages of the broker itself: `$events/<kind>/<client>` at QoS 1,
for forwards, and only of the kinds that one wants.

`delivered` is told at least once for persistent sessions: the acknowledgement counts when the event is in the
queue of the forward. All others are told once, or not at all if the node is killed at that moment.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import orjson

from broker.client import EVENTS_PREFIX, RESERVED_PREFIX, Hub
from broker.forwarding.text import text_or_base64
from broker.mqtt import decode_properties
from broker.mqtt.property import IN_CLIENT_PUBLISH
from broker.observability.events import (
    CONNECTED,
    DISCONNECTED,
    REFUSED,
    SUBSCRIBED,
    TAKEN_OVER,
    UNSUBSCRIBED,
    Event,
)
from broker.routing import Publication
from broker.session import Message, Reports, Taken
from broker.settings import ForwardSettings

DELIVERED: Final = "delivered"
DROPPED: Final = "dropped"
EXPIRED: Final = "expired"
_OF_CLIENTS: Final = (CONNECTED, DISCONNECTED, REFUSED, SUBSCRIBED, TAKEN_OVER, UNSUBSCRIBED)
WAITING_MAXIMUM: Final = 10_000
"""Events that are on their way to the store; of more than so many none is told but `delivered`, which the
windows of clients bound."""

_NOT_IN_A_LEVEL: Final = {"%": "%25", "/": "%2F", "+": "%2B", "#": "%23"}
_TOPIC_CHARACTERS: Final = 8_000  # a Client Identifier may be longer than a topic


def wanted_kinds(filters: Iterable[str]) -> Callable[[str], bool]:
    """Whether one of the filters may match an event of a kind."""
    levels = [filter.split("/") for filter in filters if filter.startswith(EVENTS_PREFIX)]
    kinds = {each[1] for each in levels}
    return lambda kind: bool(kinds & {kind, "+", "#"})


class EventMessages:
    """Of one node; `hub` finds it."""

    def __init__(self, hub: Callable[[], Hub], is_wanted: Callable[[str], bool]) -> None:
        self._hub = hub
        self._is_wanted = is_wanted
        self._waiting = 0

    @property
    def reports(self) -> Reports | None:
        """None if nothing is wanted that sessions have to tell."""
        if not any(self._is_wanted(kind) for kind in (DELIVERED, DROPPED, EXPIRED)):
            return None
        return Reports(self.on_dropped, self.on_taken)

    @property
    def wants_drops(self) -> bool:
        """Whether `on_overflow` is to be called at all."""
        return self._is_wanted(DROPPED)

    @property
    def wants_clients(self) -> bool:
        """Whether `on_event` is to be called at all."""
        return any(self._is_wanted(kind) for kind in _OF_CLIENTS)

    def on_event(self, event: Event) -> None:
        """From the events of the node."""
        if self._has_room_for(event.kind, event.client_id):
            self._tell(event.kind, event.client_id, event.at_ms, event.fields)

    def on_dropped(self, client_id: str, topic: str, reason: str, qos: int, properties: bytes) -> None:
        """From the sessions: a message did not reach the client."""
        kind = EXPIRED if reason == EXPIRED else DROPPED
        if self._has_room_for(kind, client_id):
            fields = {"topic": topic, "qos": qos, "reason": reason, "count": 1, **_correlation(properties)}
            self._tell(kind, client_id, self._hub().clock.now_ms, fields)

    def on_overflow(self, client_id: str, topic: str | None, qos: int, properties: bytes, count: int) -> None:
        """From the router, as `Overflow` says: a queue was full."""
        if not self._has_room_for(DROPPED, client_id):
            return
        fields: dict[str, object] = {"topic": topic, "reason": "queue_full", "count": count}
        if topic is not None:
            fields |= {"qos": qos, **_correlation(properties)}
        self._tell(DROPPED, client_id, self._hub().clock.now_ms, fields)

    def on_taken(self, taken: Taken) -> None:
        """From the sessions: the client has it."""
        if not self._is_wanted(DELIVERED) or taken.client_id.startswith(RESERVED_PREFIX):
            taken.stored()
            return
        fields = {"topic": taken.topic, "qos": taken.qos, **_correlation(taken.properties)}
        self._publish(DELIVERED, taken.client_id, self._hub().clock.now_ms, fields, _Told(taken))

    def settled(self, publication: Publication) -> None:
        """One of them is stored."""
        self._waiting -= 1

    def _has_room_for(self, kind: str, client_id: str) -> bool:
        """Whether it is to be told."""
        if not self._is_wanted(kind) or client_id.startswith(RESERVED_PREFIX):
            return False
        if self._waiting >= WAITING_MAXIMUM:  # Redis is away, or slow
            self._hub().counters.refused.add("forward_events")
            return False
        return True

    def _tell(self, kind: str, client_id: str, at_ms: int, fields: Mapping[str, object]) -> None:
        self._waiting += 1
        self._publish(kind, client_id, at_ms, fields, self)

    def _publish(
        self,
        kind: str,
        client_id: str,
        at_ms: int,
        fields: Mapping[str, object],
        origin: "EventMessages | _Told",
    ) -> None:
        """The connection that is being worked for sees to it that it leaves."""
        document = {"kind": kind, "client_id": client_id, "at_ms": at_ms, **fields}
        topic = f"{EVENTS_PREFIX}{kind}/{_level(client_id)}"
        message = Message(topic, orjson.dumps(document), 1, False)
        self._hub().router.publish(Publication(message, None, origin=origin))


class _Told:
    """Waits for the event of an acknowledgement to be stored."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken

    def settled(self, publication: Publication) -> None:
        """It is."""
        self._taken.stored()


def event_messages(settings: Mapping[str, ForwardSettings], hub: Callable[[], Hub]) -> EventMessages:
    """As the forwards want them."""
    filters = [filter for forward in settings.values() for filter in forward.topics]
    return EventMessages(hub, wanted_kinds(filters))


def _level(client_id: str) -> str:
    """As one level of a topic."""
    return "".join(_NOT_IN_A_LEVEL.get(each, each) for each in client_id[:_TOPIC_CHARACTERS])


def _correlation(properties: bytes) -> dict[str, object]:
    """By which a back-end knows its message again."""
    if not properties:
        return {}
    decoded = decode_properties(properties, 0, len(properties), IN_CLIENT_PUBLISH)
    found: dict[str, object] = {}
    if decoded.correlation_data is not None:
        found |= text_or_base64("correlation_data", decoded.correlation_data)
    if decoded.user_property:
        found["user_properties"] = [list(pair) for pair in decoded.user_property]
    return found
