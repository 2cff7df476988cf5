"""Tells what becomes of a client (`broker.observability.events`)."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.mqtt import SubscriptionRequest
from broker.observability.events import (
    CONNECTED,
    DISCONNECTED,
    HELD_UP,
    REFUSED,
    SESSION_ENDED,
    SUBSCRIBED,
    TAKEN_OVER,
    UNSUBSCRIBED,
    WENT_ON,
)

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client
    from broker.client.hub import Hub


def tell_connected(client: "Client", protocol: int, session_present: bool) -> None:
    """CONNACK has been decided, and the session is there."""
    hub = client.hub
    session = client.session
    if hub.events.is_wanted and session is not None:
        _tell(
            client,
            CONNECTED,
            username=client.username or None,
            address=client.address,
            listener=client.entrance.name,
            protocol=protocol,
            session_present=session_present,
            persistent=session.direct is None,
            keep_alive_seconds=client.connection.keep_alive_timeout / 1.5,
        )


def tell_refused(client: "Client", reason_code: int, reason: str) -> None:
    """CONNACK says no."""
    if client.hub.events.is_wanted and client.client_id:
        _tell(
            client,
            REFUSED,
            username=client.username or None,
            address=client.address,
            listener=client.entrance.name,
            reason_code=reason_code,
            reason=reason,
        )


def tell_disconnected(client: "Client", reason: str) -> None:
    """The connection of a session has ended."""
    if client.hub.events.is_wanted:
        _tell(client, DISCONNECTED, address=client.address, reason=reason)


def tell_taken_over(client: "Client") -> None:
    """Another connection has its session; DISCONNECTED follows."""
    if client.hub.events.is_wanted:
        _tell(client, TAKEN_OVER, address=client.address)


def tell_subscribed(client: "Client", granted: Sequence[SubscriptionRequest], refused: int) -> None:
    """SUBACK leaves: what was granted, and how many were not."""
    if client.hub.events.is_wanted:
        filters = [{"filter": request.filter, "qos": request.qos} for request in granted]
        _tell(client, SUBSCRIBED, filters=filters, refused=refused)


def tell_unsubscribed(client: "Client", filters: Sequence[str]) -> None:
    """UNSUBACK leaves."""
    if client.hub.events.is_wanted:
        _tell(client, UNSUBSCRIBED, filters=list(filters))


def tell_held_up(client: "Client", reason: str, seconds: float) -> None:
    """Nothing has gone on for so long: its window is full, or nothing is read from it."""
    if client.hub.events.is_wanted:
        _tell(client, HELD_UP, reason=reason, seconds=int(seconds))


def tell_went_on(client: "Client", reason: str) -> None:
    """What HELD_UP told of has ended."""
    if client.hub.events.is_wanted:
        _tell(client, WENT_ON, reason=reason)


def tell_session_ended(hub: "Hub", client_id: str) -> None:
    """A session has come to its deadline, or the node died with which it had to end."""
    if hub.events.is_wanted:
        hub.events.tell(SESSION_ENDED, client_id, _now_ms(hub), {})


def _tell(client: "Client", kind: str, **fields: object) -> None:
    hub: Hub = client.hub
    hub.events.tell(kind, client.client_id, _now_ms(hub), fields)


def _now_ms(hub: "Hub") -> int:
    """Not by the clock of the core: it stands still between two looks, up to half a second."""
    return int(time.monotonic() * 1000) + hub.redis_offset_ms
