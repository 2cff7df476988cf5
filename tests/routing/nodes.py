"""A room whose clients subscribe and are sent messages, and whose router is answered request by request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from broker.mqtt import MQTT_5, Packet, Publish
from broker.routing import Publication, Subscriber
from broker.routing.packing import Overflow
from broker.session import Message, QueueState, Session
from cluster.store import queues, records
from cluster.store.call import Call, Request
from cluster.store.entry import pack_head, unpack_entry
from tests.routing.room import NODE, Room
from tests.session.wire import Wire

HERE = NODE.encode()
QUEUE_LIMIT = 1000
TOKEN_TTL_MS = 60_000


def appended(n: int = 0, owner: bytes | bool = HERE, *, dropped: int = 0) -> list[object]:
    """What `enqueue` answers when all went into the queue, as n + 1, n + 2, ..."""
    return [1, n, owner, False, dropped]


def mixed(*statuses: int, n: int = 0, owner: bytes | bool = HERE) -> list[object]:
    """What `enqueue` answers with a status for each entry."""
    return [1, n, owner, list(statuses), 0]


def outdated(
    stamp: int, *subscriptions: tuple[str, bytes, int], n: int = 0, owner: bytes | bool = HERE
) -> list[object]:
    """What `enqueue` answers if the session has other subscriptions by now (filter, options, stamp)."""
    told = [item for filter, *rest in subscriptions for item in (filter.encode(), *rest)]
    return [1, n, owner, True, 0, stamp, told]


def options(qos: int, identifier: int = 0) -> bytes:
    """Of a subscription, packed."""
    return records.pack_options(qos, False, False, 0, identifier)


def filters_of(request: Request) -> list[object]:
    """The filters that the entries of an enqueue name, if they do."""
    return cast(list[object], request[5])[::5]


def heads_of(request: Request) -> list[object]:
    """The heads of its entries, without the bodies of those that are whole."""
    entries = cast(list[object], request[5])
    return [_head_of(entries[i], entries[i + 1]) for i in range(1, len(entries), 5)]


def _head_of(head: object, index: object) -> object:
    if index != queues.WHOLE or not isinstance(head, bytes):
        return head
    entry = unpack_entry(head)
    return pack_head(entry.qos, entry.retain, entry.subscription_identifiers, entry.was_retained)


@dataclass
class Peer:
    """A client connected to the node, with what it has been sent."""

    node: "Node"
    session: Session
    wire: Wire
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
        options = records.pack_options(qos, no_local, retain_as_published, 0, identifier)
        self.node.index.add(self.subscriber, filter, options, stamp)

    def take(self) -> list[Packet]:
        self.session.outbox.flush()
        return self.wire.take()

    def got(self) -> list[tuple[bytes, int]]:
        """Payload and QoS of each PUBLISH since the last time; there must be nothing else."""
        packets = self.take()
        assert all(isinstance(packet, Publish) for packet in packets), packets
        return [(packet.payload, packet.qos) for packet in packets if isinstance(packet, Publish)]


class Node:
    """A room with peers in it. `exchange` is one round trip of the router."""

    def __init__(
        self, *, drop_oldest: bool = True, retained_maximum: int = 0, on_overflow: Overflow | None = None
    ) -> None:
        self.room = Room(
            queue_limit=QUEUE_LIMIT,
            drop_oldest=drop_oldest,
            retained_maximum=retained_maximum,
            on_overflow=on_overflow,
        )
        self.index = self.room.index
        self.router = self.room.router

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
        session = self.room.connect(
            client_id, queue=queue, version=version, receive_maximum=receive_maximum, window=window
        )
        if queue is None:
            subscriber = Subscriber(client_id, session.bucket, True)
        else:
            subscriber = self.index.subscriber(client_id)
        subscriber.session = session
        return Peer(self, session, self.room.wires[client_id], subscriber)

    def away(self, client_id: str, filter: str, qos: int = 1, stamp: int = 1) -> Subscriber:
        """A persistent session that is not connected here subscribes."""
        subscriber = self.index.subscriber(client_id)
        self.index.add(subscriber, filter, records.pack_options(qos, False, False, 0, 0), stamp)
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


def requests_of(calls: Sequence[Call]) -> list[Request]:
    """Without the fence that each call begins with; records that are bodies of the call stand in their
    place."""
    return [_with_record(request, call) for call in calls for request in call.requests[1:]]


def _with_record(request: Request, call: Call) -> Request:
    if request[0] != "send" or not isinstance(request[2], list):
        return request
    (index,) = request[2]
    return [*request[:2], call.bodies[index]]


def fences_of(calls: Sequence[Call]) -> list[object]:
    """The publishers that the calls are fenced for."""
    assert all(call.requests[0][0] == "fence" for call in calls)
    return [call.requests[0][2] for call in calls]


def spread(
    calls: Sequence[Call], replies: Sequence[object], lost: Sequence[Sequence[int]] = ()
) -> list[list[object]]:
    """Replies, one per request, as they come back: call by call. `lost` are the answers of the fences, if
    they found something."""
    assert len(requests_of(calls)) == len(replies), requests_of(calls)
    left = iter(replies)
    found = iter(lost or [[] for _ in calls])
    return [[list(next(found)), *(next(left) for _ in call.requests[1:])] for call in calls]


def message(
    payload: bytes = b"payload",
    *,
    topic: str = "t",
    qos: int = 1,
    retain: bool = False,
    deadline_ms: int = 0,
    publisher: str = "publisher",
    token: bytes = b"",
    properties: bytes = b"",
) -> Message:
    ttl_ms = TOKEN_TTL_MS if token else 0
    return Message(topic, payload, qos, retain, properties, deadline_ms, publisher, token, ttl_ms)
