"""A persistent session against a model of its queue, with kills, cuts and take-overs at any point.

The machine is the world around a `QueuedOutbound`: publishers, the store (one exchange at a time, which may
be carried out more than once, or after its node was killed), the network (what is under way may get lost from
some point on) and the client. In the end everything is left to run, and must have come to rest with each
entry delivered: at least once at QoS 1, exactly once at QoS 2.
"""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.mqtt import MQTT_3_1_1, MQTT_5, Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from broker.session import Delivery, QueuedOutbound, packet_id_of
from tests.session.queue_model import Claim, ClientModel, QueueModel
from tests.session.wire import Link, entry

_SHORT = st.integers(0, 6)


@dataclass
class _Exchange:
    """What a node asks of the store in one go, and the answers once it has been carried out."""

    epoch: int
    acked: list[int]
    releasing: list[int]
    completed: list[int]
    page_after: int
    page_size: int
    raise_window: int
    is_released: bool = False
    page: tuple[int, int, list[int]] | None = None
    raised: tuple[int, bool] | None = None
    is_answered: bool = False


class _Connection:
    """A node's side of one connection, and the network in between."""

    def __init__(self, version: int, claim: Claim, window: int, now_ms: int) -> None:
        self.claim = claim
        self.link = Link(version)
        self.link.clock.now_ms = now_ms
        self.outbound: QueuedOutbound = self.link.queued(
            window,
            n=claim.n,
            sent=claim.sent,
            hi=claim.hi,
            released=claim.released,
            has_queue=claim.n > 0,
        )
        self.outbound.resend_pubrels()
        self.handovers: list[Delivery] = []
        self.exchange: _Exchange | None = None
        self.to_client: list[Packet] = []
        self.to_server: list[Packet] = []
        self.holding: set[int] = set()  # entries that have a place in the window
        self.in_use = {packet_id_of(n) for n in claim.released}

    def receive(self, packet: Packet) -> None:
        """The server gets an answer of the client."""
        assert isinstance(packet, Puback | Pubrec | Pubcomp)
        packet_id = packet.packet_id
        if isinstance(packet, Pubrec):
            assert self.outbound.pubrec(packet_id, packet.reason_code)
            return
        if isinstance(packet, Puback):
            assert self.outbound.puback(packet_id)
        else:
            assert self.outbound.pubcomp(packet_id)
        self.in_use.discard(packet_id)
        self.holding = {n for n in self.holding if packet_id_of(n) != packet_id}


class QueueMachine(RuleBasedStateMachine):
    """The rules say what may happen next; checks are in the steps where something leaves or arrives."""

    connection: _Connection | None = None

    def __init__(self) -> None:
        super().__init__()
        self.zombies: list[_Exchange] = []  # of killed nodes: on their way to the store
        self.published: dict[int, tuple[int, int]] = {}
        self.sent: set[int] = set()
        self.now_ms = 1_000_000

    @initialize(is_old=st.booleans(), version=st.sampled_from([MQTT_3_1_1, MQTT_5]))
    def start(self, is_old: bool, version: int) -> None:
        """An old session is about to use identifiers again that slow exchanges of the client still hold."""
        self.version = version
        held = {2, 3} if is_old else set()
        self.store = QueueModel(65_533 if is_old else 0, set(held))
        self.client = ClientModel(held)
        self.connect(4)

    # The node and its store

    @precondition(lambda self: self.connection is None)
    @rule(window=st.integers(1, 9))
    def connect(self, window: int) -> None:
        self.client.reconnect()
        claim = self.store.claim(window)
        self.connection = _Connection(self.version, claim, window, self.now_ms)

    @rule(qos=st.sampled_from([1, 2]), lives_ms=st.sampled_from([0, 0, 500]), count=st.integers(1, 4))
    def publish(self, qos: int, lives_ms: int, count: int) -> None:
        for _ in range(count):
            deadline_ms = self.now_ms + lives_ms if lives_ms else 0
            n = self.store.enqueue(qos, deadline_ms)
            self.published[n] = (qos, deadline_ms)
            if self.connection is not None:
                self.connection.handovers.append(entry(n, qos, deadline_ms=deadline_ms))

    @precondition(lambda self: self.connection is not None)
    @rule(count=_SHORT)
    def hand_over(self, count: int) -> None:
        connection = self._connected()
        handovers, connection.handovers = connection.handovers[:count], connection.handovers[count:]
        for delivery in handovers:
            connection.outbound.take(delivery)

    @precondition(lambda self: self.connection is not None and self.connection.exchange is None)
    @rule()
    def collect(self) -> None:
        connection = self._connected()
        if connection.link.take_changed():
            outbound = connection.outbound
            exchange = self._last_writes(connection)
            exchange.page_after = outbound.next_n - 1
            exchange.page_size = outbound.wanted_page()
            if not exchange.page_size and outbound.wants_raise():
                exchange.raise_window = outbound.window
            connection.exchange = exchange

    @precondition(lambda self: self.connection is not None and self.connection.exchange is not None)
    @rule()
    def carry_out(self) -> None:
        """May happen again, when the answer got lost on its way to the node."""
        exchange = self._connected().exchange
        assert exchange is not None
        self._carry_out(exchange)

    @precondition(
        lambda self: (
            self.connection is not None
            and self.connection.exchange is not None
            and self.connection.exchange.is_answered
        )
    )
    @rule()
    def answer(self) -> None:
        connection = self._connected()
        exchange = connection.exchange
        assert exchange is not None
        connection.exchange = None
        outbound = connection.outbound
        if exchange.releasing:
            assert exchange.is_released
            outbound.stored_pubrecs(exchange.releasing)
        outbound.stored_pubcomps(exchange.completed)
        if exchange.page_size:
            assert exchange.page is not None
            hi, last, numbers = exchange.page
            entries = [entry(n, self.published[n][0], deadline_ms=self.published[n][1]) for n in numbers]
            outbound.take_page(hi, last, entries, exchange.page_size)
        if exchange.raise_window:
            assert exchange.raised is not None
            outbound.raised(*exchange.raised)

    @precondition(lambda self: self.zombies)
    @rule()
    def carry_out_late(self) -> None:
        self._carry_out(self.zombies.pop(0))

    # The network and the client

    @precondition(lambda self: self.connection is not None)
    @rule()
    def flush(self) -> None:
        connection = self._connected()
        for packet in connection.link.take():
            if isinstance(packet, Publish):
                self._check(connection, packet)
            else:
                assert isinstance(packet, Pubrel)
                assert packet.packet_id in connection.in_use
            connection.to_client.append(packet)

    @precondition(lambda self: self.connection is not None)
    @rule(count=_SHORT)
    def client_reads(self, count: int) -> None:
        connection = self._connected()
        arrived, connection.to_client = connection.to_client[:count], connection.to_client[count:]
        connection.to_server.extend([self.client.take(packet) for packet in arrived])

    @precondition(lambda self: self.connection is not None)
    @rule(count=_SHORT)
    def server_reads(self, count: int) -> None:
        connection = self._connected()
        arrived, connection.to_server = connection.to_server[:count], connection.to_server[count:]
        for packet in arrived:
            connection.receive(packet)

    @precondition(lambda self: self.connection is not None)
    @rule()
    def block(self) -> None:
        self._connected().link.outbox.blocked = True

    @precondition(lambda self: self.connection is not None and self.connection.link.outbox.blocked)
    @rule()
    def unblock(self) -> None:
        connection = self._connected()
        connection.link.outbox.unblock()
        connection.outbound.resume_sending()

    @rule()
    def time_passes(self) -> None:
        self.now_ms += 300
        if self.connection is not None:
            self.connection.link.clock.now_ms = self.now_ms

    # Several steps at once, so that a session gets far within one example

    @precondition(lambda self: self.connection is not None)
    @rule()
    def everything_is_acknowledged(self) -> None:
        self.flush()
        self.client_reads(1000)
        self.server_reads(1000)

    @precondition(lambda self: self.connection is not None)
    @rule()
    def store_keeps_up(self) -> None:
        connection = self._connected()
        if connection.exchange is None:
            self.collect()
        if connection.exchange is not None:
            self.carry_out()
            self.answer()

    @precondition(lambda self: self.connection is not None)
    @rule(qos=st.sampled_from([1, 2]), count=st.integers(1, 12))
    def publish_here(self, qos: int, count: int) -> None:
        self.hand_over(1000)
        self.publish(qos, 0, count)
        self.hand_over(1000)

    # Ends of a connection

    @precondition(lambda self: self.connection is not None)
    @rule(count=_SHORT)
    def cut(self, count: int) -> None:
        """The network fails; the node notices, writes what it knows and detaches."""
        connection = self._connected()
        self.client_reads(count)
        exchange = connection.exchange
        if exchange is not None:
            self._carry_out(exchange)
            self.answer()
        self._carry_out(self._last_writes(connection))
        self.store.detach(connection.claim.epoch, connection.outbound.last_sent)
        self.connection = None

    @precondition(lambda self: self.connection is not None)
    @rule(count=_SHORT, is_late=st.booleans())
    def kill(self, count: int, is_late: bool) -> None:
        """The node is gone, or slow and another one has taken the session: its memory counts no more. An
        exchange under way may reach the store long afterwards."""
        connection = self._connected()
        self.client_reads(count)
        if is_late:
            self.zombies.append(connection.exchange or self._last_writes(connection))
        self.connection = None

    # Checks

    @invariant()
    def the_quota_is_what_is_not_held(self) -> None:
        if self.connection is not None:
            outbound = self.connection.outbound
            assert 0 <= outbound.quota <= outbound.window
            assert not outbound.inflight.keys() & outbound.released.keys()

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self._run_to_rest()
        numbers = [n for n, _ in self.client.received]
        for n, (qos, deadline_ms) in self.published.items():
            count = numbers.count(n)
            if not count:
                assert 0 < deadline_ms <= self.now_ms, f"{n} is lost"
                assert n not in self.sent, f"{n} was dropped although it had been sent"
            assert count <= 1 or qos == 1, f"{n} came {count} times"
        for qos in (1, 2):
            firsts = list(dict.fromkeys(n for n, of in self.client.received if of == qos))
            assert firsts == sorted(firsts)

    def _run_to_rest(self) -> None:
        if self.connection is None:
            self.connect(3)
        connection = self._connected()
        self.unblock()
        for _ in range(len(self.published) * 8 + 20):
            self.hand_over(1000)
            self.store_keeps_up()
            self.everything_is_acknowledged()
        assert self.store.entries == {}
        assert self.store.released == set()
        assert self.client.remembered == {}
        assert connection.outbound.quota == connection.outbound.window
        assert not connection.link.changed.sessions

    def _check(self, connection: _Connection, packet: Publish) -> None:
        """A PUBLISH leaves the node."""
        n = int(packet.payload)
        assert packet.packet_id == packet_id_of(n)
        assert packet.packet_id not in connection.in_use, "an identifier in use was given again"
        assert n <= self.store.hi, "sent beyond hi: the next owner would not know"
        assert packet.dup == (n <= connection.claim.sent)
        assert packet.dup or n not in self.sent
        connection.in_use.add(packet.packet_id)
        connection.holding.add(n)
        assert len(connection.holding) <= connection.outbound.window
        self.sent.add(n)

    def _carry_out(self, exchange: _Exchange) -> None:
        store = self.store
        store.ack(exchange.acked)
        exchange.is_released = store.release(exchange.epoch, exchange.releasing)
        store.complete(exchange.epoch, exchange.completed)
        if exchange.page_size:
            exchange.page = store.page(exchange.epoch, exchange.page_after, exchange.page_size)
        if exchange.raise_window:
            exchange.raised = store.raise_hi(exchange.epoch, exchange.raise_window)
        exchange.is_answered = True

    def _last_writes(self, connection: _Connection) -> _Exchange:
        outbound = connection.outbound
        return _Exchange(
            connection.claim.epoch,
            outbound.take_acknowledged(),
            outbound.take_releasing(),
            outbound.take_completed(),
            0,
            0,
            0,
        )

    def _connected(self) -> _Connection:
        assert self.connection is not None
        return self.connection


@pytest.mark.timeout(90)
def test_every_entry_is_delivered_whatever_is_killed() -> None:
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(max_examples=200, stateful_step_count=60, deadline=None, derandomize=True),
    )
