"""What becomes of a CONNECT: whether its client may come in, and who it is. Then `connecting` claims the
session."""

import asyncio
import secrets
from functools import partial

from broker.auth import Denied, Failure, Identity, Success
from broker.client.admitting import admit, admit_as, end_in_time, note_verdict
from broker.client.authenticating import authenticate
from broker.client.client import Client
from broker.client.connecting import Handshake, refuse
from broker.client.publishing import is_beyond_limits, refusal_of_topic
from broker.client.revoking import REVOKED, is_revoked
from broker.mqtt import (
    MQTT_5,
    Connect,
    Packet,
    ProtocolError,
    ReasonCode,
)

RESERVED_PREFIX = "$forward/"
"""Of Client Identifiers that only the node itself may use."""


def on_connect(client: Client, packet: Packet) -> None:
    """Decides on a CONNECT: asks the store for the session, after the client has been authenticated if it
    names a method."""
    assert isinstance(packet, Connect)
    hub = client.hub
    method = client.connection.authentication_method
    if method is None:
        client.visit.settle()
    else:
        busy = partial(refuse, client, ReasonCode.SERVER_BUSY, "not authenticated, and others want the place")
        client.visit.authenticate(busy)
    client.client_id = packet.client_id or "auto-" + secrets.token_hex(10)  # [MQTT-3.1.3-6]
    client.username = packet.username or ""
    client.has_will = packet.will is not None
    if client.entrance.is_internal:
        _accept(client, packet, None)
        return
    if client.client_id.startswith(RESERVED_PREFIX):
        refuse(client, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, f"{RESERVED_PREFIX} is the broker's own")
        return
    if hub.banning.refuses_client(client.client_id, packet.username, client.address, hub.clock.now_ms):
        refuse(client, ReasonCode.BANNED, "banned")
        return
    if packet.will is not None:
        refusal = refusal_of_topic(packet.will.topic, client.entrance.mount_point)
        if refusal is None and is_beyond_limits(client, packet.will.topic):
            refusal = ReasonCode.TOPIC_NAME_INVALID
        if refusal is not None:
            refuse(client, refusal, "no will may be published to that topic")
            return
        try:
            hub.settings.capabilities.check_will(packet.will)
        except ProtocolError as error:
            refuse(client, error.reason_code, str(error))
            return
    if client.entrance.is_revoked is not None and is_revoked(client):  # most listeners have no list of such
        refuse(client, ReasonCode.NOT_AUTHORIZED, REVOKED)
        return
    if method is None:
        admit(client, packet, partial(_accept, client, packet, None), partial(refuse, client))
        return
    authenticate(
        client,
        packet,
        method,
        partial(_authenticated, client, packet, method),
        partial(_refuse_unauthenticated, client, packet),
    )


def _refuse_unauthenticated(client: Client, packet: Connect, failure: Failure) -> None:
    is_guess = client.authentication is not None  # else nothing was tried
    note_verdict(client, failure.username or packet.username, Denied(failure.reason_code), is_guess=is_guess)
    refuse(client, failure.reason_code, failure.reason)


def _authenticated(client: Client, packet: Connect, method: str, success: Success) -> None:
    client.username = success.username or ""
    identity = success.identity or Identity(success.username, source=method)
    note_verdict(client, success.username, identity)
    end_in_time(client, identity)
    admit_as(identity, client, packet, partial(_accept, client, packet, success), partial(refuse, client))


def _accept(client: Client, packet: Connect, success: Success | None) -> None:
    """The client may come in: asks the store for its session."""
    hub = client.hub
    if client.username != (packet.username or "") and hub.banning.refuses_user(
        client.username, hub.clock.now_ms
    ):
        refuse(client, ReasonCode.BANNED, "banned")
        return
    if hub.is_redis_away():
        refuse(client, ReasonCode.SERVER_UNAVAILABLE, "the session store is away")
        return
    handshake = _handshake(client, packet, success)
    connection = client.connection
    if connection.client_maximum_packet_size and connection.encode_if_fits(handshake.connack(False)) is None:
        # Known before anything is claimed; whether there is a session changes nothing [MQTT-3.1.2-24].
        refuse(client, ReasonCode.PACKET_TOO_LARGE, "CONNACK is larger than the Maximum Packet Size")
        return
    now = hub.tick()
    delay_seconds = hub.fights.delay(client.client_id, now)
    client.answer_by = now + delay_seconds + hub.settings.connection.connect_timeout_seconds
    if delay_seconds:
        asyncio.get_running_loop().call_later(delay_seconds, handshake.ask)
    else:
        handshake.ask()


def _handshake(client: Client, packet: Connect, success: Success | None) -> Handshake:
    settings = client.hub.settings
    if packet.version == MQTT_5:
        properties = packet.properties
        asked = properties.session_expiry_interval if properties is not None else None
        expiry = min(asked or 0, settings.session_expiry_maximum_seconds)
    else:
        expiry = 0 if packet.clean_start else settings.session_expiry_maximum_seconds
    maximum = 0 if client.entrance.is_internal else settings.keep_alive_maximum_seconds
    is_too_long = maximum > 0 and not 0 < packet.keep_alive <= maximum
    server_keep_alive = maximum if is_too_long and packet.version == MQTT_5 else None  # [MQTT-3.2.2-21]
    window = min(client.connection.client_receive_maximum, settings.inflight_limit)
    return Handshake(client, packet, expiry, server_keep_alive, window, success)
