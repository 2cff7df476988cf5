"""A node without network and store: its sessions, its router, and replies of the store made by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.mqtt import MQTT_5, Packet, Publish
from broker.routing import Ingress, Publication, Router, SessionWrites, Subscriber, SubscriptionIndex
from broker.session import (
    Clock,
    Drops,
    Intake,
    Message,
    Outbox,
    QueueState,
    SendingLimits,
    Session,
    StoredSession,
    TokenSource,
)
from cluster.store import keys
from cluster.store.call import Call, Request
from tests.session.wire import Silent, Wire

INCARNATION = "node-1"
HERE = INCARNATION.encode()
QUEUE_LIMIT = 1000
TOKEN_PREFIX = b"12345678"
TOKEN_TTL_MS = 60_000


def new_queue(window: int = 8, *, receiving: Sequence[tuple[int, bytes, bool]] = ()) -> QueueState:
    """A persistent session that has just begun; its generation is 1."""
    return QueueState(1, 0, 0, window, (), receiving, True)


def appended(n: int = 0, owner: bytes | bool = HERE, *, gen: int = 1, dropped: int = 0) -> list[object]:
    """What `enqueue` answers when all went into the queue, as n + 1, n + 2, ..."""
    return [gen, n, owner, False, dropped]


def mixed(*statuses: int, n: int = 0, owner: bytes | bool = HERE) -> list[object]:
    """What `enqueue` answers with a status for each entry."""
    return [1, n, owner, list(statuses), 0]


@dataclass
class Peer:
    """A client connected to the node, with what it has been sent."""

    node: "Node"
    session: Session
    wire: Wire
    source: Silent
    subscriber: Subscriber

    def subscribe(
        self,
        filter: str,
        qos: int = 1,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifier: int = 0,
        stamp: int = 1,
    ) -> None:
        self.node.index.add(
            self.subscriber, filter, qos, no_local, retain_as_published, identifier, b"options", stamp
        )

    def sends(self, *packets: Packet) -> int:
        return self.node.ingress.receive(self.session, packets, 0)

    def take(self) -> list[Packet]:
        self.session.outbox.flush()
        return self.wire.take()

    def got(self) -> list[tuple[bytes, int]]:
        """Payload and QoS of each PUBLISH since the last time; there must be nothing else."""
        packets = self.take()
        assert all(isinstance(packet, Publish) for packet in packets), packets
        return [(packet.payload, packet.qos) for packet in packets if isinstance(packet, Publish)]


@dataclass
class Node:
    """`exchange` is one round trip of the router, `write` one of the sessions."""

    drop_oldest: bool = True
    receive_limit: int = 20
    clock: Clock = field(default_factory=lambda: Clock(1_000_000))
    index: SubscriptionIndex = field(default_factory=SubscriptionIndex)
    drops: Drops = field(default_factory=Drops)
    ready: list[Outbox] = field(default_factory=list)
    changed: list[StoredSession] = field(default_factory=list)
    resumable: list[Intake] = field(default_factory=list)
    router: Router = field(init=False)
    ingress: Ingress = field(init=False)
    writes: SessionWrites = field(init=False)

    def __post_init__(self) -> None:
        self.router = Router(self.index, self.clock, INCARNATION, QUEUE_LIMIT, self.drop_oldest)
        self.ingress = Ingress(self.router, self.clock, TokenSource(TOKEN_PREFIX))
        self.writes = SessionWrites(self.changed, self.ingress, self.receive_limit)

    def connect(
        self,
        client_id: str,
        *,
        queue: QueueState | None = None,
        version: int = MQTT_5,
        receive_maximum: int = 10,
        window: int = 8,
    ) -> Peer:
        """A direct session, or a persistent one if it has a queue."""
        wire = Wire(version)
        source = Silent()
        bucket = keys.bucket_of(client_id)
        session = Session(
            client_id,
            bucket,
            3,
            version,
            self.drops,
            Outbox(self.ready, wire, 1 << 20),
            Intake(source, version, receive_maximum, 1 << 20, self.resumable),
            self.clock,
            SendingLimits(window, 0, 100, True),
            queue,
            TOKEN_TTL_MS,
            self.changed,
        )
        if queue is None:
            subscriber = Subscriber(client_id, bucket, True)
        else:
            subscriber = self.index.subscriber(client_id, bucket)
        subscriber.session = session
        return Peer(self, session, wire, source, subscriber)

    def away(self, client_id: str, filter: str, qos: int = 1, stamp: int = 1) -> Subscriber:
        """A persistent session that is not connected here subscribes."""
        subscriber = self.index.subscriber(client_id, keys.bucket_of(client_id))
        self.index.add(subscriber, filter, qos, False, False, 0, b"options", stamp)
        return subscriber

    def publish(self, message: Message, publisher: Peer | None = None, packet_id: int = 1) -> None:
        """The router takes a message, past the checks of incoming packets."""
        session = publisher.session if publisher is not None else None
        self.router.publish(Publication(message, session, packet_id if message.qos else 0))

    def exchange(self, *replies: object) -> list[Request]:
        """The router's next calls are answered, request by request. Returns the requests."""
        calls = self.router.next_calls()
        assert self.router.take_replies(calls, spread(calls, replies))
        return requests_of(calls)

    def settle(self) -> None:
        """The batch under way is complete; the subscriptions have not changed in the cluster."""
        if self.router.is_outdated(self.index.version):
            self.router.match_again()
        assert self.router.is_settled()
        self.router.settle()

    def write(self, *replies: object) -> list[Request]:
        """The sessions' next calls are answered, request by request. Returns the requests."""
        calls = self.writes.next_calls()
        assert self.writes.take_replies(spread(calls, replies))
        return requests_of(calls)

    def answer(self, answer: Callable[[Request], object]) -> list[Request]:
        """Like `write`, with the reply computed from the request."""
        calls = self.writes.next_calls()
        assert self.writes.take_replies([[answer(request) for request in call.requests] for call in calls])
        return requests_of(calls)


def requests_of(calls: Sequence[Call]) -> list[Request]:
    return [request for call in calls for request in call.requests]


def spread(calls: Sequence[Call], replies: Sequence[object]) -> list[list[object]]:
    """Replies, one per request, as they come back: call by call."""
    assert sum(len(call.requests) for call in calls) == len(replies), requests_of(calls)
    left = iter(replies)
    return [[next(left) for _ in call.requests] for call in calls]


def message(
    payload: bytes = b"payload",
    *,
    topic: str = "t",
    qos: int = 1,
    retain: bool = False,
    deadline_ms: int = 0,
    publisher: str = "publisher",
    token: bytes = b"",
) -> Message:
    return Message(
        topic, payload, qos, retain, b"", deadline_ms, publisher, token, TOKEN_TTL_MS if token else 0
    )
