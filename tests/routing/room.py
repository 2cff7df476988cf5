"""A router and what a node has around it, without a store: replies are made by hand."""

from collections.abc import Sequence

from broker.mqtt import MQTT_5, Capabilities, Packet
from broker.routing.index import SubscriptionIndex
from broker.routing.ingress import Ingress
from broker.routing.packing import Overflow
from broker.routing.publication import Publication
from broker.routing.router import Router
from broker.routing.subscription import Subscriber
from broker.routing.writes import SessionWrites
from broker.session import (
    Changes,
    Clock,
    Drops,
    Intake,
    Message,
    Outbox,
    Promises,
    QueueState,
    SendingLimits,
    Session,
    TokenSource,
)
from cluster.store import records
from cluster.store.call import Call
from cluster.store.keys import bucket_of
from cluster.store.shares import Policy
from tests.session.wire import Silent, Wire

NODE = "node-1"
POLICY = Policy("balanced", 60_000)


class Room:
    """One node: clients are made with `connect`, what they get is in `wires`."""

    def __init__(
        self,
        *,
        queue_limit: int = 1000,
        drop_oldest: bool = True,
        receive_limit: int = 20,
        retained_maximum: int = 0,
        capabilities: Capabilities = Capabilities(),  # noqa: B008 - it is frozen
        on_overflow: Overflow | None = None,
    ) -> None:
        self.clock = Clock(1_000_000)
        self.index = SubscriptionIndex()
        self.index.version = "1.0"
        self.router = Router(
            self.index,
            self.clock,
            NODE,
            queue_limit,
            drop_oldest,
            POLICY,
            retained_maximum,
            on_overflow=on_overflow,
        )
        self.ingress = Ingress(self.router, self.clock, TokenSource(b"12345678"), capabilities)
        self.changed = Changes()
        self.writes = SessionWrites(self.changed, self.ingress, receive_limit, POLICY)
        self.drops = Drops()
        self.ready: list[Outbox] = []
        self.resumable: list[Intake] = []
        self.wires: dict[str, Wire] = {}
        self.stamp = 0

    def connect(
        self,
        client_id: str,
        *,
        queue: QueueState | None = None,
        version: int = MQTT_5,
        receive_maximum: int = 10,
        window: int = 8,
        limit_bytes: int = 1 << 20,
        topic_aliases: int = 0,
        promises: Promises | None = None,
    ) -> Session:
        """A session with a connection; persistent if there is a `queue`."""
        wire = Wire(version)
        self.wires[client_id] = wire
        return Session(
            client_id,
            bucket_of(client_id),
            3,
            version,
            self.drops,
            Outbox(self.ready, wire, 1 << 20),
            Intake(Silent(), version, receive_maximum, limit_bytes, self.resumable),
            self.clock,
            SendingLimits(window, 0, 100, True, topic_aliases),
            queue,
            60_000,
            self.changed,
            promises=promises,
        )

    def subscribe(
        self,
        subscriber: Session | str,
        filter: str,
        qos: int = 1,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifier: int = 0,
    ) -> Subscriber:
        """Of a session that is connected, or of a persistent one that is away."""
        client_id = subscriber if isinstance(subscriber, str) else subscriber.client_id
        if isinstance(subscriber, Session) and subscriber.direct is not None:
            known = Subscriber(client_id, subscriber.bucket, True)
        else:
            known = self.index.subscriber(client_id)
        if isinstance(subscriber, Session):
            known.session = subscriber
        self.stamp += 1
        options = records.pack_options(qos, no_local, retain_as_published, 0, identifier)
        self.index.add(known, filter, options, 0 if known.is_direct else self.stamp)
        return known

    def publish(
        self,
        publisher: Session | None,
        topic: str,
        payload: bytes,
        qos: int = 1,
        *,
        retain: bool = False,
        packet_id: int = 1,
        token: bytes = b"",
    ) -> Publication:
        name = publisher.client_id if publisher is not None else "will"
        message = Message(topic, payload, qos, retain, b"", 0, name, token)
        publication = Publication(message, publisher, packet_id, len(payload))
        if publisher is not None and qos:
            publisher.intake.open(len(payload))
        self.router.publish(publication)
        return publication

    def got(self, client_id: str) -> list[Packet]:
        """What has been sent to a client since the last time."""
        for outbox in self.ready:
            outbox.flush()
        self.ready.clear()
        return self.wires[client_id].take()

    def run_batch(self, *replies: Sequence[object] | Exception) -> list[Call]:
        """One round of the router's batch, as the committer does it; the calls that it made."""
        router = self.router
        calls = router.next_calls()
        assert len(calls) == len(replies), calls
        fenced = [reply if isinstance(reply, Exception) else [[], *reply] for reply in replies]
        router.take_replies(calls, fenced)
        if router.is_outdated(self.index.version):
            router.match_again()
        if router.is_settled():
            router.settle()
        return calls


def new_queue(n: int = 0, window: int = 8) -> QueueState:
    """A session whose queue is empty, and was never used if `n` is 0."""
    return QueueState(1, n, n, n + window, (), (), True)


def appended(n: int = 0, *, gen: int = 1, owner: bytes | bool = False) -> list[object]:
    """The reply to an enqueue of which everything was appended after number `n`."""
    return [gen, n, owner, False, 0]
