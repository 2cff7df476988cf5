"""What the way of a message through the node costs, without network and store: us per message.

    MOORLINE_PURE=1 python -m tests.bench.routing
    make build && PYTHONSAFEPATH=1 PYTHONPATH=build/compiled:. python -m tests.bench.routing

From the decoded PUBLISH to the bytes of all packets that leave, handed to a sink in one piece per connection
and tick; PER_TICK messages come in one chunk. The replies of the store are made by hand, as fast as can be.
"""

import gc
import time
from collections.abc import Callable

import broker.routing.router
from broker.mqtt import Packet, Puback, Publish
from broker.session import QueueState, Session, flush_all
from cluster.store.call import Call
from tests.routing.room import NODE, Room

PER_TICK = 20
TICKS = 2000
REPEATS = 7
WINDOW = 100
TOPIC = "bench/topic/1"
PAYLOAD = bytes(256)

PUBACKS: list[Packet] = [Puback(packet_id) for packet_id in range(1, 65536)]


class Sink:
    """Takes what a connection would write."""

    def write_all(self, data: bytes) -> None:
        self.size_bytes = len(data)


class Bench:
    """A node with one publisher and one subscriber to what it publishes."""

    def __init__(self, qos: int, queue: QueueState | None, topic_aliases: int = 0) -> None:
        self.room = Room()
        self.publisher = self.connect("publisher", None)
        self.subscriber = self.connect("subscriber", queue, topic_aliases)
        self.room.subscribe(self.subscriber, TOPIC, qos)
        self.publishes: list[Packet] = [
            Publish(TOPIC, PAYLOAD, qos, False, False, packet_id if qos else 0)
            for packet_id in range(1, PER_TICK + 1)
        ]
        self.n = 0

    def connect(self, client_id: str, queue: QueueState | None, topic_aliases: int = 0) -> Session:
        session = self.room.connect(
            client_id, queue=queue, receive_maximum=WINDOW, window=WINDOW, topic_aliases=topic_aliases
        )
        session.outbox.sink = Sink()
        return session

    def at_most_once(self) -> None:
        room = self.room
        room.ingress.receive(self.publisher, self.publishes, 0)
        flush_all(room.ready)

    def at_least_once_direct(self) -> None:
        room = self.room
        router = room.router
        room.ingress.receive(self.publisher, self.publishes, 0)
        calls = router.next_calls()
        flush_all(room.ready)
        router.take_replies(calls, [])
        self.settle()
        self.acknowledge()

    def at_least_once_queued(self) -> None:
        room = self.room
        router = room.router
        room.ingress.receive(self.publisher, self.publishes, 0)
        calls = router.next_calls()
        router.take_replies(calls, [[[], [1, self.n, NODE.encode(), False, 0]]])
        self.settle()
        self.acknowledge()
        calls = room.writes.next_calls()
        room.writes.take_replies([self.answers(call) for call in calls])

    def answers(self, call: Call) -> list[object]:
        return [[1, self.n + WINDOW] if request[0] == "raise_hi" else PER_TICK for request in call.requests]

    def settle(self) -> None:
        router = self.room.router
        assert not router.is_outdated(self.room.index.version)
        assert router.is_settled()
        router.settle()
        flush_all(self.room.ready)

    def acknowledge(self) -> None:
        """The subscriber has got all that was sent."""
        first = self.n % 65535
        pubacks = PUBACKS[first : first + PER_TICK]
        if len(pubacks) < PER_TICK:
            pubacks += PUBACKS[: PER_TICK - len(pubacks)]
        self.n += PER_TICK
        self.room.ingress.receive(self.subscriber, pubacks, 0)

    def check(self) -> None:
        """Nothing was left over: every message was sent, acknowledged and settled."""
        assert self.subscriber.outbound.quota == WINDOW
        assert not self.subscriber.outbound.inflight
        assert not self.room.router.has_work()
        assert not self.room.drops.counts
        assert self.publisher.intake.count == 0
        if self.subscriber.queued is not None:
            assert not self.subscriber.queued.behind


def us_per_message(tick: Callable[[], None]) -> float:
    """The best of several runs: others use this machine too."""
    best = float("inf")
    for _ in range(REPEATS):
        gc.collect()
        started = time.perf_counter()
        for _ in range(TICKS):
            tick()
        best = min(best, time.perf_counter() - started)
    return best / TICKS / PER_TICK * 1e6


def main() -> None:
    kind = "pure Python" if broker.routing.router.__file__.endswith(".py") else "compiled"
    print(f"{f'us per message of {len(PAYLOAD)} bytes, {PER_TICK} per tick, {kind}':<70}{'us':>8}")
    bench = Bench(0, None)
    report("QoS 0 to a direct subscriber", bench, bench.at_most_once)
    bench = Bench(0, None, topic_aliases=8)
    report("QoS 0 to a direct subscriber that takes Topic Aliases", bench, bench.at_most_once)
    bench = Bench(1, None)
    report("QoS 1 to a direct subscriber: batch, PUBACKs of both sides", bench, bench.at_least_once_direct)
    bench = Bench(1, QueueState(1, 0, 0, WINDOW, (), (), True))
    report("QoS 1 to a queued session: the same, enqueue and ack packed", bench, bench.at_least_once_queued)


def report(name: str, bench: Bench, tick: Callable[[], None]) -> None:
    print(f"{name:<70}{us_per_message(tick):8.2f}")
    bench.check()


if __name__ == "__main__":
    main()
