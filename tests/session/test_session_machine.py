"""Both halves of a session and the rules of its connection, against a client, cut and killed at any point.

The machine is what a node does around `Connection` and `Session`: it routes what the client publishes (to one
subscriber, who takes a token once), stores, and delivers what others publish, by itself or as a member of a
shared subscription. Bytes go in whatever pieces. In the end everything is left to run, and must have come to
rest: at QoS 1 at least once, at QoS 2 exactly once, in order, each message of the group settled once.

The queue of a persistent session has a machine of its own (`test_queue_machine`); it has no gaps here.
"""

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
    Receipt,
    SharedDelivery,
    TokenSource,
)
from tests.session.client_model import REFUSED, ClientSide
from tests.session.server_model import RECEIVE_MAXIMUM, UNAVAILABLE, Connected, Group, Routed, Store
from tests.session.wire import entry, message

_GROUP = "g/t"
_GROUP_WINDOW = 3
_SHORT = st.integers(0, 6)
_BYTES = st.one_of(st.integers(0, 30), st.just(1000))
_QOS = st.integers(0, 2)


class SessionMachine(RuleBasedStateMachine):
    """The rules say what may happen next; checks are in the steps where something leaves or arrives."""

    is_persistent = False
    connected: Connected | None = None

    @initialize(version=st.sampled_from([MQTT_3_1_1, MQTT_5]))
    def start(self, version: int) -> None:
        self.version = version
        self.store = Store() if self.is_persistent else None
        self.client = ClientSide(version, self._send, lambda payload: payload in self.taken)
        self.group = Group()
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
        self.connected = Connected(self.version, window, self.store)
        if self.store is None:
            self.lost.update(sending.publish.payload for sending in self.client.open.values())
        self.client.connect(self.store is not None)
        self._after()

    @precondition(lambda self: self.connected is not None)
    @rule(qos=_QOS, count=st.integers(1, 4))
    def client_publishes(self, qos: int, count: int) -> None:
        for _ in range(count):
            if qos and len(self.client.open) >= RECEIVE_MAXIMUM:
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

    @precondition(lambda self: self.connected is not None and self.client.open)
    @rule()
    def client_hurries(self) -> None:
        payload = self.client.hurry()
        if payload is not None:
            self.lost.add(payload)

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
        if self.connected is not connected or connected.unsettled < RECEIVE_MAXIMUM:
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
                reason_code = UNAVAILABLE
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
            for each in connected.write(is_full):
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
                if direct.waiting == direct.backlog_limit:
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

    def _check_rest(self, connected: Connected) -> None:
        session = connected.session
        assert session.outbound.quota == connected.window
        assert not session.outbound.inflight
        assert not session.outbound.released
        shared = session.outbound.shared
        assert shared is None or not (shared.waiting or shared.places)
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

    def _connected(self) -> Connected:
        assert self.connected is not None
        return self.connected

    def _send(self, packet: Packet) -> None:
        self._connected().to_server.extend(encode(packet, self.version))

    def _receive(self, connected: Connected, packet: Packet) -> None:
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

    def _receive_publish(self, connected: Connected, packet: Publish) -> None:
        session, inbound = connected.session, connected.session.inbound
        each = Routed(packet.packet_id, packet.qos, packet.payload)
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

    def _refuse(self, each: Routed) -> None:
        self.refused.add(each.payload)
        self.taken.add(each.payload)

    def _deliver(self, each: Routed) -> None:
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

    def _give(self, connected: Connected, id: str, qos: int) -> None:
        queued = connected.session.queued
        if qos == 2 and queued is not None and self.store is not None:
            n = self.store.enqueue(2)
            self.sent.append((b"%d" % n, 2))
            self.group.in_queue += 1
            queued.queued_shared(_GROUP, n, id)
            queued.take(entry(n, 2))
            return
        self.group.pending[id] = qos
        delivery = Delivery(message(id.encode(), qos=qos), qos, False)
        connected.session.outbound.deliver_shared(SharedDelivery(_GROUP, id, delivery))

    def _settle(self, connected: Connected) -> None:
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
                self.store.queue.detach(connected.epoch, connected.last_sent())
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
