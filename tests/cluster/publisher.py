"""A publisher with a persistent session: whatever happens to its connections, it goes on until all is
acknowledged.

On a new connection it sends again what is not acknowledged, as MQTT 4.4 and 4.6 want it: each PUBLISH with
DUP in the order of the first sending, each PUBREL in the order of the PUBRECs.
"""

import asyncio
from collections import Counter
from typing import Final

from broker.mqtt import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.cluster.driver import Client, Places, Profile
from tests.cluster.record import Acknowledged, Message, Published, Record

WINDOW: Final = 8
STEPS: Final = {
    1: ("PUBLISH sent", "PUBACK received"),
    2: ("PUBLISH sent", "PUBREC received", "PUBREL sent", "PUBCOMP received"),
}
"""Of its handshakes: where `strike` is called."""
_ERROR: Final = 0x80
_QUOTA_EXCEEDED: Final = 0x97


class Publisher(Client):
    """`publish` sends one message when the window has room; `settle` waits until all are acknowledged."""

    def __init__(
        self, profile: Profile, places: Places, record: Record, seed: object, window: int = WINDOW
    ) -> None:
        super().__init__(profile, places, record, seed)
        self.acknowledged = 0
        self.refused = 0
        self.may_be_refused = False  # with 0x97: such a message is given up
        self._window = window
        self._unacknowledged: dict[int, Message] = {}  # PUBLISH sent, in this order
        self._released: dict[int, Message] = {}  # PUBREC received, in this order
        self._sequences: Counter[tuple[str, int]] = Counter()
        self._last_id = 0

    def __repr__(self) -> str:
        return (
            f"<Publisher {self.name} at {self.node or 'no node'}, waits for PUBACK or PUBREC of"
            f" {list(self._unacknowledged.values())}, for PUBCOMP of {list(self._released.values())}>"
        )

    @property
    def pending(self) -> int:
        """Messages that are not acknowledged."""
        return len(self._unacknowledged) + len(self._released)

    async def publish(self, topic: str, qos: int) -> None:
        """Sends the next message on this topic."""
        await self.until(lambda: self.is_connected and self.pending < self._window)
        self._sequences[topic, qos] += 1
        message = Message(self.name, topic, qos, self._sequences[topic, qos])
        packet_id = self._next_id()
        self._unacknowledged[packet_id] = message
        self._send_publish(packet_id, message, dup=False)
        self.struck("PUBLISH sent")

    async def settle(self) -> None:
        """Waits until everything is acknowledged."""
        await self.until(lambda: not self.pending)

    def on_connected(self, session_present: bool) -> None:
        """[MQTT-4.4.0-1], [MQTT-4.6.0-1]"""
        for packet_id, message in list(self._unacknowledged.items()):
            self._send_publish(packet_id, message, dup=True)
        self.send(*[Pubrel(packet_id) for packet_id in self._released])

    def on_packet(self, packet: Packet) -> None:
        if isinstance(packet, Puback):
            self._take_puback(packet)
        elif isinstance(packet, Pubrec):
            self._take_pubrec(packet)
        elif isinstance(packet, Pubcomp):
            self._take_pubcomp(packet)
        else:
            super().on_packet(packet)

    def _take_puback(self, packet: Puback) -> None:
        message = self._unacknowledged.pop(packet.packet_id, None)
        if self._is_refusal(packet):
            return
        if message is None or message.qos != 1 or packet.reason_code >= _ERROR:
            self.broken(f"{packet!r} for {message}")
            return
        self._acknowledge(message)
        self.struck("PUBACK received")

    def _take_pubrec(self, packet: Pubrec) -> None:
        message = self._unacknowledged.pop(packet.packet_id, None)
        if self._is_refusal(packet):
            return
        if message is None and packet.packet_id in self._released:
            return  # it was sent twice, on both sides of a lost Redis connection, say; PUBREL has gone out
        if message is None or message.qos != 2 or packet.reason_code >= _ERROR:
            self.broken(f"{packet!r} for {message}")
            return
        self._released[packet.packet_id] = message
        if not self.struck("PUBREC received"):
            self.send(Pubrel(packet.packet_id))
            self.struck("PUBREL sent")

    def _take_pubcomp(self, packet: Pubcomp) -> None:
        message = self._released.pop(packet.packet_id, None)
        if message is None:
            self.broken(f"{packet!r} without PUBREL")
            return
        self._acknowledge(message)
        self.struck("PUBCOMP received")

    def _is_refusal(self, packet: Puback | Pubrec) -> bool:
        if not self.may_be_refused or packet.reason_code != _QUOTA_EXCEEDED:
            return False
        self.refused += 1
        self.changed()
        return True

    def _acknowledge(self, message: Message) -> None:
        self.acknowledged += 1
        self.record.add(Acknowledged(self.record.clock(), self.name, message, self.node))
        self.changed()

    def _send_publish(self, packet_id: int, message: Message, dup: bool) -> None:
        self.record.add(Published(self.record.clock(), self.name, message, self.node, dup))
        self.send(Publish(message.topic, message.payload(), message.qos, False, dup, packet_id))

    def _next_id(self) -> int:
        while True:
            self._last_id = self._last_id % 65_535 + 1
            if self._last_id not in self._unacknowledged and self._last_id not in self._released:
                return self._last_id


async def produce(
    publisher: Publisher, topics: list[tuple[str, int]], messages_per_second: float, enough: asyncio.Event
) -> None:
    """Publishes on topics (with their QoS) by chance, at about this rate until it is enough, then settles."""
    loop = asyncio.get_running_loop()
    following = loop.time()
    while not enough.is_set():
        topic, qos = publisher.random.choice(topics)
        await publisher.publish(topic, qos)
        following = max(following + 1 / messages_per_second, loop.time() - 1.0)  # does not catch up for long
        delay = following - loop.time()
        if delay > 0:
            await asyncio.sleep(delay)
    await publisher.settle()
