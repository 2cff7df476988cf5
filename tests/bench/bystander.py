"""What others feel meanwhile: a process with a publisher, which also pings, and a subscriber of its own.

A process, as the one that measures has 10,000 messages to read. It stands by until its standard input says
`begin`, and answers each `end` with one line of figures since then, in JSON."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import uvloop

from broker.mqtt import (
    MQTT_5,
    Connect,
    Packet,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from tests.cluster.wire import Wire, connack_of, open_wire

_EVERY_SECONDS: Final = 0.004
_ANSWER_SECONDS: Final = 10.0
_TOPIC: Final = "bystander/topic"


@dataclass(frozen=True, slots=True)
class Felt:
    """In ms: from PUBLISH at QoS 1 to its delivery, and the longest time until a PINGRESP."""

    messages: int
    p50: float
    p99: float
    longest: float
    longest_ping: float


class Bystander:
    """Publishes and pings at a fixed rate, whether it gets answers or not; so a pause is seen by all that
    were due in it."""

    def __init__(self, publisher: Wire, subscriber: Wire) -> None:
        self._publisher = publisher
        self._subscriber = subscriber
        self._latencies: list[float] = []
        self._packet_id = 0
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        publisher.adopt(lambda packet: None)
        subscriber.adopt(self._take)

    async def subscribe(self) -> None:
        """Returns with the SUBACK."""
        self._subscriber.send(Subscribe(1, [SubscriptionRequest(_TOPIC, 1)]))
        async with asyncio.timeout(_ANSWER_SECONDS):
            await self.subscribed

    async def run(self) -> None:
        """Until cancelled."""
        started = time.perf_counter()
        count = 0
        while True:
            count += 1
            self._packet_id = self._packet_id % 65_535 + 1
            due = started + count * _EVERY_SECONDS
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent = b"%.6f" % time.perf_counter()
            self._publisher.send(Publish(_TOPIC, sent, 1, False, False, self._packet_id, None))
            self._publisher.ping()

    def begin(self) -> None:
        """Forgets what it has felt."""
        self._latencies.clear()
        self._publisher.longest_silence = 0.0

    def felt(self) -> Felt:
        """Since `begin`."""
        latencies = sorted(self._latencies) or [0.0]
        return Felt(
            len(self._latencies),
            latencies[len(latencies) // 2] * 1e3,
            latencies[len(latencies) * 99 // 100] * 1e3,
            latencies[-1] * 1e3,
            max(self._publisher.longest_silence, self._publisher.silence_seconds()) * 1e3,
        )

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self._latencies.append(time.perf_counter() - float(packet.payload))
            self._subscriber.send(Puback(packet.packet_id))
        elif isinstance(packet, Suback):
            self.subscribed.set_result(None)


async def _connect(port: int, client_id: str) -> Wire:
    connect = Connect(client_id, MQTT_5, True, 0, None, None, None, None)
    wire = await open_wire(port, MQTT_5, str(port), connect)
    connack = await connack_of(wire, _ANSWER_SECONDS)
    if connack is None or connack.reason_code:
        raise ConnectionError(f"{client_id} at {port}: {connack!r}")
    return wire


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    publisher = await _connect(port, "bystander-p")
    subscriber = await _connect(port, "bystander-s")
    bystander = Bystander(publisher, subscriber)
    await bystander.subscribe()
    running = asyncio.create_task(bystander.run())
    while order := (await orders.readline()).strip():
        if order == b"begin":
            bystander.begin()
        else:
            print(json.dumps(asdict(bystander.felt())), flush=True)
    running.cancel()
    publisher.abort()
    subscriber.abort()


def main(arguments: Sequence[str]) -> None:
    """Until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    uvloop.run(_serve(parser.parse_args(arguments).port))


if __name__ == "__main__":
    main(sys.argv[1:])
