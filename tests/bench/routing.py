"""The way of a message through the node, without network and store; one operation is one message.

From the decoded PUBLISH to the bytes of all packets that leave, handed to a sink in one piece per connection
and tick; PER_TICK messages come in one chunk. The replies of the store are made by hand, as fast as can be.
"""

from collections.abc import Callable
from typing import Final

from broker.mqtt import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from broker.session import QueueState, Session, flush_all
from cluster.store.call import Call, Request
from tests.bench.case import Case, Work
from tests.routing.room import NODE, Room

PER_TICK: Final = 20
WINDOW: Final = 100
TOPIC: Final = "bench/topic/1"
PAYLOAD: Final = bytes(256)


class Sink:
    """Takes what a connection would write."""

    def write_all(self, data: bytes) -> None:
        self.size_bytes = len(data)


class Bench:
    """A node with one publisher and one subscriber to what it publishes; each a queued session, or direct."""

    def __init__(
        self, qos: int, *, publisher: bool = False, subscriber: bool = False, topic_aliases: int = 0
    ) -> None:
        self.room = Room(receive_limit=2 * WINDOW)
        self.publisher = self.connect("publisher", publisher)
        self.subscriber = self.connect("subscriber", subscriber, topic_aliases)
        self.room.subscribe(self.subscriber, TOPIC, qos)
        self.publishes: list[Packet] = [
            Publish(TOPIC, PAYLOAD, qos, False, False, packet_id if qos else 0)
            for packet_id in range(1, PER_TICK + 1)
        ]
        self.pubrels: list[Packet] = [Pubrel(packet_id) for packet_id in range(1, PER_TICK + 1)]
        self.n = 0

    def connect(self, client_id: str, is_queued: bool, topic_aliases: int = 0) -> Session:
        session = self.room.connect(
            client_id,
            queue=QueueState(1, 0, 0, WINDOW, (), (), True) if is_queued else None,
            receive_maximum=WINDOW,
            window=WINDOW,
            topic_aliases=topic_aliases,
        )
        session.outbox.sink = Sink()
        return session

    def at_most_once(self) -> None:
        """QoS 0: nothing waits for the store."""
        self.publish()

    def at_least_once(self) -> None:
        """QoS 1, and the subscriber acknowledges."""
        self.publish()
        self.route()
        self.acknowledge(Puback)
        self.write()

    def exactly_once(self) -> None:
        """QoS 2, the handshakes of both sides."""
        self.publish()
        self.write()
        self.route()
        self.write()
        self.room.ingress.receive(self.publisher, self.pubrels, 0)
        self.acknowledge(Pubrec)
        self.write()
        self.n -= PER_TICK  # the same packets once more
        self.acknowledge(Pubcomp)
        self.write()

    def publish(self) -> None:
        self.room.ingress.receive(self.publisher, self.publishes, 0)
        flush_all(self.room.ready)

    def route(self) -> None:
        """A cycle of the committer with a batch of messages in it."""
        router = self.room.router
        calls = router.next_calls()
        flush_all(self.room.ready)
        router.take_replies(calls, [self.answers(call) for call in calls])
        assert not router.is_outdated(self.room.index.version)
        assert router.is_settled()
        router.settle()
        flush_all(self.room.ready)

    def write(self) -> None:
        """A cycle of the committer with what sessions have to write."""
        writes = self.room.writes
        calls = writes.next_calls()
        writes.take_replies([self.answers(call) for call in calls])
        flush_all(self.room.ready)

    def answers(self, call: Call) -> list[object]:
        return [self.answer(request) for request in call.requests]

    def answer(self, request: Request) -> object:
        match request[0]:
            case "fence":
                return []
            case "enqueue":
                return [1, self.n, NODE.encode(), False, 0]
            case "raise_hi":
                return [1, self.n + WINDOW]
            case "receive":
                return [0] * PER_TICK
            case "release_received":
                return [b"token"] * PER_TICK
            case _:
                return 1

    def acknowledge(self, packet: Callable[[int], Packet]) -> None:
        """The subscriber answers all that this tick has sent to it."""
        answers = [packet(n % 65535 + 1) for n in range(self.n, self.n + PER_TICK)]
        self.n += PER_TICK
        self.room.ingress.receive(self.subscriber, answers, 0)

    def check(self) -> None:
        """Nothing was left over: every message was sent, acknowledged and settled."""
        outbound = self.subscriber.outbound
        assert outbound.quota == WINDOW
        assert not outbound.inflight
        assert not outbound.released
        assert not self.room.router.has_work()
        assert not self.room.drops.counts
        assert not self.room.writes.failed
        assert self.publisher.intake.count == 0
        assert self.subscriber.queued is None or not self.subscriber.queued.behind


def _at_most_once() -> Work:
    return Bench(0).at_most_once


def _at_most_once_aliased() -> Work:
    return Bench(0, topic_aliases=8).at_most_once


def _at_least_once_direct() -> Work:
    return Bench(1).at_least_once


def _at_least_once_queued() -> Work:
    return Bench(1, subscriber=True).at_least_once


def _exactly_once_queued() -> Work:
    return Bench(2, publisher=True, subscriber=True).exactly_once


CASES: Final = (
    Case("QoS 0 to a direct subscriber", PER_TICK, _at_most_once),
    Case("QoS 0 to one that takes Topic Aliases", PER_TICK, _at_most_once_aliased),
    Case("QoS 1 to a direct subscriber, with PUBACK", PER_TICK, _at_least_once_direct),
    Case("QoS 1 to a queued session, with its ack", PER_TICK, _at_least_once_queued),
    Case("QoS 2 between queued sessions, both handshakes", PER_TICK, _exactly_once_queued),
)
