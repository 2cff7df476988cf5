"""PUBLISH to `$delayed/<seconds>/<topic>`: kept in Redis, published later, once in the whole cluster.

The message is acknowledged when it is stored with its deadline, and belongs to no connection or session from
then on. When its time has come the janitor of some node finds it, and it goes the way of a will (`wills`):
leased, routed with a token of its own, then removed. At QoS 2 a persistent session's exchange is noted as
taken in the same call that stores the message: a PUBLISH that is sent again does not make another one.
"""

import asyncio
import re
import secrets
from functools import partial
from itertools import count
from typing import Final

from broker.client.client import Client
from broker.client.closing import on_overrun
from broker.client.publishing import refusal_of_topic, refuse
from broker.mqtt import MQTT_5, Publish, ReasonCode, forwarded_properties, is_payload_as_said
from broker.observability.logs import get_logger
from broker.session import STORED, ActionPromise, Session
from cluster.store import deadlines, records
from cluster.store.errors import RedisFull
from cluster.store.lane import Reply, Request

_TOPIC: Final = re.compile(r"\$delayed/([0-9]{1,10})/(.+)", re.DOTALL)
_FULL_PAUSE_SECONDS: Final = 1.0
_OVERHEAD_BYTES: Final = 512  # of a message that waits, beside its payload

_numbers = count()
logger = get_logger(__name__)


def delay(client: Client, session: Session, packet: Publish) -> None:
    """Stores a message, then acknowledges it; its exchange has begun."""
    settings = client.hub.settings.topics
    found = _TOPIC.fullmatch(packet.topic)
    if found is None:
        refuse(client, session, packet, ReasonCode.TOPIC_NAME_INVALID)
        return
    seconds, topic = int(found[1]), found[2]
    refusal = refusal_of_topic(topic, client.entrance.mount_point)
    if refusal is None and seconds > settings.delayed_maximum_seconds:
        refusal = ReasonCode.QUOTA_EXCEEDED
    checks_format = client.hub.settings.capabilities.checks_payload_format
    if refusal is None and checks_format and not is_payload_as_said(packet.payload, packet.properties):
        client.hub.ingress.refused_payload_format += 1
        refusal = ReasonCode.PAYLOAD_FORMAT_INVALID
    if refusal is not None:
        refuse(client, session, packet, refusal)
        return
    is_noted = packet.qos == 2 and session.queued is not None
    request = deadlines.delay(
        session.client_id,
        session.epoch,
        _next_id(client),
        delay_ms=seconds * 1000,
        record=_record(session, packet, topic),
        limit=settings.delayed_limit,
        packet_id=packet.packet_id if is_noted else None,
        receive_limit=2 * client.hub.settings.connection.receive_maximum,
        repeat_ms=session.token_ttl_ms if packet.qos == 2 and not is_noted else 0,
    )
    session.intake.hold(_OVERHEAD_BYTES + (0 if packet.qos else len(packet.payload)))
    _ask(client, session, packet, request)


def _ask(client: Client, session: Session, packet: Publish, request: Request) -> None:
    client.hub.committer.request(request, partial(_stored, client, session, packet, request))


def _stored(client: Client, session: Session, packet: Publish, request: Request, reply: Reply) -> None:
    if isinstance(reply, RedisFull) and session.version != MQTT_5 and not client.is_closed:
        # Older clients can't be told: theirs is tried again.
        loop = asyncio.get_running_loop()
        loop.call_later(_FULL_PAUSE_SECONDS, _ask, client, session, packet, request)
        return
    session.intake.release(_OVERHEAD_BYTES + (0 if packet.qos else len(packet.payload)))
    if isinstance(reply, RedisFull) or reply == deadlines.TOO_MANY_DELAYED:
        refuse(client, session, packet, ReasonCode.QUOTA_EXCEEDED)
    elif isinstance(reply, Exception):
        logger.error("delayed message not stored: %s", reply, extra={"client_id": session.client_id})
        client.close(ReasonCode.UNSPECIFIED_ERROR, "the session store refused a message")
    elif reply == deadlines.TOO_MANY_EXCHANGES:
        session.inbound.refuse(packet.packet_id)
        on_overrun(client.hub, session)
    elif reply == 0:
        client.taken_over()
    elif packet.qos:
        _answer(client, session, packet, request)
    client.hub.after_input()


def _answer(client: Client, session: Session, packet: Publish, request: Request) -> None:
    """The message is stored: PUBACK or PUBREC, now or when that is confirmed."""
    promises = session.promises
    if promises is not None:
        found = _TOPIC.fullmatch(packet.topic)
        level = promises.level_of(found[2] if found is not None else packet.topic)
        if promises.must_wait(level):
            again = partial(_store_again, client, session, packet, request)
            keep = partial(_acknowledge, session, packet, level)
            promises.owe(ActionPromise(promises.confirmation(level), keep, again))
            return
    _acknowledge(session, packet, STORED)


def _acknowledge(session: Session, packet: Publish, level: int) -> None:
    if packet.qos == 2 and session.promises is not None:
        session.promises.begin_in(packet.packet_id, level)
    session.published(packet.packet_id, packet.qos, ReasonCode.SUCCESS, len(packet.payload))


def _store_again(client: Client, session: Session, packet: Publish, request: Request) -> None:
    """As the same message: it has an id."""
    session.intake.hold(_OVERHEAD_BYTES)
    _ask(client, session, packet, request)


def _next_id(client: Client) -> str:
    """Hex digits, never the same twice; those of one client on one node rise."""
    return f"{client.hub.clock.now_ms:012x}{next(_numbers) & 0xFFFF_FFFF:08x}{secrets.token_hex(4)}"


def _record(session: Session, packet: Publish, topic: str) -> bytes:
    """As a will is kept. Message Expiry counts from when it is published."""
    properties = packet.properties
    return records.pack_will(
        topic,
        packet.payload,
        packet.qos,
        packet.retain,
        forwarded_properties(properties),
        properties.message_expiry_interval if properties is not None else None,
        session.client_id,
    )
