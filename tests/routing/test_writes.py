"""What sessions ask of the store, and what its answers make them do; the answers are made by hand."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.mqtt import MQTT_3_1_1, MQTT_5, Capabilities, Properties, Pubcomp, Publish, Pubrec, Pubrel
from broker.routing.writes import entry_delivery
from broker.session import Delivery, Message, QueueState, Session, StoredSession
from cluster.store import queues, receive
from cluster.store.entry import pack_body, pack_head
from cluster.store.errors import ItemError, NodeGone, RedisFull
from cluster.store.keys import bucket_of
from cluster.store.lane import PartlyRefused
from tests.routing.room import Room, new_queue

EPOCH = 3
BUCKET = bucket_of("client")


def _entry(n: int, qos: int = 1) -> Delivery:
    return Delivery(Message("t", b"%d" % n, qos, False), qos, False, (), 1, n)


def _packed(n: int, qos: int = 1) -> list[object]:
    """An entry as a page has it."""
    body = pack_body("t", b"%d" % n, b"", 0)
    return [1, n, pack_head(qos, False, (4,)) + body]


def _requests(room: Room, function: str) -> list[object]:
    """The requests of one kind of call, of a cycle that is answered with nothing."""
    return [
        request for call in room.writes.next_calls() if call.function == function for request in call.requests
    ]


def _answer(room: Room, *replies: object) -> bool:
    """One cycle; its requests, in order, get these replies."""
    calls = room.writes.next_calls()
    left = list(replies)
    answers: list[Sequence[object]] = []
    for call in calls:
        answers.append(left[: len(call.requests)])
        left = left[len(call.requests) :]
    assert left == []
    return room.writes.take_replies(answers)


def _sent(session: Session, qos: int, count: int) -> None:
    assert session.queued is not None
    for n in range(session.queued.next_n, session.queued.next_n + count):
        session.queued.take(_entry(n, qos))


def test_nothing_to_ask() -> None:
    room = Room()
    room.connect("client", queue=new_queue())
    assert room.writes.next_calls() == []
    assert room.writes.take_replies([])


def test_acknowledgements_of_one_session_are_one_request() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue())
    _sent(session, 1, 2)
    session.outbound.puback(1)
    session.outbound.puback(2)
    (call,) = room.writes.next_calls()
    assert call.function == "free"
    assert call.requests == [queues.ack(BUCKET, "client", [1, 1, 1, 2])]
    assert room.writes.take_replies([[2]])
    assert room.writes.next_calls() == []


def test_a_session_is_asked_again_once_it_has_changed_again() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue())
    _sent(session, 1, 2)
    for packet_id in (1, 2):
        session.outbound.puback(packet_id)
        assert len(_requests(room, "free")) == 1


def test_pubrel_leaves_with_the_answer() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue(window=100))
    _sent(session, 2, 2)
    room.got("client")
    session.outbound.pubrec(1, 0)
    session.outbound.pubrec(2, 0)
    (call,) = room.writes.next_calls()
    assert call.requests == [queues.release(BUCKET, "client", EPOCH, [1, 1, 1, 2])]
    assert room.got("client") == []
    room.writes.take_replies([[1]])
    assert room.got("client") == [Pubrel(1), Pubrel(2)]
    session.outbound.pubcomp(2)
    assert _requests(room, "free") == [queues.complete(BUCKET, "client", EPOCH, [2])]


def test_an_identifier_is_free_when_pubcomp_is_stored() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue(window=100))
    assert session.queued is not None
    _sent(session, 2, 1)
    session.outbound.pubrec(1, 0)
    _answer(room, 1)
    session.outbound.pubcomp(1)
    calls = room.writes.next_calls()
    assert 1 in session.queued.released
    room.writes.take_replies([[1] for _ in calls])
    assert 1 not in session.queued.released


def test_hi_is_raised_even_if_redis_is_full() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue())
    assert session.queued is not None
    _sent(session, 1, 4)
    (call,) = room.writes.next_calls()
    assert call.function == "free"
    assert call.requests == [queues.raise_hi(BUCKET, "client", EPOCH, 8)]
    room.writes.take_replies([[[1, 12]]])
    assert session.queued.hi == 12
    assert not session.queued.behind


def test_a_raise_that_finds_more_is_followed_by_a_page() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue())
    _sent(session, 1, 4)
    _answer(room, [2, 8, 9])
    (call,) = room.writes.next_calls()
    assert call.function == "free"  # a queue that can't be read can't become shorter
    assert call.requests == [queues.page(BUCKET, "client", EPOCH, 4, 4)]


def test_a_page_is_sent() -> None:
    room = Room()
    session = room.connect("client", queue=QueueState(1, 2, 1, 8, (), (), False))
    assert session.queued is not None
    assert _requests(room, "free") == [queues.page(BUCKET, "client", EPOCH, 0, 8)]
    room.writes.take_replies([[[1, 10, 2, [*_packed(1), *_packed(2, 2)], False]]])
    first, second = room.got("client")
    assert isinstance(first, Publish)
    assert isinstance(second, Publish)
    assert (first.payload, first.qos, first.dup) == (b"1", 1, True)
    assert (second.payload, second.qos, second.dup) == (b"2", 2, False)
    assert second.properties is not None
    assert second.properties.subscription_identifier == (4,)
    assert session.queued.hi == 10
    assert not session.queued.behind


@pytest.mark.parametrize("is_retained", [False, True])
def test_a_queue_entry_as_a_delivery(is_retained: bool) -> None:
    packed = pack_head(2, True, (4, 5), is_retained) + pack_body("a/b", b"x", b"\x01\x01", 77)
    delivery = entry_delivery(9, 8, packed)
    message = delivery.message
    assert (delivery.gen, delivery.n, delivery.qos, delivery.retain) == (9, 8, 2, True)
    assert delivery.subscription_identifiers == (4, 5)
    assert (message.topic, message.payload, message.properties) == ("a/b", b"x", b"\x01\x01")
    assert (message.qos, message.retain, message.deadline_ms) == (2, is_retained, 77)


# QoS 2 from the client


def _publish(room: Room, session: Session, *packet_ids: int) -> None:
    packets = [Publish("t", b"payload", 2, False, False, packet_id) for packet_id in packet_ids]
    room.ingress.receive(session, packets, 0)


def test_the_whole_way_of_a_message() -> None:
    room = Room(receive_limit=40)
    session = room.connect("client", queue=new_queue())
    _publish(room, session, 5, 6)
    tokens = [message.token for message in session.inbound.storing_messages]
    (call,) = room.writes.next_calls()
    assert call.function == "write"
    pairs = [5, tokens[0], 6, tokens[1]]
    assert call.requests == [receive.receive(BUCKET, "client", EPOCH, pairs, 40)]
    assert not room.router.has_work()
    room.writes.take_replies([[[0, 0]]])
    room.run_batch()
    assert room.got("client") == [Pubrec(5, 0x10), Pubrec(6, 0x10)]
    assert _requests(room, "free") == [receive.routed(BUCKET, "client", EPOCH, [5, 6])]
    room.writes.take_replies([[1]])
    session.pubrel(5)
    assert _requests(room, "free") == [receive.release_received(BUCKET, "client", EPOCH, [5])]
    assert room.got("client") == []
    room.writes.take_replies([[[tokens[0]]]])
    assert room.got("client") == [Pubcomp(5)]
    assert session.intake.count == 1


def test_tokens_that_are_spent_are_forgotten_by_bucket() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue())
    for packet_id, buckets in ((1, [3, 9]), (2, [3])):
        session.inbound.begin(packet_id)
        session.inbound.settle(packet_id)
        session.inbound.remember(packet_id, b"token %d" % packet_id, buckets)
        session.pubrel(packet_id)
    _answer(room, [False, False])
    assert _requests(room, "free") == [
        receive.settle_tokens(3, [b"token 1", b"token 2"]),
        receive.settle_tokens(9, [b"token 1"]),
    ]
    room.writes.take_replies([[1, 1]])


@pytest.mark.parametrize("is_routed", [False, True])
def test_the_token_that_was_stored_first_counts(is_routed: bool) -> None:
    room = Room()
    session = room.connect("client", queue=new_queue())
    _publish(room, session, 5)
    _answer(room, [[b"first", is_routed]])
    (publication,) = room.router.incoming
    assert publication.message.token == b"first"
    assert publication.packet_id == 5


def test_too_many_exchanges_overrun() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue())
    _publish(room, session, 5, 6)
    _answer(room, [0, -1])
    assert room.writes.overrun == [session]
    assert len(room.router.incoming) == 1


# Stale owners, damage


@pytest.mark.parametrize("step", ["page", "raise", "receive", "routed", "pubrel", "pubrec", "pubcomp"])
def test_a_session_that_another_owner_has(step: str) -> None:
    room = Room()
    queue = QueueState(1, 0, 0, 8, (), (), False) if step == "page" else new_queue()
    session = room.connect("client", queue=queue)
    reply: object = 0
    if step == "page":
        reply = [0]
    elif step == "raise":
        _sent(session, 1, 4)
        reply = [0]
    elif step == "receive":
        _publish(room, session, 5)
    elif step == "routed":
        session.inbound.begin(5)
        session.inbound.settle(5)
    elif step == "pubrel":
        session.inbound.restore(5, b"token", True)
        session.pubrel(5)
    else:
        _sent(session, 2, 1)
        session.outbound.pubrec(1, 0)
        if step == "pubcomp":
            _answer(room, 1)
            session.outbound.pubcomp(1)
    room.got("client")
    _answer(room, reply)
    assert room.writes.stale == [session]
    assert room.got("client") == []
    assert not room.router.has_work()


def test_a_damaged_session_stalls_nobody() -> None:
    room = Room()
    broken = room.connect("broken", queue=QueueState(1, 0, 0, 8, (), (), False))
    odd = room.connect("odd", queue=QueueState(1, 0, 0, 8, (), (), False))
    none = room.connect("none", queue=QueueState(1, 0, 0, 8, (), (), False))
    raising = room.connect("raising", queue=new_queue())
    _sent(raising, 1, 4)
    good = room.connect("client", queue=QueueState(1, 1, 0, 8, (), (), False))
    _answer(room, ItemError("WRONGTYPE"), [1, 8, 0, [1], False], 7, 7, [1, 8, 1, _packed(1), False])
    assert [session for session, _ in room.writes.failed] == [broken, odd, none, raising]
    reasons = [reason.split(":")[0] for _, reason in room.writes.failed]
    assert reasons == ["WRONGTYPE", "IndexError", "TypeError", "TypeError"]
    assert good.queued is not None
    assert len(room.got("client")) == 1


RECORD = pack_head(1, False, ()) + pack_body("t", b"1", b"", 0)


@given(st.one_of(st.binary(max_size=20), st.tuples(st.integers(0, len(RECORD) - 1), st.integers(0, 255))))
@example(b"\x80")  # a map without anything
@example((4, 0x05))  # a topic which is a number
@example((2, 0x03))  # QoS 3
@example((2, 0x00))  # QoS 0
def test_a_damaged_entry_costs_one_connection_and_no_more(damage: bytes | tuple[int, int]) -> None:
    if isinstance(damage, bytes):
        packed = damage
    else:
        at, byte = damage
        packed = RECORD[:at] + bytes([byte]) + RECORD[at + 1 :]
    room = Room()
    session = room.connect("client", queue=QueueState(1, 1, 0, 8, (), (), False))
    _answer(room, [1, 8, 1, [1, 1, packed], False])
    assert session.queued is not None
    qos_in_flight = {state & 3 for state in session.queued.inflight.values()}
    assert qos_in_flight <= {1, 2}
    assert bool(qos_in_flight) + len(room.writes.failed) + room.drops.counts.get("expired", 0) == 1


@pytest.mark.parametrize("entry", [[1.5, 1, RECORD], [1, b"1", RECORD], [1, 1, False]])
def test_an_entry_of_another_shape_is_damage_too(entry: list[object]) -> None:
    room = Room()
    session = room.connect("client", queue=QueueState(1, 1, 0, 8, (), (), False))
    _answer(room, [1, 8, 1, entry, False])
    ((failed, reason),) = room.writes.failed
    assert failed is session
    assert reason.startswith("TypeError")


# Refused for their payload


def _bad(packet_id: int) -> Publish:
    return Publish("t", b"\xff", 2, False, False, packet_id, Properties(payload_format_indicator=1))


def _good(packet_id: int) -> Publish:
    return Publish("t", b"x", 2, False, False, packet_id)


def test_a_refused_message_is_answered_in_its_turn_and_not_stored() -> None:
    """[MQTT-4.6.0-3]"""
    room = Room(capabilities=Capabilities(checks_payload_format=True))
    session = room.connect("client", queue=new_queue())
    room.ingress.receive(session, [_bad(4), _good(5), _bad(6), _good(7)], 0)
    (call,) = room.writes.next_calls()
    (request,) = call.requests
    stored = [field for field in request if isinstance(field, list)]
    assert [pairs[::2] for pairs in stored] == [[5, 7]]
    room.writes.take_replies([[[0, 0]]])
    room.run_batch()
    assert room.got("client") == [Pubrec(4, 0x99), Pubrec(5, 0x10), Pubrec(6, 0x99), Pubrec(7, 0x10)]
    assert session.intake.count == 2


def test_nothing_but_refused_messages_asks_nothing() -> None:
    room = Room(capabilities=Capabilities(checks_payload_format=True))
    session = room.connect("client", queue=new_queue())
    room.ingress.receive(session, [_bad(4)], 0)
    assert room.writes.next_calls() == []
    room.run_batch()
    assert room.got("client") == [Pubrec(4, 0x99)]
    room.ingress.receive(session, [_good(4)], 0)
    assert session.inbound.storing == [4], "the identifier is free again"


def test_redis_is_full_and_another_message_is_refused() -> None:
    room = Room(capabilities=Capabilities(checks_payload_format=True))
    session = room.connect("client", queue=new_queue())
    room.ingress.receive(session, [_good(5), _bad(6)], 0)
    room.writes.next_calls()
    assert not room.writes.take_replies([RedisFull("OOM")])
    room.run_batch()
    assert room.got("client") == [Pubrec(5, 0x97), Pubrec(6, 0x99)]
    assert session.intake.count == 0


# Redis full


def test_of_several_primaries_a_full_one_refuses_its_part() -> None:
    room = Room()
    sessions = [room.connect(name, queue=new_queue(), version=MQTT_5) for name in ("one", "other")]
    for session in sessions:
        _publish(room, session, 5)
    room.writes.next_calls()
    assert not room.writes.take_replies([PartlyRefused([RedisFull("OOM"), [0]])])
    assert room.got("one") == [Pubrec(5, 0x97)]
    room.run_batch()
    assert room.got("other") == [Pubrec(5, 0x10)]


def test_mqtt_5_is_told_that_redis_is_full() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue(), version=MQTT_5)
    _publish(room, session, 5)
    room.writes.next_calls()
    assert not room.writes.take_replies([RedisFull("OOM")])
    assert room.got("client") == [Pubrec(5, 0x97)]
    assert session.intake.count == 0
    assert session.intake.bytes == 0
    _publish(room, session, 5)  # the identifier is free again
    assert session.inbound.storing == [5]


def test_an_older_client_is_held_until_there_is_room() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue(), version=MQTT_3_1_1)
    _publish(room, session, 5)
    room.writes.next_calls()
    _publish(room, session, 6)
    assert not room.writes.take_replies([RedisFull("OOM")])
    assert room.got("client") == []
    assert session.inbound.storing == [5, 6]  # still in order
    assert _answer(room, [0, 0])
    assert [publication.packet_id for publication in room.router.incoming] == [5, 6]


def test_what_frees_memory_is_done_although_redis_is_full() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue(), version=MQTT_3_1_1)
    _sent(session, 1, 1)
    session.outbound.puback(1)
    _publish(room, session, 5)
    assert [call.function for call in room.writes.next_calls()] == ["free", "write"]
    assert not room.writes.take_replies([[1], RedisFull("OOM")])
    assert [call.function for call in room.writes.next_calls()] == ["write"]


def test_another_failure_of_a_call_goes_up() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue())
    _publish(room, session, 5)
    room.writes.next_calls()
    with pytest.raises(NodeGone):
        room.writes.take_replies([NodeGone("node-1 is gone")])


# Shapes


def test_many_sessions_are_split_into_calls() -> None:
    room = Room()
    sessions = [
        room.connect(f"{number:06}", queue=QueueState(1, 0, 0, 8, (), (), False)) for number in range(130)
    ]
    calls = room.writes.next_calls()
    assert [len(call.requests) for call in calls] == [32, 32, 32, 32, 2]  # 256 entries of 8 each
    room.writes.take_replies([[[1, 8, 0, [], False] for _ in call.requests] for call in calls])
    assert all(session.queued is not None and not session.queued.behind for session in sessions)


def test_direct_sessions_ask_nothing() -> None:
    room = Room()
    session = room.connect("client")
    session.mark_changed()
    assert room.writes.next_calls() == []
    assert not session.is_listed


def test_what_is_no_session_asks_nothing() -> None:
    room = Room()
    stored = StoredSession("client", BUCKET, EPOCH, room.changed)
    stored.mark_changed()
    assert room.writes.next_calls() == []
    assert not stored.is_listed


def test_both_halves_of_a_session_in_one_cycle() -> None:
    room = Room()
    session = room.connect("client", queue=new_queue(window=100))
    _sent(session, 1, 1)
    room.got("client")
    _publish(room, session, 5)
    session.outbound.puback(1)
    assert _answer(room, 1, [0])
    room.run_batch()
    assert room.got("client") == [Pubrec(5, 0x10)]
