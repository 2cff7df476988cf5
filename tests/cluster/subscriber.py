"""A subscriber, persistent or direct, with the receiver of MQTT 4.3.

Its session outlives its connections: Packet Identifiers between PUBLISH and PUBREL at QoS 2 are kept until
CONNACK says that the broker has no session. What it hands on to the application goes into the record.
"""

import asyncio
from typing import Final

from broker.mqtt import (
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from tests.cluster.driver import Client, Places, Profile
from tests.cluster.record import (
    Delivered,
    Drained,
    Record,
    Subscribed,
    Subscribing,
    Unsubscribed,
    Unsubscribing,
    message_of,
)

STEPS: Final = {
    1: ("PUBLISH received", "PUBACK sent"),
    2: ("PUBLISH received", "PUBREC sent", "PUBREL received", "PUBCOMP sent"),
}
_ERROR: Final = 0x80


class Subscriber(Client):
    """`subscribe` and `unsubscribe` return when they are acknowledged, on whichever connection."""

    def __init__(self, profile: Profile, places: Places, record: Record, seed: object) -> None:
        super().__init__(profile, places, record, seed)
        self.delivered = 0
        self.last_delivery = 0.0
        self._filters: dict[str, int] = {}  # granted, or asked for
        self._asked: dict[int, Subscribe | Unsubscribe] = {}
        self._unreleased: dict[int, bytes] = {}
        self._last_id = 0

    def __repr__(self) -> str:
        return f"<Subscriber {self.name} at {self.node or 'no node'}, unreleased {list(self._unreleased)}>"

    async def subscribe(self, filter: str, qos: int) -> None:
        """Until SUBACK."""
        self._filters[filter] = qos
        await self._ask(Subscribe(self._next_id(), [SubscriptionRequest(filter, qos)]))

    async def unsubscribe(self, filter: str) -> None:
        """Until UNSUBACK."""
        self._filters.pop(filter, None)
        await self._ask(Unsubscribe(self._next_id(), [filter]))

    def drained(self) -> None:
        """Notes that nothing is to come any more."""
        self.record.add(Drained(self.record.clock(), self.name))

    def on_connected(self, session_present: bool) -> None:
        if not session_present:
            self._unreleased.clear()
            self._asked = {
                packet_id: request
                for packet_id, request in self._asked.items()
                if isinstance(request, Unsubscribe)
            }
            for filter, qos in self._filters.items():
                packet_id = self._next_id()
                self._asked[packet_id] = Subscribe(packet_id, [SubscriptionRequest(filter, qos)])
        for request in self._asked.values():
            self._send_request(request)

    def on_packet(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self._take_publish(packet)
        elif isinstance(packet, Pubrel):
            self._unreleased.pop(packet.packet_id, None)
            if not self.struck("PUBREL received"):
                self.send(Pubcomp(packet.packet_id))
                self.struck("PUBCOMP sent")
        elif isinstance(packet, Suback | Unsuback):
            self._take_answer(packet)
        else:
            super().on_packet(packet)

    # Subscriptions

    async def _ask(self, request: Subscribe | Unsubscribe) -> None:
        """Sends it now, or with the next connection; returns when nothing asked for is unanswered."""
        self._asked[request.packet_id] = request
        if self.is_connected:
            self._send_request(request)
        await self.until(lambda: not self._asked)

    def _send_request(self, request: Subscribe | Unsubscribe) -> None:
        now = self.record.clock()
        if isinstance(request, Subscribe):
            for asked in request.subscriptions:
                self.record.add(Subscribing(now, self.name, asked.filter, asked.qos))
        else:
            for filter in request.filters:
                self.record.add(Unsubscribing(now, self.name, filter))
        self.send(request)

    def _take_answer(self, packet: Suback | Unsuback) -> None:
        request = self._asked.pop(packet.packet_id, None)
        if request is None or any(code >= _ERROR for code in packet.reason_codes):
            self.broken(f"{packet!r} for {request!r}")
            return
        now = self.record.clock()
        if isinstance(request, Subscribe):
            for asked, granted in zip(request.subscriptions, packet.reason_codes, strict=True):
                self.record.add(Subscribed(now, self.name, asked.filter, granted))
        else:
            for filter in request.filters:
                self.record.add(Unsubscribed(now, self.name, filter))
        self.changed()

    def _next_id(self) -> int:
        self._last_id = self._last_id % 65_535 + 1
        return self._last_id

    # Messages

    def _take_publish(self, packet: Publish) -> None:
        self.last_delivery = asyncio.get_running_loop().time()
        if packet.qos == 2:
            held = self._unreleased.get(packet.packet_id)
            if held is not None and held != packet.payload:
                self.broken(f"{packet!r}: the identifier is in use by {held!r} [MQTT-2.2.1-4]")
            if held is None:
                self._unreleased[packet.packet_id] = packet.payload
                self._deliver(packet)
        else:
            self._deliver(packet)
        if self.struck("PUBLISH received") or not packet.qos:
            return
        self.send(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))
        self.struck("PUBACK sent" if packet.qos == 1 else "PUBREC sent")

    def _deliver(self, packet: Publish) -> None:
        self.delivered += 1
        message = message_of(packet.topic, packet.payload)
        event = Delivered(self.record.clock(), self.name, message, packet.qos, packet.dup, self.node)
        self.record.add(event)
