"""Messages between nodes: which way each takes, what arrives, and what is struck. Two rooms, no store."""

from collections.abc import Sequence
from typing import cast

import pytest

from broker.mqtt import MQTT_5
from broker.routing import Publication, arrival, take_handover
from broker.routing.bursts import BURST_FIELDS, Burst
from broker.routing.channel import messages_of
from broker.routing.fields import Arrival
from broker.routing.subscription import READS_BURSTS
from broker.session import STORED, Confirmations, Promises, Session, make_level
from cluster.store import inbox_records
from cluster.store.call import Request
from cluster.store.inbox_records import Bursts, Direct, Handover, Runs
from tests.routing.nodes import Node, Peer, appended, fences_of, message, requests_of, spread
from tests.routing.room import new_queue

THERE = "node-2"
NO_ROOM = -1
GONE = 0


def wanting(*fields: str) -> Node:
    """A node which knows that clients of another want something, and that it is of this release."""
    node = Node()
    for field in (READS_BURSTS, *fields):
        node.index.add_interest(THERE, field)
    return node


def records(requests: Sequence[Request]) -> list[list[Arrival]]:
    """What is sent to the inbox of the other node."""
    found = []
    for request in requests:
        assert request[:2] == ["send", THERE]
        record = inbox_records.unpack(cast(bytes, request[2]))
        assert isinstance(record, Bursts)
        found.append(arrivals(record.bursts))
    return found


def arrivals(bursts: Sequence[object]) -> list[Arrival]:
    found = []
    for place in range(0, len(bursts), BURST_FIELDS):
        burst = Burst(bursts, place)
        found += [Arrival(message, burst.for_everyone) for message in burst.messages(MQTT_5, 1)]
    return found


def on_channel(node: Node) -> list[tuple[bytes, int]]:
    """Payload and QoS of what is sent on the other node's channel."""
    found = []
    for name, packed in node.router.transit.take_messages():
        assert name == THERE
        record = inbox_records.unpack(packed)
        assert isinstance(record, Bursts)
        found += [(arrived.message.payload, arrived.message.qos) for arrived in arrivals(record.bursts)]
    return found


def payloads(record: Sequence[Arrival]) -> list[bytes]:
    return [arrived.message.payload for arrived in record]


# Which way


@pytest.mark.parametrize("kind", ["0", "1", "p"])
def test_qos_0_takes_the_channel_whatever_is_wanted(kind: str) -> None:
    node = wanting(f"{kind}:t")
    publisher = node.connect("publisher")
    node.router.nearby.publish_at_most_once(message(b"hello", qos=0), publisher.session)
    assert node.router.transit.waiting
    assert on_channel(node) == [(b"hello", 0)]
    assert not node.router.transit.waiting
    assert not node.router.has_work()


def test_a_node_that_wants_a_message_thrice_gets_it_once() -> None:
    node = wanting("0:t", "1:+", "p:#")
    publisher = node.connect("publisher")
    for payload in (b"one", b"two"):
        node.router.nearby.publish_at_most_once(message(payload, qos=0), publisher.session)
    assert on_channel(node) == [(b"one", 0), (b"two", 0)]


@pytest.mark.parametrize("qos", [1, 2])
def test_direct_subscribers_are_sent_it_before_it_is_acknowledged(qos: int) -> None:
    node = wanting("1:t")
    publisher = node.connect("publisher")
    if qos == 2:
        publisher.session.inbound.begin(1)
    node.publish(message(b"hello", qos=qos), publisher)
    calls = node.router.next_calls()
    (record,) = records(requests_of(calls))
    assert payloads(record) == [b"hello"]
    assert publisher.take() == []
    assert node.router.take_replies(calls, spread(calls, [1]))
    node.settle()
    assert len(publisher.take()) == 1
    assert on_channel(node) == []


def test_subscribers_at_qos_0_get_a_copy_on_the_channel() -> None:
    node = wanting("0:t")
    node.publish(message(b"hello", qos=1))  # a will must not get lost: it takes the inbox
    (record,) = records(node.exchange(1))
    assert record[0].for_everyone
    node.settle()
    node.publish(message(b"hello", qos=1), node.connect("publisher"))
    assert node.exchange() == []
    assert on_channel(node) == [(b"hello", 1)]


@pytest.mark.parametrize(("kind", "qos", "is_sent"), [("p", 1, False), ("p", 0, True), ("1", 0, True)])
def test_a_will_takes_the_inbox_unless_it_has_queues(kind: str, qos: int, is_sent: bool) -> None:
    node = wanting(f"{kind}:t")
    node.publish(message(b"will", qos=qos, token=b"token"))
    requests = node.exchange(*[1] * is_sent)
    assert [payloads(record) for record in records(requests)] == [[b"will"]] * is_sent
    assert on_channel(node) == []


def test_a_retained_message_at_qos_0_is_not_sent_again_when_the_index_follows() -> None:
    node = wanting("p:t")
    node.publish(message(b"hello", qos=0, retain=True), node.connect("publisher"))
    node.exchange(1)
    node.index.add_interest(THERE, "1:t")
    node.index.add_interest("node-3", "1:t")
    assert node.router.is_outdated(node.index.version)
    node.settle()
    sent = [name for name, _ in node.router.transit.take_messages()]
    assert sorted(sent) == [THERE, "node-3"]


def test_who_subscribes_meanwhile_is_served_before_the_acknowledgement() -> None:
    node = wanting("0:t")
    publisher = node.connect("publisher")
    node.publish(message(b"hello"), publisher)
    node.exchange()
    node.index.add_interest(THERE, "1:t")
    node.router.match_again()
    assert not node.router.is_settled()
    (record,) = records(node.exchange(1))
    assert payloads(record) == [b"hello"]
    node.settle()
    assert len(publisher.take()) == 1


# What the other node says


def test_a_full_inbox_holds_the_publishers_back_in_order() -> None:
    node = wanting("1:t")
    publisher = node.connect("publisher")
    node.publish(message(b"one"), publisher, 1)
    calls = node.router.next_calls()
    assert not node.router.take_replies(calls, spread(calls, [NO_ROOM]))
    assert node.router.answers.full_inbox == THERE
    assert not node.router.is_settled()
    node.publish(message(b"two"), publisher, 2)
    (record,) = records(node.exchange(1))
    assert payloads(record) == [b"one"]
    node.settle()
    (record,) = records(node.exchange(1))
    assert payloads(record) == [b"two"]


def test_a_node_that_is_gone_is_waited_for_by_nobody() -> None:
    node = wanting("1:t")
    publisher = node.connect("publisher")
    node.publish(message(b"one"), publisher)
    node.exchange(GONE)
    node.settle()
    assert len(publisher.take()) == 1


def test_a_node_of_an_older_release_is_sent_what_it_reads() -> None:
    node = Node()
    for field in ("0:t", "1:t"):
        node.index.add_interest(THERE, field)
    publisher = node.connect("publisher", queue=new_queue())
    node.publish(message(b"hello", qos=2, token=b"token"), publisher)
    node.publish(message(b"will"))
    ((_, name, packed),) = node.exchange(1)
    assert name == THERE
    record = inbox_records.unpack(cast(bytes, packed))
    assert isinstance(record, Direct)
    found = [arrival(fields) for fields in record.messages]
    assert payloads(found) == [b"hello", b"will"]
    assert [arrived.for_everyone for arrived in found] == [False, True]
    assert found[0].message.token == b"token"
    node.router.nearby.publish_at_most_once(message(b"plain", qos=0), publisher.session)
    ((_, on_its_channel),) = node.router.transit.take_messages()
    runs = inbox_records.unpack(on_its_channel)
    assert isinstance(runs, Runs)
    assert [each.payload for each in messages_of(runs.runs)[0]] == [b"hello", b"plain"]


def test_what_a_node_reads_is_forgotten_with_it() -> None:
    node = wanting("1:t")
    assert node.index.readers == {THERE}
    node.index.remove_node(THERE)
    assert node.index.readers == set()


def test_what_comes_for_nobody_is_left() -> None:
    node = Node()
    node.away("away", "t")
    arrive(node, qos=1)
    assert node.router.nearby.delivered == 0


def test_large_batches_are_several_records() -> None:
    node = wanting("1:t")
    publisher = node.connect("publisher")
    for number in range(10):
        node.publish(message(b"%d" % number * 100_000), publisher, number + 1)
    for number in range(600):
        node.publish(message(b"small"), publisher, number + 100)
    found = [len(record) for record in records(requests_of(node.router.next_calls()))]
    assert found == [3, 3, 3, 500, 101]


# What a lost client has published


def test_what_a_lost_client_published_is_struck() -> None:
    """From inboxes, queues and the retained message: the same requests, which do nothing."""
    node = wanting("1:#")
    node.away("away", "t")
    lost, other = node.connect("lost"), node.connect("other")
    node.publish(message(b"lost", retain=True), lost, 1)
    node.publish(message(b"kept"), other, 1)
    before = requests_of(node.router.next_calls())
    lost.session.is_lost = True
    calls = node.router.pack_again()
    after = requests_of(calls)
    assert [request[0] for request in after] == ["enqueue", "settle_tokens", "send"]
    assert [request[0] for request in before] == ["enqueue", "retain", "send"]
    entries = cast(list[object], after[0][5])
    assert [bool(head) for head in entries[1::5]] == [False, True]
    assert payloads(records(after[2:])[0]) == [b"kept"]
    assert node.router.take_replies(calls, spread(calls, [[1, 0, False, [2, 0], 0], 1, 1]))
    node.settle()


def test_what_waits_is_struck_before_it_is_sent() -> None:
    node = wanting("1:#")
    lost, other = node.connect("lost"), node.connect("other")
    node.publish(message(b"lost"), lost, 1)
    node.publish(message(b"kept"), other, 1)
    lost.session.is_lost = True
    node.router.strike_lost()
    assert payloads(records(requests_of(node.router.next_calls()))[0]) == [b"kept"]


@pytest.mark.parametrize("is_under_way", [False, True])
def test_direct_subscribers_get_nothing_late_of_a_lost_publisher(is_under_way: bool) -> None:
    """Its next node has sent on the same, and newer ones, when the batch begins in which it waits here."""
    node = Node()
    direct = node.connect("direct")
    direct.subscribe("#")
    lost, other = node.connect("lost", queue=new_queue()), node.connect("other")
    if is_under_way:
        node.publish(message(b"earlier"), other, 1)
        node.router.next_calls()
        assert direct.got() == [(b"earlier", 1)]
    node.publish(message(b"lost"), lost, 1)
    node.publish(message(b"kept"), other, 2)
    node.router.lose(lost.session)
    if is_under_way:
        node.router.settle()
    node.exchange()
    assert direct.got() == [(b"kept", 1)]


def test_a_call_does_nothing_if_a_publisher_is_lost() -> None:
    """Another connection has claimed it a moment ago: what the others published is sent again without it."""
    node = wanting("1:#")
    node.away("away", "t")
    kept = node.connect("kept", queue=new_queue())
    lost = node.connect("lost", queue=new_queue())
    direct = node.connect("direct")
    for peer, payload in ((kept, b"kept"), (lost, b"lost"), (direct, b"direct"), (lost, b"lost too")):
        node.publish(message(payload, retain=True), peer, 1)
    calls = node.router.next_calls()
    fenced = [(s.client_id, s.bucket, s.epoch) for s in (kept.session, lost.session)]
    assert fences_of(calls) == [[part for name, b, epoch in fenced for part in (b, name, epoch)]]
    assert node.router.take_replies(calls, spread(calls, [False] * 6, lost=[[1]]))
    assert node.router.lost == [lost.session]
    assert lost.session.is_lost
    assert not node.router.is_settled()
    calls = node.router.next_calls()
    assert fences_of(calls) == [[kept.session.bucket, "kept", kept.session.epoch]]
    requests = requests_of(calls)
    assert [request[0] for request in requests] == ["enqueue", *["retain", "settle_tokens"] * 2, "send"]
    assert payloads(records(requests[-1:])[0]) == [b"kept", b"direct"]
    assert node.router.take_replies(calls, spread(calls, [[1, 0, False, [0, 2, 0, 2], 0], 1, 1, 1, 1, 1]))
    node.settle()
    assert len(kept.take()) == len(direct.take()) == 1


def test_each_call_is_fenced_for_its_own_publishers() -> None:
    node = Node()
    for number in range(3):
        node.away(f"away-{number}", f"t{number}")
    one, two = node.connect("one", queue=new_queue()), node.connect("two", queue=new_queue())
    for number in range(150):
        node.publish(message(topic="t0"), one, number + 1)
        node.publish(message(topic="t1"), two, number + 1)
    calls = node.router.next_calls()
    assert [cast(list[object], fence)[1::3] for fence in fences_of(calls)] == [["one"], ["two"]]


# What arrives


def arrive(
    node: Node,
    *,
    qos: int,
    publisher: str = "far",
    token: bytes = b"",
    everyone: bool = False,
    inbox: bool = True,
) -> None:
    """A message comes from another node, by its record."""
    far = wanting("1:t")
    session = far.connect(publisher, queue=new_queue()).session
    sent = message(b"hello", qos=qos, publisher=publisher, token=token)
    if inbox:
        far.router.publish(Publication(sent, None if everyone else session, 1))
        (request,) = requests_of(far.router.next_calls())
        record = inbox_records.unpack(cast(bytes, request[2]))
        assert isinstance(record, Bursts)
        node.router.nearby.deliver_bursts(record.bursts, True)
    else:
        far.router.transit.publish(THERE, sent)
        ((_, packed),) = far.router.transit.take_messages()
        unpacked = inbox_records.unpack(packed)
        assert isinstance(unpacked, Bursts)
        node.router.nearby.deliver_bursts(unpacked.bursts, False)


def all_kinds() -> tuple[Node, dict[str, Peer]]:
    """Subscribers at every QoS, direct and queued."""
    node = Node()
    peers = {}
    for qos in (0, 1, 2):
        peers[f"direct-{qos}"] = node.connect(f"direct-{qos}")
        peers[f"queued-{qos}"] = node.connect(f"queued-{qos}", queue=new_queue())
        for kind in ("direct", "queued"):
            peers[f"{kind}-{qos}"].subscribe("t", qos)
    return node, peers


def who_got(peers: dict[str, Peer]) -> dict[str, int]:
    """Name and QoS; nobody twice."""
    got = {name: peer.got() for name, peer in peers.items()}
    assert all(len(packets) <= 1 for packets in got.values())
    return {name: packets[0][1] for name, packets in got.items() if packets}


def test_the_inbox_is_for_direct_subscribers() -> None:
    node, peers = all_kinds()
    arrive(node, qos=2)
    assert who_got(peers) == {"direct-1": 1, "direct-2": 2}


def test_a_will_from_the_inbox_is_for_all_who_have_no_queue() -> None:
    node, peers = all_kinds()
    arrive(node, qos=2, everyone=True)
    assert who_got(peers) == {"direct-0": 0, "queued-0": 0, "direct-1": 1, "direct-2": 2}


def test_the_channel_is_for_whoever_gets_it_at_qos_0() -> None:
    node, peers = all_kinds()
    arrive(node, qos=1, inbox=False)
    assert who_got(peers) == {"direct-0": 0, "queued-0": 0}
    arrive(node, qos=0, inbox=False)
    assert who_got(peers) == dict.fromkeys(peers, 0)


def test_a_message_that_comes_again_is_delivered_once() -> None:
    """From another node, as its publisher has moved there in the middle of the handshake."""
    node, peers = all_kinds()
    for _ in range(2):
        arrive(node, qos=2, token=b"token")
    assert who_got(peers) == {"direct-1": 1, "direct-2": 2}


def test_no_local_knows_the_publisher_of_another_node() -> None:
    node = Node()
    own = node.connect("own")
    own.subscribe("t", no_local=True)
    arrive(node, qos=1, publisher="own")
    assert own.got() == []
    arrive(node, qos=1)
    assert own.got() == [(b"hello", 1)]


# Hand-over


def handed_over(queued: bytes = THERE.encode(), count: int = 3) -> Handover:
    """The record with which another node hands over what it has put into the queue of "c"."""
    far = Node()
    far.away("c", "t", 2)
    for number in range(count):
        far.publish(message(b"%d" % number, qos=1 + number % 2), far.connect(f"p{number}"), 1)
    far.exchange(appended(0, queued))
    ((name, packed),) = far.router.transit.take_handovers()
    assert name == THERE
    record = inbox_records.unpack(packed)
    assert isinstance(record, Handover)
    return record


def test_entries_are_handed_over_to_the_owner() -> None:
    node = Node()
    client = node.connect("c", queue=new_queue())
    record = handed_over()
    for _ in range(2):  # a record that comes twice does nothing
        take_handover(node.index, record.bodies, record.sessions)
    assert client.got() == [(b"0", 1), (b"1", 2), (b"2", 1)]


@pytest.mark.parametrize(("level", "got"), [(STORED, 3), (make_level(1, False), 1)])
def test_what_has_to_be_confirmed_is_left_to_the_queue(level: int, got: int) -> None:
    node = Node()
    client = node.connect("c", queue=new_queue())
    queued = client.session.queued
    assert queued is not None
    queued.promises = Promises(Confirmations(lambda topic: STORED, level, lambda level: None), level)
    record = handed_over(count=1)  # at QoS 1
    take_handover(node.index, record.bodies, record.sessions)
    record = handed_over()
    take_handover(node.index, record.bodies, record.sessions)
    assert (len(client.got()), queued.behind) == (got, got == 1)


def test_a_hand_over_says_what_was_retained() -> None:
    far = Node()
    far.away("c", "#", 2)
    for topic in ("plain", "kept"):
        far.publish(message(topic=topic, retain=topic == "kept"))
    far.exchange(appended(0, THERE.encode()), 1)
    ((_, packed),) = far.router.transit.take_handovers()
    record = inbox_records.unpack(packed)
    assert isinstance(record, Handover)
    node = Node()
    client = node.connect("c", queue=new_queue())
    heard = client.session.outbound.listen()
    take_handover(node.index, record.bodies, record.sessions)
    assert (len(client.got()), heard) == (2, {"kept"})


def test_bodies_of_an_older_release_do_not_say_it() -> None:
    node = Node()
    client = node.connect("c", queue=new_queue())
    record = handed_over()
    bodies = [cast(list[object], body)[:4] for body in record.bodies]
    take_handover(node.index, bodies, record.sessions)
    assert len(client.got()) == 3


def test_a_gap_is_left_to_the_queue() -> None:
    node = Node()
    client = node.connect("c", queue=new_queue())
    record = handed_over()
    client_id, gen, entries = record.sessions[0]
    take_handover(node.index, record.bodies, [[client_id, gen, cast(list[object], entries)[5:]]])
    assert client.got() == []
    assert client.session.queued is not None
    assert client.session.queued.wanted_page() > 0


def test_entries_of_another_generation_are_left_to_the_queue() -> None:
    """The session has ended and begun again meanwhile: the numbers start anew."""
    node = Node()
    client = node.connect("c", queue=new_queue())
    record = handed_over()
    client_id, _, entries = record.sessions[0]
    take_handover(node.index, record.bodies, [[client_id, 99, entries]])
    assert client.got() == []


def test_nobody_is_handed_over_to_without_an_owner() -> None:
    far = Node()
    far.away("c", "t")
    far.publish(message())
    far.exchange([1, 0, False, False, 0])
    assert far.router.transit.take_handovers() == []


def test_what_is_handed_over_to_a_session_that_is_not_here_is_ignored() -> None:
    node = Node()
    record = handed_over()
    take_handover(node.index, record.bodies, record.sessions)
    node.away("c", "t")
    take_handover(node.index, record.bodies, record.sessions)
    direct: Session = node.connect("direct").session
    assert direct.queued is None


@pytest.mark.parametrize(
    ("bodies", "sessions"),
    [([], [[b"c", 1, [1, 1, False, [], 0]]]), ([[b"t"]], [[b"c", 1, [1, 1, False, [], 0]]]), ([], [7])],
)
def test_a_damaged_record_says_so(bodies: list[object], sessions: list[object]) -> None:
    node = Node()
    node.connect("c", queue=new_queue())
    with pytest.raises((TypeError, LookupError)):
        take_handover(node.index, bodies, sessions)


def test_a_damaged_message_says_so() -> None:
    for fields in (7, [], [b"t", b"", b"", 0, 1]):
        with pytest.raises((TypeError, LookupError)):
            arrival(fields)


def test_a_node_that_says_that_it_reads_bursts_gets_what_came_before_that_first() -> None:
    node = Node()
    node.index.add_interest(THERE, "0:t")
    node.router.transit.publish(THERE, message(b"before", qos=0))
    node.index.add_interest(THERE, READS_BURSTS)
    node.router.transit.publish(THERE, message(b"after", qos=0))
    kinds = [type(inbox_records.unpack(packed)) for _, packed in node.router.transit.take_messages()]
    assert kinds == [Runs, Bursts]
