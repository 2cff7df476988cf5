"""What clients send, under other topics and filters: what rewrite rules and mount points make of it."""

import re
from collections.abc import Sequence
from typing import Protocol

from broker.mqtt import (
    Connect,
    Packet,
    Properties,
    Publish,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
    Will,
)

_SPECIAL = re.compile(r"\$share/[^/]+/|\$exclusive/|\$delayed/[^/]*/")


class Names(Protocol):
    """What becomes of the names in a packet."""

    def topic(self, topic: str) -> str:
        """Of a message or a will."""

    def filter(self, filter: str) -> str:
        """Of SUBSCRIBE and UNSUBSCRIBE."""

    def properties(self, properties: Properties | None) -> Properties | None:
        """Of a message or a will: they may name a Response Topic."""


def renamed(packets: Sequence[Packet], names: Names) -> list[Packet]:
    """What a client has sent, as it is to be handled."""
    return [_renamed(packet, names) for packet in packets]


def split_special(name: str) -> tuple[str, str]:
    """What stands before the part of a topic or filter that messages are matched by, and that part."""
    found = _SPECIAL.match(name) if name.startswith("$") else None
    return (found[0], name[found.end() :]) if found is not None else ("", name)


def _renamed(packet: Packet, names: Names) -> Packet:
    if isinstance(packet, Publish):
        return _publish(packet, names)
    if isinstance(packet, Subscribe):
        requests = [_request(each, names) for each in packet.subscriptions]
        return Subscribe(packet.packet_id, requests, packet.properties)
    if isinstance(packet, Unsubscribe):
        filters = [names.filter(filter) for filter in packet.filters]
        return Unsubscribe(packet.packet_id, filters, packet.properties)
    if isinstance(packet, Connect) and packet.will is not None:
        return _connect(packet, packet.will, names)
    return packet


def _publish(packet: Publish, names: Names) -> Publish:
    topic = names.topic(packet.topic)
    properties = names.properties(packet.properties)
    if topic == packet.topic and properties is packet.properties:
        return packet
    return Publish(topic, packet.payload, packet.qos, packet.retain, packet.dup, packet.packet_id, properties)


def _request(request: SubscriptionRequest, names: Names) -> SubscriptionRequest:
    return SubscriptionRequest(
        names.filter(request.filter),
        request.qos,
        request.no_local,
        request.retain_as_published,
        request.retain_handling,
    )


def _connect(packet: Connect, will: Will, names: Names) -> Connect:
    properties = names.properties(will.properties)
    return Connect(
        packet.client_id,
        packet.version,
        packet.clean_start,
        packet.keep_alive,
        packet.username,
        packet.password,
        Will(names.topic(will.topic), will.payload, will.qos, will.retain, properties),
        packet.properties,
    )
