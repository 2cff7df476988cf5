"""What the settings mean for every connection of a node."""

from typing import Final

from broker.client import ClientSettings
from broker.limiting import connections_maximum
from broker.mqtt import Capabilities, ConnectionLimits
from broker.settings import Settings
from cluster.store.shares import Policy

TOKEN_GRACE_SECONDS: Final = 3600
"""How long the store remembers, at least, who got a QoS 2 message that nobody has acknowledged: longer than
Redis may be away while a batch waits to be sent again."""


def client_settings(settings: Settings) -> ClientSettings:
    """What holds for every connection."""
    return ClientSettings(
        connection=ConnectionLimits(
            maximum_packet_size=settings.mqtt.maximum_packet_size,
            receive_maximum=settings.mqtt.receive_maximum,
            topic_alias_maximum=settings.mqtt.topic_alias_maximum,
            connect_timeout_seconds=settings.mqtt.connect_timeout_seconds,
        ),
        keep_alive_maximum_seconds=settings.mqtt.keep_alive_maximum_seconds,
        session_expiry_maximum_seconds=settings.mqtt.session_expiry_maximum_seconds,
        inflight_limit=settings.session.inflight_limit,
        direct_inflight_limit=settings.session.direct_inflight_limit,
        direct_queue_limit=settings.session.direct_queue_limit,
        direct_queue_bytes=settings.session.direct_queue_bytes,
        drop_oldest=settings.session.queue_policy == "drop_oldest",
        outbound_buffer_bytes=settings.limits.outbound_buffer_bytes,
        inbound_unacknowledged_bytes=settings.limits.inbound_unacknowledged_bytes,
        subscriptions_maximum=settings.limits.subscriptions_per_session,
        filters_maximum=settings.limits.filters_per_packet,
        stalled_seconds=settings.limits.stalled_seconds,
        topic_levels_maximum=settings.mqtt.topic_levels_maximum,
        sent_topic_aliases_maximum=settings.mqtt.sent_topic_aliases_maximum,
        qos2_retry_limit_seconds=settings.session.qos2_retry_limit_seconds,
        token_grace_seconds=TOKEN_GRACE_SECONDS,
        connections_maximum=connections_maximum(settings.limits),
        queue_limit=settings.session.queue_limit,
        queue_bytes=settings.session.queue_bytes,
        shared_inflight_limit=settings.session.shared_inflight_limit,
        sharing=sharing(settings),
        topics=settings.topics,
        capabilities=capabilities(settings),
        response_information=settings.mqtt.response_information,
    )


def capabilities(settings: Settings) -> Capabilities:
    """What of MQTT 5 this node has."""
    mqtt = settings.mqtt
    return Capabilities(
        maximum_qos=mqtt.maximum_qos,
        retain_available=mqtt.retain_available,
        wildcard_subscription_available=mqtt.wildcard_subscription_available,
        shared_subscription_available=mqtt.shared_subscription_available,
        subscription_identifier_available=mqtt.subscription_identifier_available,
        checks_payload_format=mqtt.payload_format_check,
        retained_payload_bytes_maximum=settings.limits.retained_payload_bytes,
    )


def sharing(settings: Settings) -> Policy:
    """A group is kept for as long as any session could be that has it."""
    return Policy(settings.session.shared_strategy, settings.mqtt.session_expiry_maximum_seconds * 1000)
