"""Many clients with persistent sessions under steady traffic, until all is settled and judged.

One client in twenty publishes, to a topic of its own; the others subscribe, the same number to each topic,
one half at QoS 1 and one at QoS 2. One in four speaks MQTT 3.1.1.
"""

import asyncio
from typing import Final

from broker.mqtt import MQTT_3_1_1, MQTT_5
from tests.cluster.checker import Violations, check, excerpt, undelivered
from tests.cluster.driver import Client, Move, Places, Profile
from tests.cluster.publisher import Publisher, produce
from tests.cluster.record import Record
from tests.cluster.subscriber import Subscriber
from tests.cluster.waiting import poll_until

SHARE_OF_PUBLISHERS: Final = 20
MESSAGES_PER_SECOND: Final = 0.5
"""Of each publisher; so a subscriber has one every two seconds."""
SETTLE_SECONDS: Final = 90.0
PING_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 4.0
_CONNECTING_AT_ONCE: Final = 200
_QUIET_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.5
_SHOWN: Final = 5


class Load:
    """Connected and subscribed by `open`; whoever opens it calls `finish`."""

    def __init__(self, clients: int, places: Places, record: Record, seed: object) -> None:
        count = max(1, clients // SHARE_OF_PUBLISHERS)
        self.record = record
        self.publishers = [
            Publisher(_profile(f"pub{number}", number), places, record, seed) for number in range(count)
        ]
        self.subscribers = [
            Subscriber(_profile(f"sub{number}", number), places, record, seed)
            for number in range(clients - count)
        ]
        self._runs: list[asyncio.Task[None]] = []
        self._work: list[asyncio.Task[None]] = []
        self._enough = asyncio.Event()

    @property
    def clients(self) -> list[Client]:
        """All of them."""
        return [*self.publishers, *self.subscribers]

    async def open(self, group: asyncio.TaskGroup) -> None:
        """Connects all, subscribes, and begins to publish; that goes on until `finish`."""
        for begin in range(0, len(self.clients), _CONNECTING_AT_ONCE):
            some = self.clients[begin : begin + _CONNECTING_AT_ONCE]
            self._runs += [group.create_task(client.run()) for client in some]
            await asyncio.gather(*[_until_connected(client) for client in some])
        for number, subscriber in enumerate(self.subscribers):
            await subscriber.subscribe(_topic(number % len(self.publishers)), 1 + number // 2 % 2)
        self._work = [
            group.create_task(self._produce(publisher, number))
            for number, publisher in enumerate(self.publishers)
        ]

    async def calm(self, seconds: float) -> None:
        """Until all are connected, and so long more: who is sent away late, or twice?

        Raises AssertionError if they don't come back.
        """
        assert await poll_until(self._is_connected, SETTLE_SECONDS, _LOOK_SECONDS), "not all are connected"
        await asyncio.sleep(seconds)

    async def finish(self) -> Violations:
        """Waits until everything is settled, ends all clients, and judges the record."""
        self._enough.set()
        await asyncio.wait(self._work, timeout=SETTLE_SECONDS)
        for publisher in self.publishers:
            if publisher.pending:
                publisher.broken(f"not acknowledged in {SETTLE_SECONDS:g} s: {publisher!r}")
        await self._until_delivered()
        for subscriber in self.subscribers:  # what the node has kept in memory must be in the store, too
            subscriber.move(Move.CUT)
        await self._until_delivered()
        for subscriber in self.subscribers:
            subscriber.drained()
        for client in self.clients:
            client.stop()
        await asyncio.wait(self._runs)
        return check(self.record.events)

    def report(self, violations: Violations) -> str:
        """What a person needs."""
        shown = [excerpt(self.record.events, violation) for violation in violations.found[:_SHOWN]]
        return "\n\n".join([f"{len(violations.found)} violations", *shown])

    async def _produce(self, publisher: Publisher, number: int) -> None:
        """They don't begin in the same moment."""
        await asyncio.sleep(publisher.random.uniform(0.0, 1.0 / MESSAGES_PER_SECOND))
        topics = [(_topic(number), qos) for qos in (1, 2)]
        await produce(publisher, topics, MESSAGES_PER_SECOND, self._enough)

    async def _until_delivered(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        is_all = False
        while not is_all and loop.time() < deadline:
            await poll_until(self._is_quiet, SETTLE_SECONDS, _LOOK_SECONDS)
            is_all = not undelivered(self.record.events)

    def _is_quiet(self) -> bool:
        last = max(subscriber.last_delivery for subscriber in self.subscribers)
        return self._is_connected() and asyncio.get_running_loop().time() > last + _QUIET_SECONDS

    def _is_connected(self) -> bool:
        return all(client.is_connected for client in self.clients)


async def _until_connected(client: Client) -> None:
    await client.until(lambda: client.is_connected)


def _profile(name: str, number: int) -> Profile:
    version = MQTT_3_1_1 if number % 4 == 3 else MQTT_5
    return Profile(name, version, ping_seconds=PING_SECONDS, patience_seconds=PATIENCE_SECONDS)


def _topic(publisher: int) -> str:
    return f"rolling/{publisher}"
