"""Does a subscription count from its SUBACK, on every node? `python -m tests.cluster.subscribe`, or `make
subscribe`.

Two nodes. A client on one subscribes to a topic that nobody has used before; the moment its SUBACK is there,
a client on the other publishes to it at QoS 1. Again and again, with persistent and with direct sessions, in
both directions, while other clients on both nodes subscribe and unsubscribe all the time. Each message has to
arrive. Exit code 1 if one does not."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from broker.mqtt import (
    MQTT_5,
    Connect,
    Packet,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from loadtest.peers import moorline_version
from tests.bench.across import running_cluster
from tests.cluster.wire import Wire, connack_of, open_wire

ARRIVAL_SECONDS: Final = 10.0
_CHURNERS: Final = 8  # on each node
_PAIRS: Final = 4  # in each direction


@dataclass
class Tally:
    """What has happened."""

    published: int = 0
    delivered: int = 0
    lost: list[str] = field(default_factory=list)
    churn: int = 0  # subscriptions made and ended by the others


class Client:
    """A connection that waits for the answer to what it sends."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._packet_id = 0
        self._answers: dict[tuple[type[Packet], int], asyncio.Future[None]] = {}
        self._arrivals: dict[str, asyncio.Future[None]] = {}
        wire.adopt(self._take)

    @classmethod
    async def connect(cls, port: int, client_id: str, *, is_persistent: bool) -> "Client":
        """Raises ConnectionError."""
        properties = Properties(session_expiry_interval=600) if is_persistent else None
        packet = Connect(client_id, MQTT_5, True, 0, None, None, None, properties)
        wire = await open_wire(port, MQTT_5, str(port), packet)
        connack = await connack_of(wire, ARRIVAL_SECONDS)
        if connack is None or connack.reason_code:
            raise ConnectionError(f"{client_id} at {port}: {connack!r}")
        return cls(wire)

    async def subscribe(self, topic: str) -> asyncio.Future[None]:
        """Returns with the SUBACK; the future is done when a message has come."""
        arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals[topic] = arrival
        packet_id = self._next_id()
        await self._ask(Subscribe(packet_id, [SubscriptionRequest(topic, 1)]), Suback, packet_id)
        return arrival

    async def unsubscribe(self, topic: str) -> None:
        """Returns with the UNSUBACK."""
        self._arrivals.pop(topic, None)
        packet_id = self._next_id()
        await self._ask(Unsubscribe(packet_id, [topic], None), Unsuback, packet_id)

    async def publish(self, topic: str) -> None:
        """Returns with the PUBACK."""
        packet_id = self._next_id()
        await self._ask(Publish(topic, b"", 1, False, False, packet_id, None), Puback, packet_id)

    def close(self) -> None:
        """Ends the connection."""
        self._wire.abort()

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id

    async def _ask(self, packet: Packet, answer: type[Packet], packet_id: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers[answer, packet_id] = future
        self._wire.send(packet)
        async with asyncio.timeout(ARRIVAL_SECONDS):
            await future

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self._wire.send(Puback(packet.packet_id))
            arrival = self._arrivals.get(packet.topic)
            if arrival is not None and not arrival.done():
                arrival.set_result(None)
        elif isinstance(packet, Suback | Unsuback | Puback):
            self._answers.pop((type(packet), packet.packet_id)).set_result(None)


async def churn(port: int, name: str, per_second: float, tally: Tally, until: asyncio.Event) -> None:
    """Subscribes and unsubscribes at a rate, other filters each time."""
    client = await Client.connect(port, name, is_persistent=name.endswith("p"))
    started = time.monotonic()
    count = 0
    while not until.is_set():
        topic = f"churn/{name}/{count}"
        await client.subscribe(topic)
        await client.unsubscribe(topic)
        count += 1
        tally.churn += 1
        await asyncio.sleep(max(0.0, started + count / per_second - time.monotonic()))
    client.close()


async def pair(ports: tuple[int, int], name: str, count: int, tally: Tally) -> None:
    """Subscribes on the one, publishes on the other."""
    there, here = ports
    subscriber = await Client.connect(here, f"{name}-s", is_persistent=name.endswith("p"))
    publisher = await Client.connect(there, f"{name}-p", is_persistent=False)
    for number in range(count):
        topic = f"count/{name}/{number}"
        arrival = await subscriber.subscribe(topic)
        tally.published += 1
        await publisher.publish(topic)
        try:
            async with asyncio.timeout(ARRIVAL_SECONDS):
                await arrival
            tally.delivered += 1
        except TimeoutError:
            tally.lost.append(topic)
        await subscriber.unsubscribe(topic)
    subscriber.close()
    publisher.close()


async def run(ports: tuple[int, int], count: int, churn_per_second: float, tally: Tally) -> float:
    """The whole of it; seconds that it took."""
    until = asyncio.Event()
    started = time.monotonic()
    async with asyncio.TaskGroup() as others:
        for number in range(2 * _CHURNERS):
            name = f"churn-{number}-{'pd'[number % 2]}"
            rate = churn_per_second / (2 * _CHURNERS)
            others.create_task(churn(ports[number // _CHURNERS], name, rate, tally, until))
        try:
            async with asyncio.TaskGroup() as pairs:
                for number in range(2 * _PAIRS):
                    name = f"pair-{number}-{'pd'[number % 2]}"
                    way = ports if number < _PAIRS else (ports[1], ports[0])
                    pairs.create_task(pair(way, name, count // (2 * _PAIRS), tally))
        finally:
            until.set()
    return time.monotonic() - started


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--churn", type=float, default=1000.0, help="subscriptions made and ended per second")
    options = parser.parse_args(arguments)
    tally = Tally()
    with (
        tempfile.TemporaryDirectory() as directory,
        running_cluster(Path(directory), ("a", "b")) as cluster,
    ):
        one, two = (int(node.address.rpartition(":")[2]) for node in cluster.nodes)
        seconds = uvloop.run(run((one, two), options.count, options.churn, tally))
    print(
        f"{moorline_version()}: {tally.delivered:,} of {tally.published:,} delivered in {seconds:.1f} s, "
        f"{tally.churn / seconds:,.0f} other subscriptions made and ended per second"
    )
    for topic in tally.lost[:20]:
        print(f"lost: {topic}")
    return 1 if tally.lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
