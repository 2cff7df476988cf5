"""Both halves of a session and the rules of its connection, against a client, cut and killed at any point.

The machine is what a node does around `Connection` and `Session`: it routes what the client publishes (to one
subscriber, who takes a token once), stores, and delivers what others publish, by itself or as a member of a
shared subscription. Bytes go in whatever pieces. In the end everything is left to run, and must have come to
rest: at QoS 1 at least once, at QoS 2 exactly once, in order, each message of the group settled once.

The queue of a persistent session has a machine of its own (`test_queue_machine`); it has no gaps here.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.mqtt import (
    MQTT_3_1_1,
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
from broker.session import (
    IN_QUEUE,
    Delivery,
    QueueState,
    Receipt,
    Session,
    SharedDelivery,
    TokenSource,
)
from tests.session.client_model import REFUSED, ClientSide
from tests.session.queue_model import QueueModel
from tests.session.wire import Link, entry, message

_RECEIVE_MAXIMUM = 3  # of the server
_GROUP = "g/t"
_GROUP_WINDOW = 3
_SHORT = st.integers(0, 6)
_BYTES = st.one_of(st.integers(0, 30), st.just(1000))
_QOS = st.integers(0, 2)
_UNAVAILABLE = 0x97


@dataclass
class _Routed:
    """A PUBLISH of the client on its way to the subscriber."""

    packet_id: int
    qos: int
    payload: bytes
    token: bytes = b""


@dataclass
class _Exchange:
    """What was written and read in one go; the node doesn't know yet."""

    stored: list[_Routed]
    refused: list[_Routed]
    released: list[int]
    pubrecs: list[int]
    pubcomps: list[int]
    page_size: int
    page: tuple[int, int, list[int]] | None
    raised: tuple[int, bool] | None


class _Store:
    """The queue, and the inbound QoS 2 exchanges: Packet Identifier -> token, whether it was routed."""

    def __init__(self) -> None:
        self.queue = QueueModel(0, set())
        self.qos: dict[int, int] = {}
        self.receiving: dict[int, tuple[bytes, bool]] = {}

    def enqueue(self, qos: int) -> int:
        n = self.queue.enqueue(qos, 0)
        self.qos[n] = qos
        return n


class _Connected:
    """The server's side of one connection, and the network in between."""

    def __init__(self, version: int, window: int, store: _Store | None) -> None:
        self.version = version
        self.window = window
        self.store = store
        self.epoch = 0
        self.link = Link(version)
        queue = self._claim() if store is not None else None
        self.session: Session = self.link.session(
            queue, receive_maximum=_RECEIVE_MAXIMUM, limit_bytes=100_000, window=window
        )
        self.routing: list[_Routed] = []
        self.exchange: _Exchange | None = None
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

    def write(self, is_full: bool = False) -> None:
        """Carries out what the session wants, in the order of `SessionWrites`; the answer is on its way. A
        store that is full takes no messages: a client of MQTT 5 is told so, others wait."""
        queued, store, inbound = self.session.queued, self.store, self.session.inbound
        self.link.take_changed()
        if queued is None or store is None:
            return
        pubrecs, pubcomps = queued.take_releasing(), queued.take_completed()
        store.queue.ack(queued.take_acknowledged())
        store.queue.release(self.epoch, pubrecs)
        store.queue.complete(self.epoch, pubcomps)
        page_size = queued.wanted_page()
        page = store.queue.page(self.epoch, queued.next_n - 1, page_size) if page_size else None
        wants_raise = not page_size and queued.wants_raise()
        raised = store.queue.raise_hi(self.epoch, queued.window) if wants_raise else None
        for packet_id in inbound.routed:
            if packet_id in store.receiving:
                store.receiving[packet_id] = (store.receiving[packet_id][0], True)
        released = inbound.releasing[:]
        for packet_id in released:
            store.receiving.pop(packet_id, None)
        inbound.routed.clear()
        inbound.releasing.clear()
        inbound.spent.clear()
        stored = [] if is_full else self._store_received(store)
        refused = self._take_received() if is_full and self.version == MQTT_5 else []
        self.exchange = _Exchange(stored, refused, released, pubrecs, pubcomps, page_size, page, raised)

    def _take_received(self) -> list[_Routed]:
        inbound = self.session.inbound
        pairs = zip(inbound.storing, inbound.storing_messages, strict=True)
        found = [_Routed(packet_id, 2, waiting.payload, waiting.token) for packet_id, waiting in pairs]
        inbound.storing.clear()
        inbound.storing_messages.clear()
        return found

    def _store_received(self, store: _Store) -> list[_Routed]:
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
            self.session.published(each.packet_id, 2, _UNAVAILABLE, len(each.payload))


def _settles(packet: Packet) -> bool:
    """Whether the client may send another PUBLISH instead [MQTT 5: 4.9]."""
    if isinstance(packet, Pubrec):
        return packet.reason_code >= REFUSED
    return isinstance(packet, Puback) or (isinstance(packet, Pubcomp) and not packet.reason_code)


@dataclass
class _Group:
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


class SessionMachine(RuleBasedStateMachine):
    """The rules say what may happen next; checks are in the steps where something leaves or arrives."""

    is_persistent = False
    connected: _Connected | None = None

    @initialize(version=st.sampled_from([MQTT_3_1_1, MQTT_5]))
    def start(self, version: int) -> None:
        self.version = version
        self.store = _Store() if self.is_persistent else None
        self.client = ClientSide(version, self._send, lambda payload: payload in self.taken)
        self.group = _Group()
        self.tokens = TokenSource(b"12345678")
        self.published: list[tuple[bytes, int]] = []  # by the client
        self.lost: set[bytes] = set()  # of those, what a client with a new session does not care for
        self.taken: set[bytes] = set()  # delivered or refused
        self.refused: set[bytes] = set()
        self.delivered: list[tuple[bytes, int]] = []
        self.delivered_tokens: set[bytes] = set()
        self.sent: list[tuple[bytes, int]] = []  # to the client, beside the group
        self.connect(2)

    # The client

    @precondition(lambda self: self.connected is None)
    @rule(window=st.integers(1, 4))
    def connect(self, window: int) -> None:
        self.connected = _Connected(self.version, window, self.store)
        if self.store is None:
            self.lost.update(sending.publish.payload for sending in self.client.open.values())
        self.client.connect(self.store is not None)
        self._after()

    @precondition(lambda self: self.connected is not None)
    @rule(qos=_QOS, count=st.integers(1, 4))
    def client_publishes(self, qos: int, count: int) -> None:
        for _ in range(count):
            if qos and len(self.client.open) >= _RECEIVE_MAXIMUM:
                break
            payload = b"c%d" % len(self.published)
            self.published.append((payload, qos))
            self.client.publish(payload, qos)

    @precondition(lambda self: self.connected is not None and self.version != MQTT_5 and self.client.open)
    @rule(place=_SHORT)
    def client_repeats(self, place: int) -> None:
        """As clients before MQTT 5 may at any time."""
        sendings = list(self.client.open.values())
        sending = sendings[place % len(sendings)]
        if sending.publish.qos == 2:
            self._send(sending.packet())

    @precondition(lambda self: self.connected is not None)
    @rule(count=_SHORT)
    def client_reads(self, count: int) -> None:
        connected = self._connected()
        arrived, connected.to_client = connected.to_client[:count], connected.to_client[count:]
        for packet in arrived:
            self.client.take(packet)

    @precondition(lambda self: self.connected is not None and self.client.owed)
    @rule(place=_SHORT, is_refused=st.booleans())
    def client_answers(self, place: int, is_refused: bool) -> None:
        self.client.answer(place % len(self.client.owed), is_refused)

    @precondition(lambda self: self.connected is not None and self.version == MQTT_5)
    @rule()
    def client_exceeds_the_receive_maximum(self) -> None:
        """The only rule that the client breaks: its connection ends there [MQTT-3.3.4-8]."""
        connected = self._connected()
        self.server_reads(100_000)
        if self.connected is not connected or connected.unsettled < _RECEIVE_MAXIMUM:
            return
        assert not connected.session.intake.open(1)
        self._end(True)

    # The node

    @precondition(lambda self: self.connected is not None)
    @rule(size=_BYTES)
    def server_reads(self, size: int) -> None:
        connected = self._connected()
        intake = connected.session.intake
        if intake.is_held and not connected.link.resumable:
            return
        connected.link.resumable.clear()
        chunk = bytes(connected.to_server[:size])
        del connected.to_server[:size]
        packets: list[Packet] = []
        connected.connection.receive(chunk, packets)
        for packet in packets:
            self._receive(connected, packet)
        intake.is_held = intake.must_hold()
        self._after()

    @precondition(lambda self: self.connected is not None and self.connected.routing)
    @rule(count=st.integers(1, 3), is_refused=st.booleans())
    def route(self, count: int, is_refused: bool) -> None:
        connected = self._connected()
        for _ in range(min(count, len(connected.routing))):
            each = connected.routing.pop(0)
            reason_code = 0
            if is_refused and not each.token and self.version == MQTT_5:
                reason_code = _UNAVAILABLE
                self._refuse(each)
            else:
                self._deliver(each)
                if each.token:
                    connected.session.inbound.remember(each.packet_id, each.token, [1])
            connected.session.published(each.packet_id, each.qos, reason_code, len(each.payload))
        self._after()

    @precondition(lambda self: self.connected is not None and self.store is not None)
    @rule(is_answered=st.booleans(), is_full=st.booleans())
    def exchange(self, is_answered: bool, is_full: bool) -> None:
        """With the store; one at a time."""
        connected = self._connected()
        if connected.exchange is None:
            connected.write(is_full)
            for each in connected.exchange.refused if connected.exchange is not None else ():
                self._refuse(each)
        if is_answered:
            connected.answer()
        self._after()

    @precondition(lambda self: self.connected is not None)
    @rule(qos=_QOS, count=st.integers(1, 4))
    def others_publish(self, qos: int, count: int) -> None:
        outbound = self._connected().session.outbound
        for _ in range(count):
            queued, direct = self._connected().session.queued, self._connected().session.direct
            if qos == 0:
                payload = b"z%d" % len(self.sent)
                assert outbound.deliver_at_most_once(message(payload, qos=0), False)
            elif queued is not None and self.store is not None:
                n = self.store.enqueue(qos)
                payload = b"%d" % n
                queued.take(entry(n, qos))
            else:
                assert direct is not None
                if len(direct.backlog) == direct.backlog_limit:
                    break
                payload = b"d%d" % len(self.sent)
                direct.deliver(message(payload, qos=qos), qos, False)
            self.sent.append((payload, qos))
        self._after()

    @rule(qos=_QOS, count=st.integers(1, 4))
    def others_publish_to_the_group(self, qos: int, count: int) -> None:
        for _ in range(count):
            self.group.add(qos)
        if self.connected is not None:
            self._after()

    @precondition(lambda self: self.connected is not None)
    @rule()
    def many_messages_later(self) -> None:
        """A round of all Packet Identifiers later, something old is still under way."""
        session = self._connected().session
        if session.direct is not None:
            session.direct.n += 65_533
        elif session.outbound.shared is not None:
            session.outbound.shared.number -= 65_533

    # Several steps at once, so that a session gets far within one example; and ends

    @precondition(lambda self: self.connected is not None)
    @rule()
    def everything_is_acknowledged(self) -> None:
        self.server_reads(100_000)
        if self._connected().routing:
            self.route(100, False)
        self.exchange(True, False)
        self.client_reads(1000)
        while self.client.owed:
            self.client_answers(0, False)

    @precondition(lambda self: self.connected is not None)
    @rule(qos=st.sampled_from([1, 2]), is_refused=st.booleans(), is_routed=st.booleans())
    def messages_get_halfway(self, qos: int, is_refused: bool, is_routed: bool) -> None:
        """They are refused, stored, or even routed, and what is next is left to the other rules."""
        self.client_publishes(qos, 2)
        self.server_reads(1000)
        self.exchange(True, is_refused)
        if is_routed and self._connected().routing:
            self.route(100, is_refused)
            self.client_reads(3)

    @precondition(lambda self: self.connected is not None)
    @rule(size=_BYTES, count=_SHORT, is_routed=st.booleans(), is_kill=st.booleans())
    def cut(self, size: int, count: int, is_routed: bool, is_kill: bool) -> None:
        """The network fails, or the node is killed: perhaps between routing and telling."""
        connected = self._connected()
        self.client_reads(count)
        self.server_reads(size)
        if is_routed or not is_kill:
            for each in connected.routing:
                self._deliver(each)
                if not is_kill:
                    connected.session.published(each.packet_id, each.qos, 0, len(each.payload))
        self._end(is_kill)

    # Checks

    def teardown(self) -> None:
        if not hasattr(self, "sent"):
            return
        if self.connected is None:
            self.connect(3)
        for _ in range(40 + 4 * (len(self.published) + len(self.sent) + len(self.group.count))):
            self.everything_is_acknowledged()
        self._check_rest(self._connected())
        self._check_published()
        self._check_sent()

    def _check_rest(self, connected: _Connected) -> None:
        session = connected.session
        assert session.outbound.quota == connected.window
        assert not session.outbound.inflight
        assert not session.outbound.released
        assert session.intake.unanswered == session.intake.bytes == 0
        assert not self.client.open
        assert not self.client.remembered
        group = self.group
        assert (group.waiting, group.pending, group.in_queue) == ([], {}, 0)
        if self.store is not None:
            assert not self.store.receiving
            assert not self.store.queue.entries
            assert not self.store.queue.released

    def _check_published(self) -> None:
        """What the client has published: at least, or exactly, once; in order."""
        for payload, qos in self.published:
            count = self.delivered.count((payload, qos))
            if qos and payload not in self.lost and payload not in self.refused:
                assert count, f"{payload!r} is lost"
            assert qos == 1 or count <= 1, f"{payload!r} came {count} times"
        _check_order(self.delivered, b"c")

    def _check_sent(self) -> None:
        """What the client was sent."""
        received = self.client.received
        for payload, qos in self.sent:
            count = received.count((payload, qos))
            if self.store is not None and qos:
                assert count, f"{payload!r} is lost"
            assert count <= 1 or (qos == 1 and self.store is not None), f"{payload!r} came {count} times"
        for id, qos in self.group.count.items():
            count = received.count((id.encode(), qos))
            if qos == 1:
                assert count
            elif qos == 2:
                assert count == 1 or (count == 0 and (id in self.group.dead or self.store is not None))
        for prefix in (b"d", b"z", b""):
            _check_order(received, prefix)

    # Steps

    def _connected(self) -> _Connected:
        assert self.connected is not None
        return self.connected

    def _send(self, packet: Packet) -> None:
        self._connected().to_server.extend(encode(packet, self.version))

    def _receive(self, connected: _Connected, packet: Packet) -> None:
        """As `broker.routing.Ingress` does it."""
        session = connected.session
        if isinstance(packet, Publish):
            self._receive_publish(connected, packet)
        elif isinstance(packet, Puback):
            assert session.outbound.puback(packet.packet_id)
            connected.end_of(packet.packet_id)
        elif isinstance(packet, Pubrec):
            assert session.outbound.pubrec(packet.packet_id, packet.reason_code)
            if packet.reason_code >= REFUSED:
                connected.end_of(packet.packet_id)
        elif isinstance(packet, Pubrel):
            session.pubrel(packet.packet_id)
        else:
            assert isinstance(packet, Pubcomp)
            assert session.outbound.pubcomp(packet.packet_id)
            connected.end_of(packet.packet_id)
        self._after()

    def _receive_publish(self, connected: _Connected, packet: Publish) -> None:
        session, inbound = connected.session, connected.session.inbound
        each = _Routed(packet.packet_id, packet.qos, packet.payload)
        if packet.qos == 0:
            self._deliver(each)
            return
        receipt = inbound.begin(packet.packet_id) if packet.qos == 2 else Receipt.NEW
        if receipt is Receipt.ROUTED:
            session.published_again(packet.packet_id)
        if receipt in (Receipt.ROUTED, Receipt.PENDING):
            return
        connected.unsettled += 1
        assert session.intake.open(len(packet.payload)), "refused although it is within the Receive Maximum"
        if packet.qos == 1 or self.store is None:
            connected.routing.append(each)
        elif receipt is Receipt.UNROUTED:
            each.token = inbound.take_token(packet.packet_id)
            connected.routing.append(each)
        else:
            stored = message(packet.payload, qos=2)
            stored.token = self.tokens.next()
            inbound.store(packet.packet_id, stored)

    def _refuse(self, each: _Routed) -> None:
        self.refused.add(each.payload)
        self.taken.add(each.payload)

    def _deliver(self, each: _Routed) -> None:
        self.taken.add(each.payload)
        if not each.token or each.token not in self.delivered_tokens:
            self.delivered_tokens.add(each.token)
            self.delivered.append((each.payload, each.qos))

    def _after(self) -> None:
        """What happens at the end of each step: the group is told and gives, and packets leave."""
        connected = self._connected()
        self._settle(connected)
        group = self.group
        while group.waiting and len(group.pending) + group.in_queue < _GROUP_WINDOW:
            id, qos = group.waiting.pop(0)
            self._give(connected, id, qos)
            self._settle(connected)
        connected.flush()

    def _give(self, connected: _Connected, id: str, qos: int) -> None:
        queued = connected.session.queued
        if qos == 2 and queued is not None and self.store is not None:
            n = self.store.enqueue(2)
            self.sent.append((b"%d" % n, 2))
            self.group.in_queue += 1
            queued.queued_shared(_GROUP, n)
            queued.take(entry(n, 2))
            return
        self.group.pending[id] = qos
        delivery = Delivery(message(id.encode(), qos=qos), qos, False)
        connected.session.outbound.deliver_shared(SharedDelivery(_GROUP, id, delivery))

    def _settle(self, connected: _Connected) -> None:
        """A message is settled once, when and as soon as the client has ended its exchange."""
        group = self.group
        work = connected.session.outbound.shared
        for name, id in work.take_settled() if work is not None else ():
            assert name == _GROUP
            if id == IN_QUEUE:
                group.in_queue -= 1
                assert group.in_queue >= 0
            else:
                qos = group.pending.pop(id)
                assert qos == 0 or id.encode() in connected.finished, "settled before its end"
        assert not {id.encode() for id in group.pending} & connected.finished

    def _end(self, is_kill: bool) -> None:
        """The connection is gone. A node that lives writes what it knows; an answer of the store is lost."""
        connected = self._connected()
        if not is_kill:
            connected.write()
            if self.store is not None:
                self.store.queue.detach(connected.epoch, connected.session.outbound.last_sent)
        self.group.member_left(self.store is None)
        self.connected = None


def _check_order(received: list[tuple[bytes, int]], prefix: bytes) -> None:
    for wanted in range(3):
        numbers = [
            int(payload[len(prefix) :])
            for payload, qos in received
            if qos == wanted and payload[: len(prefix)] == prefix and payload[len(prefix) :].isdigit()
        ]
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts)


class PersistentSessionMachine(SessionMachine):
    """The same with a queue, and QoS 2 states that outlive the connection."""

    is_persistent = True


@pytest.mark.timeout(90)
@pytest.mark.parametrize("machine", [SessionMachine, PersistentSessionMachine])
def test_a_session_keeps_its_promises_whatever_is_cut(machine: type[SessionMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=100, stateful_step_count=50, deadline=None, derandomize=True),
    )
