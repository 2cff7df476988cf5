"""A forward to another MQTT broker, and from there: two relays, each with a session on both sides.

Loops: each message that passes carries the name of the bridge, in a User Property; what has it does not pass
again, either way, however many brokers it has been to. Where properties are lost (3.1.1) the settings see to
it that nothing comes back.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskStatus

from broker.client import Hub
from broker.forwarding.forward import client_id_of, requests_for, write_letter
from broker.forwarding.inner import open_inner
from broker.forwarding.link import LinkLost
from broker.forwarding.relaying import Relay
from broker.forwarding.remote import Place, Remote, open_remote
from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Properties,
    Publish,
    SubscriptionRequest,
    encode,
    is_valid_topic_name,
    matches,
)
from broker.observability.forwards import RUNNING, ForwardStatus
from broker.settings import ForwardSettings
from broker.settings.auth_http import http_context
from broker.settings.forwards import mapped
from cluster.store.endpoint import read_secret
from cluster.store.errors import InvalidRedisUrl
from cluster.store.keys import bucket_of

HOP: Final = "moorline-bridge"
"""User Property with the name of a bridge that the message has passed."""
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_REPLAY_IF_NEW: Final = 1
_VERSIONS: Final = {"5.0": MQTT_5, "3.1.1": MQTT_3_1_1}
_TOO_LARGE: Final = "packet_too_large"
_NO_TOPIC: Final = "forward_no_topic"


class BridgeJob:
    """See Job."""

    def __init__(self, hub: Hub, status: ForwardStatus, settings: ForwardSettings) -> None:
        assert settings.url is not None
        parts = urlsplit(settings.url)
        self._hub = hub
        self._status = status
        self._settings = settings
        self._version = _VERSIONS[settings.version]
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._is_tls = parts.scheme == "mqtts"
        self._client_id = settings.client_id or f"moorline-{status.name}"
        self._hop = f"{self._client_id}@{self._host}:{self._port}"
        self._letter = partial(self._give_up, client_id_of(status.name))

    async def run(self) -> None:
        """Both ways, as far as there are messages to be relayed."""
        settings = self._settings
        place = self._place()
        async with anyio.create_task_group() as tasks:
            if settings.topics:
                await tasks.start(self._out, place)
            if settings.in_topics:
                await tasks.start(self._in, place)
            self._status.turn(RUNNING)

    async def _out(self, place: Place, *, task_status: TaskStatus[None]) -> None:
        settings = self._settings
        with open_inner(self._hub, self._status) as inner:
            await inner.connect(client_id_of(self._status.name), settings.in_flight)
            async with open_remote(place, self._version) as remote:
                # Subscriptions are made below: with them there has been a session over there for this one.
                await self._connect(place, remote, self._client_id, inner.is_subscribed)
                await inner.subscribe(requests_for(settings.topics, min(settings.qos, remote.maximum_qos)))
                relay = Relay(
                    inner,
                    remote,
                    min(settings.in_flight, remote.receive_maximum),
                    partial(self._to_there, remote),
                    self._status.note_sent,
                    self._letter,
                )
                await _run_with(remote, relay, task_status)

    async def _in(self, place: Place, *, task_status: TaskStatus[None]) -> None:
        settings = self._settings
        async with open_remote(place, self._version) as remote:
            is_old = await self._connect(place, remote, f"{self._client_id}-in", True)
            with open_inner(self._hub, self._status) as inner:
                in_id = f"{client_id_of(self._status.name)}/in"
                await inner.connect(in_id, settings.in_flight, clean_start=not is_old)
                qos = min(settings.in_qos, self._hub.settings.capabilities.maximum_qos)
                await remote.subscribe(_in_requests(settings.in_topics, qos, self._version == MQTT_5))
                limit = self._hub.settings.connection.receive_maximum
                relay = Relay(
                    remote,
                    inner,
                    min(settings.in_flight, limit),
                    self._to_here,
                    self._note_received,
                    self._letter,
                )
                await _run_with(remote, relay, task_status)

    async def _connect(self, place: Place, remote: Remote, client_id: str, is_old: bool) -> bool:
        """Goes on with the session there, or begins anew; whether there was one."""
        settings = self._settings
        password = _password(settings)
        window = min(settings.in_flight, 65_535)
        if not is_old and self._version != MQTT_5:  # a session with Clean Session ends with its connection
            async with open_remote(place, self._version) as before:
                await before.connect(client_id, settings.username, password, window, clean_start=True)
        is_clean = not is_old and self._version == MQTT_5
        return await remote.connect(client_id, settings.username, password, window, clean_start=is_clean)

    def _to_there(self, remote: Remote, publish: Publish) -> Publish | None:
        topic = mapped(publish.topic, self._settings.strip_prefix, self._settings.add_prefix)
        translated = self._translated(publish, topic, publish.retain and remote.retain_available)
        limit = remote.maximum_packet_size
        if translated is not None and limit and len(encode(translated, remote.version)) > limit:
            self._drop(publish.topic, _TOO_LARGE)
            return None
        return translated

    def _to_here(self, publish: Publish) -> Publish | None:
        settings = self._settings
        if not any(matches(filter, publish.topic) for filter in settings.in_topics):
            self._status.skipped += 1  # of a subscription that is not wanted any more
            return None
        topic = mapped(publish.topic, settings.in_strip_prefix, settings.in_add_prefix)
        capabilities = self._hub.settings.capabilities
        return self._translated(publish, topic, publish.retain and capabilities.retain_available)

    def _translated(self, publish: Publish, topic: str, retain: bool) -> Publish | None:
        had = publish.properties or Properties()
        if (HOP, self._hop) in had.user_property:
            self._status.skipped += 1
            return None
        if not is_valid_topic_name(topic):
            self._drop(publish.topic, _NO_TOPIC)
            return None
        properties = Properties(
            payload_format_indicator=had.payload_format_indicator,
            message_expiry_interval=had.message_expiry_interval,
            content_type=had.content_type,
            response_topic=had.response_topic,
            correlation_data=had.correlation_data,
            user_property=(*had.user_property, (HOP, self._hop)),
        )
        return Publish(
            topic, publish.payload, publish.qos, retain, publish.dup, publish.packet_id, properties
        )

    def _drop(self, topic: str, reason: str) -> None:
        client_id = client_id_of(self._status.name)
        self._status.refused += 1
        self._hub.drops.add(bucket_of(client_id), client_id, topic, reason)

    async def _give_up(self, client_id: str, topic: str, reason: str) -> None:
        self._status.refused += 1
        self._status.note_error(f"refused: {reason}")
        await write_letter(self._hub, client_id, topic, f"forward_refused: {reason}")

    def _note_received(self, count: int) -> None:
        self._status.received += count

    def _place(self) -> Place:
        settings = self._settings
        context = None
        if self._is_tls:
            context = http_context(settings.ca_file, settings.certificate, settings.key)
        return Place(self._host, self._port, context, settings.timeout_seconds)


async def _run_with(remote: Remote, relay: Relay, task_status: TaskStatus[None]) -> None:
    """Both, until one fails."""
    task_status.started()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remote.keep_alive)
        tasks.start_soon(relay.run)


def _in_requests(filters: Sequence[str], qos: int, is_5: bool) -> Sequence[SubscriptionRequest]:
    """With what is retained there, when the subscription is new."""
    handling = _REPLAY_IF_NEW if is_5 else 0
    return [SubscriptionRequest(filter, qos, False, is_5, handling) for filter in filters]


def _password(settings: ForwardSettings) -> bytes | None:
    if settings.password_file is None:
        return None
    try:
        return read_secret(settings.password_file).encode()
    except InvalidRedisUrl as error:
        raise LinkLost(str(error)) from None
