"""Many clients with persistent sessions in one process, which come back whenever their connection is cut."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.mqtt import MQTT_5, Packet, Puback, Publish, encode, encode_ack
from loadtest.client import Client, ConnectFailed, connect_packet
from loadtest.payload import STAMP
from loadtest.plan import Account
from loadtest.target import Target
from tests.cluster.ledger import Ledger

ACCOUNT: Final = Account(version=MQTT_5)
_LONGEST_BACK_OFF_SECONDS: Final = 4.0
_PACKET_IDS: Final = 65_535


@dataclass(frozen=True)
class Return:
    """One CONNECT that was accepted; monotonic seconds."""

    at: float
    seconds: float
    session_present: bool


@dataclass
class Shore:
    """Where all clients of a run connect, and what they note together."""

    target: Target
    ledger: Ledger
    back_off_seconds: float
    random: random.Random
    away: set[str] = field(default_factory=set)
    """Client ids without a connection."""
    failed_connects: int = 0
    faults: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, is_so: Callable[[], bool], seconds: float) -> bool:
        """Waits until it is so; False if it isn't within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not is_so():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return False
        return True


class _Link(Client):
    """One connection; the next one of the same client is another object."""

    def __init__(self, owner: "ReturningClient", faults: list[str]) -> None:
        super().__init__(owner.client_id, ACCOUNT, faults)
        self._owner = owner

    def handle(self, packets: list[Packet]) -> None:
        """See Client."""
        for packet in packets:
            if not self._owner.take(packet):
                self.handle_control(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. To be cut is no fault here."""
        self._leaving = True
        super().connection_lost(exc)


class ReturningClient:
    """A client id with a persistent session, and its connection of the moment."""

    def __init__(self, client_id: str, shore: Shore) -> None:
        self.client_id = client_id
        self.returns: list[Return] = []
        self._shore = shore
        self._link = _Link(self, shore.faults)

    def take(self, packet: Packet) -> bool:
        """Whether it was one of the load."""
        raise NotImplementedError

    def connected(self) -> None:
        """A new connection can be used."""

    async def connect(self) -> None:
        """Opens a connection. Raises ConnectFailed."""
        link = self._link = _Link(self, self._shore.faults)
        begun = time.monotonic()
        answer = await link.connect(
            self._shore.target, connect_packet(ACCOUNT, self.client_id, persistent=True)
        )
        now = time.monotonic()
        self.returns.append(Return(now, now - begun, answer.session_present))
        self._shore.away.discard(self.client_id)
        self._shore.changed.set()
        self.connected()

    async def stay(self) -> None:
        """Comes back whenever it is cut, after a random pause as devices make it; never ends."""
        while True:
            await self._link.closed()
            self._shore.away.add(self.client_id)
            longest = self._shore.back_off_seconds
            while True:
                await asyncio.sleep(self._shore.random.uniform(0, longest))
                try:
                    await self.connect()
                    break
                except ConnectFailed:
                    self._shore.failed_connects += 1
                    longest = min(max(2 * longest, 0.1), _LONGEST_BACK_OFF_SECONDS)

    def write(self, data: bytes) -> None:
        """Sends bytes, if there is a connection."""
        self._link.write(data)

    async def disconnect(self) -> None:
        """Ends the connection in order. Whoever stays must be cancelled before."""
        await self._link.disconnect()


class Subscriber(ReturningClient):
    """Has one subscription at QoS 1, to a topic of its own."""

    def __init__(self, number: int, shore: Shore) -> None:
        super().__init__(f"subscriber-{number}", shore)
        self.number = number
        self.topic = f"reconnect/{number}"

    async def settle(self) -> None:
        """The first connect, and the subscription. Raises ConnectFailed."""
        await self.connect()
        await self._link.subscribe(self.topic, 1)

    def take(self, packet: Packet) -> bool:
        """Notes and acknowledges a message."""
        if not isinstance(packet, Publish):
            return False
        addressee, number, _ = STAMP.unpack(packet.payload)
        self._shore.ledger.receive(self.number, addressee, number)
        self.write(encode_ack(Puback.packet_type, packet.packet_id, 0, MQTT_5))
        self._shore.changed.set()
        return True


@dataclass(frozen=True)
class _Sent:
    """A message on its way to the broker."""

    subscriber: Subscriber
    number: int
    stamp_ns: int

    def encoded(self, packet_id: int, dup: bool) -> bytes:
        payload = STAMP.pack(self.subscriber.number, self.number, self.stamp_ns)
        return encode(Publish(self.subscriber.topic, payload, 1, False, dup, packet_id, None), MQTT_5)


class Publisher(ReturningClient):
    """Publishes to its subscribers in turn, at QoS 1, and again after a cut what isn't acknowledged."""

    def __init__(self, number: int, shore: Shore, subscribers: Sequence[Subscriber], window: int) -> None:
        super().__init__(f"publisher-{number}", shore)
        self._subscribers = subscribers
        self._window = window  # at most the Receive Maximum of the nodes
        self._turn = 0
        self._packet_id = 0
        self._waiting: deque[_Sent] = deque()
        self._in_flight: dict[int, _Sent] = {}

    def publish(self) -> None:
        """The next message. Without a connection, or with a full window, it waits."""
        subscriber = self._subscribers[self._turn % len(self._subscribers)]
        self._turn += 1
        number = self._shore.ledger.publish(subscriber.number)
        self._waiting.append(_Sent(subscriber, number, time.monotonic_ns()))
        if self.client_id not in self._shore.away:
            self._pump()

    def connected(self) -> None:
        """Sends again, in order [MQTT-4.4.0-1]."""
        for packet_id, sent in self._in_flight.items():
            self.write(sent.encoded(packet_id, True))
        self._pump()

    def take(self, packet: Packet) -> bool:
        """Notes an acknowledgement."""
        if not isinstance(packet, Puback):
            return False
        sent = self._in_flight.pop(packet.packet_id)
        if packet.reason_code < 0x80:
            self._shore.ledger.acknowledge(sent.subscriber.number, sent.number)
        else:
            self._shore.faults.append(f"{self.client_id}: refused with {int(packet.reason_code):#04x}")
        self._shore.changed.set()
        self._pump()
        return True

    def _pump(self) -> None:
        while self._waiting and len(self._in_flight) < self._window:
            sent = self._waiting.popleft()
            self._packet_id = self._packet_id % _PACKET_IDS + 1
            self._in_flight[self._packet_id] = sent
            self.write(sent.encoded(self._packet_id, False))
