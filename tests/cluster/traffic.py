"""A scene: publishers, subscribers and clients with wills on a cluster, in traffic, until all is settled and
judged.

Each scene has a topic prefix of its own, so several may run on one cluster, one after the other or at once.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from broker.mqtt import MQTT_3_1_1, MQTT_5
from tests.cluster.checker import Violations, check, excerpt, undelivered
from tests.cluster.driver import Client, Move, Profile
from tests.cluster.nodes import Site
from tests.cluster.publisher import Publisher, produce
from tests.cluster.record import Record
from tests.cluster.subscriber import Subscriber
from tests.cluster.waiting import poll_until

SETTLE_SECONDS: Final = 60.0
"""All must be acknowledged, and then delivered, within so long each after the last fault."""
QUIET_SECONDS: Final = 0.4
_LOOK_SECONDS: Final = 0.1
_SHOWN: Final = 5

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Size:
    """How much traffic. The rate is that of each publisher; 0: the test itself publishes."""

    publishers: int = 3
    messages_per_second: float = 40.0
    wills: int = 2
    direct: int = 1
    churners: int = 1
    is_restless: bool = True  # clients with wills come and go by themselves


class Scene:
    """Made by `running_scene`."""

    def __init__(self, site: Site, seed: object, size: Size, group: asyncio.TaskGroup) -> None:
        self.site = site
        self.seed = seed
        self.size = size
        self.chance = random.Random(f"{seed}/scene")
        self.record = Record()
        self.prefix = f"scene{next(_numbers)}"
        self.topics = [f"{self.prefix}/m/{number}" for number in range(2)]
        self.publishers = [self._publisher(number) for number in range(size.publishers)]
        self.subscribers = self._persistent_subscribers()
        self.direct = [self._direct(number) for number in range(size.direct)]
        self.churners = [self._churner(number) for number in range(size.churners)]
        self.wills = [self._will(number) for number in range(size.wills)]
        self._group = group
        self._runs: list[asyncio.Task[None]] = []
        self._work: list[asyncio.Task[None]] = []
        self._restless: list[asyncio.Task[None]] = []
        self._enough = asyncio.Event()

    def __repr__(self) -> str:
        return f"<scene {self.prefix}, seed {self.seed}, {len(self.record.events)} events>"

    @property
    def clients(self) -> list[Client]:
        """All of them."""
        return [*self.publishers, *self.receivers, *self.wills]

    @property
    def receivers(self) -> list[Subscriber]:
        """Whoever gets messages."""
        return [*self.subscribers, *self.direct, *self.churners]

    async def open(self) -> None:
        """Connects all, subscribes, and begins to publish; that goes on until `finish`."""
        self._runs = [self._group.create_task(client.run()) for client in self.clients]
        for subscriber in self.subscribers:
            qos = 1 if subscriber is self.subscribers[-1] else 2
            await subscriber.subscribe(f"{self.prefix}/m/#", qos)
            await subscriber.subscribe(f"{self.prefix}/will/+", qos)
        for direct in self.direct:
            await direct.subscribe(f"{self.prefix}/m/+", 2)
        topics = [(topic, qos) for topic in self.topics for qos in (1, 2)]
        rate = self.size.messages_per_second
        if not rate:
            self._enough.set()
        self._work = [
            self._group.create_task(produce(publisher, topics, rate, self._enough))
            for publisher in self.publishers
        ]
        self._restless = [self._group.create_task(self._churn(churner)) for churner in self.churners]
        if self.size.is_restless:
            self._restless += [self._group.create_task(self._come_and_go(client)) for client in self.wills]

    async def finish(self) -> Violations:
        """All works again: waits until everything is settled, ends all clients, and judges the record."""
        self._enough.set()
        await asyncio.wait(self._work, timeout=SETTLE_SECONDS)
        for publisher in self.publishers:
            if publisher.pending:
                publisher.broken(f"not acknowledged in {SETTLE_SECONDS:g} s: {publisher!r}")
        for task in (*self._restless, *self._work):
            task.cancel()
        for client in self.wills:
            client.move(Move.CUT)
            client.stop()
        await self._drain()
        for client in self.clients:
            client.stop()
        await asyncio.wait(self._runs)
        return check(self.record.events)

    def report(self, violations: Violations) -> str:
        """What a person needs: the seed and the parts of the record."""
        kinds = sorted({violation.kind for violation in violations.found})
        shown = [excerpt(self.record.events, violation) for violation in violations.found[:_SHOWN]]
        head = f"seed {self.seed!r}: {len(violations.found)} violations ({', '.join(kinds)})"
        return "\n\n".join([head, *shown])

    # Clients

    def _publisher(self, number: int) -> Publisher:
        version = (MQTT_5, MQTT_3_1_1)[number % 2]
        return Publisher(self._profile(f"pub{number}", version), self.site, self.record, self.seed)

    def _persistent_subscribers(self) -> list[Subscriber]:
        profiles = [
            self._profile("sub5", MQTT_5, receive_maximum=10),
            self._profile("sub4", MQTT_3_1_1),
            self._profile("sub1", MQTT_5),
        ]
        return [Subscriber(profile, self.site, self.record, self.seed) for profile in profiles]

    def _direct(self, number: int) -> Subscriber:
        profile = self._profile(f"direct{number}", MQTT_5, is_persistent=False)
        return Subscriber(profile, self.site, self.record, self.seed)

    def _churner(self, number: int) -> Subscriber:
        return Subscriber(self._profile(f"churn{number}", MQTT_5), self.site, self.record, self.seed)

    def _will(self, number: int) -> Client:
        version, is_persistent, qos = ((MQTT_5, True, 2), (MQTT_3_1_1, False, 1))[number % 2]
        profile = Profile(
            f"{self.prefix}-will{number}",
            version,
            is_persistent,
            will_topic=f"{self.prefix}/will/{number}",
            will_qos=qos,
        )
        return Client(profile, self.site, self.record, self.seed)

    def _profile(
        self, name: str, version: int, is_persistent: bool = True, receive_maximum: int | None = None
    ) -> Profile:
        return Profile(f"{self.prefix}-{name}", version, is_persistent, receive_maximum)

    async def _churn(self, churner: Subscriber) -> None:
        """Subscribes and unsubscribes all the time."""
        while True:
            topic = churner.random.choice(self.topics)
            await churner.subscribe(topic, 2)
            await asyncio.sleep(churner.random.uniform(0.0, 0.2))
            await churner.unsubscribe(topic)
            await asyncio.sleep(churner.random.uniform(0.0, 0.1))

    async def _come_and_go(self, client: Client) -> None:
        """Loses its connection, or disconnects, now and then."""
        while True:
            await asyncio.sleep(client.random.uniform(0.1, 1.0))
            await client.until(lambda: client.is_connected)
            client.move(client.random.choice([Move.CUT, Move.LEAVE, Move.ABANDON]))

    # The end

    async def _drain(self) -> None:
        """Until each subscriber has what it is owed, and nothing comes any more, on another node neither.

        Other scenes may go on, and with them the faults: whoever is cut off meanwhile is waited for again.
        """
        await self._calm()
        for subscriber in (*self.subscribers, *self.churners):
            subscriber.move(Move.CUT)
        await self._calm()
        for receiver in self.receivers:
            if receiver.is_connected:
                receiver.drained()
            else:
                receiver.broken(f"can't connect for {SETTLE_SECONDS:g} s")

    async def _calm(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        is_calm = False
        while not is_calm and loop.time() < deadline:
            await poll_until(self._has_all, deadline - loop.time(), _LOOK_SECONDS)
            await self._quiet()
            is_calm = self._has_all()

    def _has_all(self) -> bool:
        return all(receiver.is_connected for receiver in self.receivers) and not undelivered(
            self.record.events
        )

    async def _quiet(self) -> None:
        """Until nobody has got anything for a while."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await poll_until(lambda: loop.time() > self._last_delivery(begin) + QUIET_SECONDS, SETTLE_SECONDS)

    def _last_delivery(self, begin: float) -> float:
        return max([begin, *[receiver.last_delivery for receiver in self.receivers]])


@asynccontextmanager
async def running_scene(site: Site, seed: object, size: Size | None = None) -> AsyncIterator[Scene]:
    """A scene in traffic. Whoever opens it calls `finish`."""
    async with asyncio.TaskGroup() as group:
        scene = Scene(site, seed, size or Size(), group)
        site.records.append(scene.record)
        try:
            await scene.open()
            yield scene
        finally:
            site.records.remove(scene.record)
