"""A node around one session: its connection, its store, the network, and a shared subscription.

What the server sends is checked where it leaves: Packet Identifiers, the window, what is settled.
"""

from dataclasses import dataclass, field

from broker.mqtt import (
    MQTT_5,
    Connect,
    Connection,
    ConnectionLimits,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    encode,
)
from broker.session import QueueState, Session
from tests.session.client_model import REFUSED
from tests.session.queue_model import QueueModel
from tests.session.wire import Link, entry

RECEIVE_MAXIMUM = 3  # of the server
UNAVAILABLE = 0x97


@dataclass
class Routed:
    """A PUBLISH of the client on its way to the subscriber."""

    packet_id: int
    qos: int
    payload: bytes
    token: bytes = b""


@dataclass
class Exchange:
    """What was written and read in one go; the node doesn't know yet."""

    stored: list[Routed]
    refused: list[Routed]
    released: list[int]
    pubrecs: list[int]
    pubcomps: list[int]
    page_size: int
    page: tuple[int, int, list[int]] | None
    raised: tuple[int, bool] | None


class Store:
    """The queue, and the inbound QoS 2 exchanges: Packet Identifier -> token, whether it was routed."""

    def __init__(self) -> None:
        self.queue = QueueModel(0, set())
        self.qos: dict[int, int] = {}
        self.receiving: dict[int, tuple[bytes, bool]] = {}

    def enqueue(self, qos: int) -> int:
        n = self.queue.enqueue(qos, 0)
        self.qos[n] = qos
        return n


class Connected:
    """The server's side of one connection, and the network in between."""

    def __init__(self, version: int, window: int, store: Store | None) -> None:
        self.version = version
        self.window = window
        self.store = store
        self.epoch = 0
        self.link = Link(version)
        queue = self._claim() if store is not None else None
        self.session: Session = self.link.session(
            queue, receive_maximum=RECEIVE_MAXIMUM, limit_bytes=100_000, window=window
        )
        self.routing: list[Routed] = []
        self.exchange: Exchange | None = None
        self.to_server = bytearray()
        self.to_client: list[Packet] = []
        self.unsettled = 0  # PUBLISH packets of the client, as it counts them
        self.holding: set[int] = set()  # Packet Identifiers with a place in the window
        self.in_use = dict.fromkeys(self.session.outbound.released, b"")
        self.finished: set[bytes] = set()
        self.connection = Connection(ConnectionLimits())
        packets: list[Packet] = []
        self.connection.receive(encode(Connect("client", version, store is None, 0), version), packets)
        self.connection.accepted(packets)
        assert len(packets) == 1
        if self.session.queued is not None:
            self.session.queued.resend_pubrels()

    def _claim(self) -> QueueState:
        assert self.store is not None
        claim = self.store.queue.claim(self.window)
        self.epoch = claim.epoch
        receiving = [(id, token, is_routed) for id, (token, is_routed) in self.store.receiving.items()]
        return QueueState(1, claim.n, claim.sent, claim.hi, claim.released, receiving, claim.n == 0)

    def flush(self) -> None:
        """What the server has to say is on its way; each packet must be one that it may send."""
        for packet in self.link.take():
            self.to_client.append(packet)
            if isinstance(packet, Publish):
                if packet.qos:
                    assert packet.packet_id not in self.in_use, "an identifier in use was given again"
                    self.in_use[packet.packet_id] = packet.payload
                    self.holding.add(packet.packet_id)
                    assert len(self.holding) <= self.window, "more than the Receive Maximum"
            elif isinstance(packet, Pubrel):
                assert packet.packet_id in self.in_use or packet.reason_code
            elif _settles(packet):
                self.unsettled = max(0, self.unsettled - 1)

    def end_of(self, packet_id: int) -> None:
        """The client's last packet of an exchange has come."""
        self.finished.add(self.in_use.pop(packet_id))
        self.holding.discard(packet_id)

    def last_sent(self) -> int:
        """Of the queue."""
        assert self.session.queued is not None
        return self.session.queued.last_sent

    def write(self, is_full: bool = False) -> list[Routed]:
        """Carries out what the session wants, in the order of `SessionWrites`; the answer is on its way. A
        store that is full takes no messages: a client of MQTT 5 is told so, others wait. What is refused."""
        queued, store, inbound = self.session.queued, self.store, self.session.inbound
        self.link.take_changed()
        if queued is None or store is None:
            return []
        pubrecs, pubcomps = queued.take_releasing(), queued.take_completed()
        store.queue.ack(queued.take_acknowledged())
        store.queue.release(self.epoch, pubrecs)
        store.queue.complete(self.epoch, pubcomps)
        page_size = queued.wanted_page()
        page = store.queue.page(self.epoch, queued.next_n - 1, page_size) if page_size else None
        wants_raise = not page_size and queued.wants_raise()
        raised = store.queue.raise_hi(self.epoch, queued.window) if wants_raise else None
        for packet_id in inbound.take_routed():
            if packet_id in store.receiving:
                store.receiving[packet_id] = (store.receiving[packet_id][0], True)
        released = inbound.releasing[:]
        for packet_id in released:
            store.receiving.pop(packet_id, None)
        inbound.releasing.clear()
        inbound.spent.clear()
        stored = [] if is_full else self._store_received(store)
        refused = self._take_received() if is_full and self.version == MQTT_5 else []
        self.exchange = Exchange(stored, refused, released, pubrecs, pubcomps, page_size, page, raised)
        return refused

    def _take_received(self) -> list[Routed]:
        inbound = self.session.inbound
        pairs = zip(inbound.storing, inbound.storing_messages, strict=True)
        found = [Routed(packet_id, 2, waiting.payload, waiting.token) for packet_id, waiting in pairs]
        inbound.storing.clear()
        inbound.storing_messages.clear()
        return found

    def _store_received(self, store: Store) -> list[Routed]:
        """The token that was stored first counts."""
        found = self._take_received()
        for each in found:
            each.token, _ = store.receiving.setdefault(each.packet_id, (each.token, False))
        return found

    def answer(self) -> None:
        """The node learns what has been done."""
        exchange, queued = self.exchange, self.session.queued
        self.exchange = None
        if exchange is None or queued is None or self.store is None:
            return
        queued.stored_pubrecs(exchange.pubrecs)
        queued.stored_pubcomps(exchange.pubcomps)
        if exchange.page is not None:
            hi, last, numbers = exchange.page
            entries = [entry(n, self.store.qos[n]) for n in numbers]
            queued.take_page(hi, last, entries, exchange.page_size)
        if exchange.raised is not None:
            queued.raised(*exchange.raised)
        for packet_id in exchange.released:
            self.session.released(packet_id)
        self.routing += exchange.stored
        for each in exchange.refused:
            self.session.published(each.packet_id, 2, UNAVAILABLE, len(each.payload))


def _settles(packet: Packet) -> bool:
    """Whether the client may send another PUBLISH instead [MQTT 5: 4.9]."""
    if isinstance(packet, Pubrec):
        return packet.reason_code >= REFUSED
    return isinstance(packet, Puback) or (isinstance(packet, Pubcomp) and not packet.reason_code)


@dataclass
class Group:
    """A shared subscription with one member. `dead`: given at QoS 2 to a session that has ended."""

    waiting: list[tuple[str, int]] = field(default_factory=list)
    pending: dict[str, int] = field(default_factory=dict)
    in_queue: int = 0
    count: dict[str, int] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)

    def add(self, qos: int) -> None:
        id = f"s{len(self.count)}"
        self.count[id] = qos
        self.waiting.append((id, qos))

    def member_left(self, has_ended: bool) -> None:
        back = []
        for id, qos in self.pending.items():
            assert qos, "QoS 0 is settled at once"
            if qos == 2 and has_ended:
                self.dead.add(id)
            else:
                back.append((id, qos))
        self.pending.clear()
        self.in_queue = 0
        self.waiting = back + self.waiting
