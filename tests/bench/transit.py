"""The way of a message between two nodes, without network and store; one operation is one message.

Each end for itself: from the decoded PUBLISH to what goes to Redis, and from what comes from Redis to the
bytes that leave, with the acknowledgement.
"""

from collections.abc import Callable
from typing import Final, cast

from broker.mqtt import MQTT_3_1_1, Packet, Puback, Publish
from broker.routing.subscription import READS_BURSTS
from broker.session import Session, flush_all
from cluster.store import inbox_records
from cluster.store.inbox_records import Bursts
from tests.bench.case import Case, Work
from tests.bench.routing import PAYLOAD, PER_TICK, TOPIC, WINDOW, Sink
from tests.routing.nodes import requests_of
from tests.routing.room import Room

FAR: Final = "node-2"


class Sender:
    """A node with a publisher, and another one that wants what it publishes."""

    def __init__(self, qos: int) -> None:
        self.room = Room(receive_limit=2 * WINDOW)
        self.publisher = _connect(self.room, "publisher")
        self.room.index.add_interest(FAR, READS_BURSTS)
        self.room.index.add_interest(FAR, f"{min(qos, 1)}:{TOPIC}")
        self.publishes: list[Packet] = [
            Publish(TOPIC, PAYLOAD, qos, False, False, packet_id if qos else 0)
            for packet_id in range(1, PER_TICK + 1)
        ]
        self.records: list[bytes] = []

    def at_most_once(self) -> None:
        self.room.ingress.receive(self.publisher, self.publishes, 0)
        self.records = [record for _, record in self.room.router.transit.take_messages()]

    def at_least_once(self) -> None:
        router = self.room.router
        self.room.ingress.receive(self.publisher, self.publishes, 0)
        calls = router.next_calls()
        self.records = [cast(bytes, request[2]) for request in requests_of(calls)]
        router.take_replies(calls, [[[], *[1] * len(self.records)]])
        assert router.is_settled()
        router.settle()
        flush_all(self.room.ready)


class Receiver:
    """A node with a subscriber to what a Sender publishes."""

    def __init__(self, qos: int) -> None:
        self.room = Room(receive_limit=2 * WINDOW)
        self.subscriber = _connect(self.room, "subscriber")
        self.room.subscribe(self.subscriber, TOPIC, qos)
        sender = Sender(qos)
        (sender.at_least_once if qos else sender.at_most_once)()
        (self.record,) = sender.records
        self.n = 0

    def at_most_once(self) -> None:
        record = inbox_records.unpack(self.record)
        assert isinstance(record, Bursts)
        self.room.router.nearby.deliver_bursts(record.bursts, False)
        flush_all(self.room.ready)

    def at_least_once(self) -> None:
        record = inbox_records.unpack(self.record)
        assert isinstance(record, Bursts)
        self.room.router.nearby.deliver_bursts(record.bursts, True)
        flush_all(self.room.ready)
        pubacks: list[Packet] = [Puback(n % 65535 + 1) for n in range(self.n, self.n + PER_TICK)]
        self.n += PER_TICK
        self.room.ingress.receive(self.subscriber, pubacks, 0)


def _connect(room: Room, client_id: str) -> Session:
    session = room.connect(client_id, version=MQTT_3_1_1, receive_maximum=WINDOW, window=WINDOW)
    session.outbox.sink = Sink()
    return session


def _work(end: Callable[[int], Sender | Receiver], qos: int) -> Callable[[], Work]:
    def make() -> Work:
        made = end(qos)
        return made.at_least_once if qos else made.at_most_once

    return make


CASES: Final = (
    Case("QoS 0 to another node", PER_TICK, _work(Sender, 0)),
    Case("QoS 0 from another node", PER_TICK, _work(Receiver, 0)),
    Case("QoS 1 to a direct subscriber of another node", PER_TICK, _work(Sender, 1)),
    Case("QoS 1 from another node, with PUBACK", PER_TICK, _work(Receiver, 1)),
)
