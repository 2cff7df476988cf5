"""The router with the replies of the store made by hand."""

from typing import cast

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Puback, Publish, Pubrec
from broker.routing import Publication
from broker.routing.packing import RetainedRoom
from cluster.store import keys, queues, records, retained
from cluster.store.call import LARGE_BYTES, Call
from cluster.store.entry import pack_body, pack_entry, pack_head
from cluster.store.errors import CallFailed, ItemError, RedisFull
from cluster.store.lane import PartlyRefused
from tests.routing.nodes import (
    QUEUE_LIMIT,
    TOKEN_TTL_MS,
    Node,
    appended,
    filters_of,
    heads_of,
    message,
    mixed,
    options,
    outdated,
    requests_of,
    spread,
)
from tests.routing.room import new_queue

ELSEWHERE = b"node-2"
APPENDED = 0
REFUSED = 1
HAD_IT = 2
DROPPED_NEW = 3


# QoS 0


def test_at_most_once_is_delivered_at_once_at_each_subscribers_qos_0() -> None:
    node = Node()
    direct = node.connect("direct")
    queued = node.connect("queued", queue=new_queue())
    for peer in (direct, queued):
        peer.subscribe("t", 2)
    node.away("away", "t")
    node.router.nearby.publish_at_most_once(message(b"hello", qos=0), direct.session)
    assert direct.got() == [(b"hello", 0)]
    assert queued.got() == [(b"hello", 0)]
    assert node.router.nearby.delivered == 2
    assert not node.router.has_work()


def test_at_most_once_heeds_no_local() -> None:
    node = Node()
    own = node.connect("own")
    other = node.connect("other")
    for peer in (own, other):
        peer.subscribe("t", no_local=True)
    node.router.nearby.publish_at_most_once(message(b"hello", qos=0), own.session)
    assert own.got() == []  # [MQTT-3.8.3-3]
    assert other.got() == [(b"hello", 0)]
    own.subscribe("+", identifier=9)
    node.router.nearby.publish_at_most_once(message(b"again", qos=0), own.session)
    (packet,) = own.take()
    assert isinstance(packet, Publish)
    assert packet.properties is not None
    assert packet.properties.subscription_identifier == (9,)


def test_without_a_session_the_message_names_its_publisher() -> None:
    node = Node()
    own = node.connect("own")
    own.subscribe("t", no_local=True)
    for qos in (0, 1):
        node.publish(message(qos=qos, publisher="own"))
        node.exchange()
        node.settle()
    assert own.got() == []


@pytest.mark.parametrize("qos", [0, 1])
def test_retain_is_kept_for_who_asked_for_it(qos: int) -> None:
    node = Node()
    kept = node.connect("kept")
    cleared = node.connect("cleared")
    kept.subscribe("t", retain_as_published=True)  # [MQTT-3.3.1-13]
    cleared.subscribe("t")  # [MQTT-3.3.1-12]
    node.publish(message(qos=qos, retain=True))
    node.exchange(1)
    for peer, retain in ((kept, True), (cleared, False)):
        (packet,) = peer.take()
        assert isinstance(packet, Publish)
        assert packet.retain is retain


# Queues of persistent sessions


def test_an_entry_is_handed_to_the_session_that_is_owned_here() -> None:
    node = Node()
    publisher = node.connect("publisher")
    queued = node.connect("queued", queue=new_queue())
    queued.subscribe("t", 1)
    node.publish(message(b"hello"), publisher, 5)
    (request,) = node.exchange(appended(0))
    assert request[:5] == ["enqueue", queued.session.bucket, "queued", QUEUE_LIMIT, True]
    assert queued.got() == [(b"hello", 1)]
    assert publisher.take() == []  # not before everything is settled
    node.settle()
    assert publisher.take() == [Puback(5)]
    assert node.router.statistics.appended == 1
    assert not node.router.has_work()


@pytest.mark.parametrize("owner", [ELSEWHERE, False])
def test_an_entry_is_not_handed_to_a_session_that_another_node_owns(owner: bytes | bool) -> None:
    node = Node()
    queued = node.connect("queued", queue=new_queue())
    queued.subscribe("t", 1)
    node.publish(message())
    node.exchange(appended(0, owner))
    assert queued.got() == []
    assert node.router.statistics.appended == 1
    node.settle()


def entries_of(call: Call) -> list[object]:
    """Of the first queue in a call: five items each."""
    entries = call.requests[1][5]
    assert isinstance(entries, list)
    return entries


def test_an_entry_for_nobody_here_is_only_stored() -> None:
    node = Node()
    node.away("away", "t")
    node.publish(message())
    node.exchange(appended(0, False))
    node.settle()
    assert node.router.statistics.appended == 1


def test_large_messages_are_bodies_also_if_only_one_gets_them() -> None:
    node = Node()
    node.away("away", "a", 1, stamp=7)
    payload = bytes(LARGE_BYTES)
    node.publish(message(payload, topic="a"))
    node.publish(message(b"small", topic="a"))
    node.publish(message(payload, topic="a", retain=True))
    (call,) = node.router.next_calls()
    whole = [pack_entry(pack_head(1, False, (), was), "a", payload, b"", 0) for was in (False, True)]
    record = records.pack_retained(payload, 1, b"", 0)
    assert sorted(call.bodies) == sorted([*whole, record])
    (enqueue,) = [request for request in call.requests if request[0] == "enqueue"]
    small = pack_entry(pack_head(1, False, ()), "a", b"small", b"", 0)
    entries = cast(list[object], enqueue[5])
    assert entries[1::5] == [queues.NO_HEAD, small, queues.NO_HEAD]
    found = [call.bodies[cast(int, entries[2])], entries[7], call.bodies[cast(int, entries[12])]]
    assert found == [whole[0], queues.WHOLE, whole[1]]
    (retain,) = [request for request in call.requests if request[0] == "retain"]
    assert retain[3] == [call.bodies.index(record)]


def test_entries_are_packed_with_what_the_store_needs() -> None:
    node = Node(drop_oldest=False)
    queued = node.connect("queued", queue=new_queue())
    queued.subscribe("b", 2, stamp=4)
    queued.subscribe("a/+", 2, identifier=7, retain_as_published=True, stamp=3)
    node.publish(message(b"1", topic="a/1", deadline_ms=77))
    node.publish(message(b"2", topic="a/2", qos=2, token=b"token"))
    node.away("away", "a/2", 1, stamp=7)
    calls = node.router.next_calls()
    (call,) = calls
    assert call.function == "write"
    assert call.bodies == [pack_body("a/2", b"2", b"", 0)], "what only one gets is whole"
    one_qos_1 = pack_head(1, False, (7,)) + pack_body("a/1", b"1", b"", 77)
    two_qos_2 = pack_head(2, False, (7,))
    plain = pack_head(1, False, ())
    first = [False, one_qos_1, queues.WHOLE, False, 0, False, two_qos_2, 0, b"token", TOKEN_TTL_MS]
    bucket = node.index.subscribers["away"].bucket
    assert call.requests[1:] == [
        ["enqueue", queued.session.bucket, "queued", QUEUE_LIMIT, False, first, 4],
        ["enqueue", bucket, "away", QUEUE_LIMIT, False, [False, plain, 0, b"token", TOKEN_TTL_MS], 7],
    ]


@pytest.mark.parametrize(
    ("subscribed", "published", "effective"), [(2, 1, 1), (1, 2, 1), (2, 2, 2), (0, 2, 0), (0, 1, 0)]
)
def test_the_lower_qos_counts(subscribed: int, published: int, effective: int) -> None:
    node = Node()
    direct = node.connect("direct")
    queued = node.connect("queued", queue=new_queue())
    direct.subscribe("t", subscribed)
    queued.subscribe("t", subscribed)
    node.publish(message(qos=published))
    node.exchange(*([appended(0)] if effective else []))  # at QoS 0 nothing is stored
    assert direct.got() == [(b"payload", effective)]
    assert queued.got() == [(b"payload", effective)]


def test_messages_of_one_batch_go_to_one_session_in_order() -> None:
    node = Node()
    queued = node.connect("queued", queue=new_queue())
    queued.subscribe("#", 1)
    for i in range(5):
        node.publish(message(b"%d" % i))
    (request,) = node.exchange(appended(0))
    assert len(filters_of(request)) == 5
    assert queued.got() == [(b"%d" % i, 1) for i in range(5)]


def test_a_call_has_a_bounded_number_of_entries() -> None:
    node = Node()
    for client_id in ("one", "two"):
        node.away(client_id, "t")
    for _ in range(250):
        node.publish(message())
    calls = node.router.next_calls()
    sizes = [
        [len(filters_of(request)) for request in call.requests if request[0] == "enqueue"] for call in calls
    ]
    assert sizes == [[200], [200], [50, 50]]
    assert [len(call.bodies) for call in calls] == [200, 200, 50]
    assert node.router.take_replies(calls, spread(calls, [appended(0, False)] * 4))
    node.settle()
    assert node.router.statistics.appended == 500


def test_retained_writes_are_split_into_calls_too() -> None:
    node = Node()
    for i in range(201):
        node.publish(message(topic=f"t/{i}", retain=True))
    calls = node.router.next_calls()
    assert [len(call.requests) for call in calls] == [201, 2]  # with the fences
    assert node.router.take_replies(calls, spread(calls, [1] * 201))
    node.settle()


def test_a_batch_is_bounded_and_the_rest_follows_in_order() -> None:
    node = Node()
    publisher = node.connect("publisher", receive_maximum=65535)
    for i in range(5001):
        node.publish(message(), publisher, i + 1)
    node.exchange()
    node.settle()
    assert publisher.take() == [Puback(i + 1, 0x10) for i in range(5000)]
    assert node.router.has_work()
    node.exchange()
    node.settle()
    assert publisher.take() == [Puback(5001, 0x10)]
    assert node.router.statistics.batches == 2


def test_a_batch_has_a_bounded_size() -> None:
    node = Node()
    publisher = node.connect("publisher")
    for packet_id, size_bytes in ((1, 0), (2, 5 << 20), (3, 300 << 20), (4, 1)):
        assert publisher.session.intake.open(size_bytes)
        node.router.publish(Publication(message(), publisher.session, packet_id, size_bytes))
    for acknowledged in ((1, 2, 3), (4,)):
        node.exchange()
        node.settle()
        assert publisher.take() == [Puback(packet_id, 0x10) for packet_id in acknowledged]


def test_what_comes_while_a_batch_is_under_way_waits() -> None:
    node = Node()
    node.away("away", "t")
    node.publish(message(b"1"))
    first = node.router.next_calls()
    node.publish(message(b"2"))
    node.router.take_replies(first, spread(first, [appended(0, False)]))
    assert node.router.next_calls() == []  # nothing more to do for this batch, and it is not settled
    node.settle()
    (second,) = node.router.next_calls()
    assert entries_of(second)[1] == pack_head(1, False, ()) + pack_body("t", b"2", b"", 0)


# Statuses


def test_after_a_refusal_another_filter_of_the_session_is_tried() -> None:
    node = Node()
    queued = node.connect("queued", queue=new_queue())
    queued.subscribe("t", 2, identifier=1, stamp=4)
    queued.subscribe("+", 1, identifier=2, stamp=5)
    node.publish(message(b"hello", qos=2))
    node.exchange(outdated(6, ("t", options(2, 1), 4), ("+", options(1, 2), 5)))
    (first,) = node.exchange(mixed(REFUSED))
    assert filters_of(first) == ["t"]
    assert node.router.statistics.refused == 2
    assert not node.router.is_settled()
    (second,) = node.exchange(appended(0))
    assert filters_of(second) == ["+"]
    (packet,) = queued.take()
    assert isinstance(packet, Publish)
    assert packet.qos == 1
    assert packet.properties is not None
    assert packet.properties.subscription_identifier == (2,)
    assert [row.filter for row in node.router.answers.stale_rows] == ["t"]
    node.settle()


def test_one_stale_row_is_noted_once() -> None:
    node = Node()
    node.away("away", "t")
    for _ in range(3):
        node.publish(message())
    node.exchange(mixed(REFUSED, REFUSED, REFUSED, owner=False))
    assert len(node.router.answers.stale_rows) == 1
    assert node.router.statistics.refused == 3
    node.settle()


def test_a_row_that_is_newer_than_the_refused_one_stays() -> None:
    node = Node()
    node.away("away", "t", stamp=4)
    node.publish(message())
    calls = node.router.next_calls()
    node.away("away", "t", stamp=6)
    node.router.take_replies(calls, spread(calls, [mixed(REFUSED, owner=False)]))
    assert node.router.answers.stale_rows == []
    assert node.index.stamps_of("away") == {"t": 6}
    (request,) = node.exchange(appended(0, False))  # tried with the newer one
    assert filters_of(request) == ["t"]
    node.settle()


def test_whoever_came_before_a_refusal_is_served_all_the_same() -> None:
    node = Node()
    node.away("away", "t")
    late = node.connect("late")
    node.publish(message(b"hello"))
    calls = node.router.next_calls()
    late.subscribe("t")
    node.router.take_replies(calls, spread(calls, [mixed(REFUSED, owner=False)]))
    node.settle()
    assert late.got() == [(b"hello", 1)]


def test_statuses_number_the_entries_that_were_appended() -> None:
    node = Node()
    queued = node.connect("queued", queue=new_queue())
    queued.subscribe("t", 1)
    for i in range(4):
        node.publish(message(b"%d" % i))
    node.exchange(mixed(APPENDED, HAD_IT, DROPPED_NEW, APPENDED))
    assert queued.got() == [(b"0", 1), (b"3", 1)]  # a gap in the numbers would have held back the last
    statistics = node.router.statistics
    assert (statistics.appended, statistics.dropped_new, statistics.refused) == (2, 1, 0)
    node.settle()


def test_entries_that_had_to_go_are_counted() -> None:
    node = Node()
    node.away("away", "t")
    node.publish(message())
    node.exchange(appended(7, False, dropped=3))
    assert node.router.statistics.dropped_oldest == 3


def test_who_wants_to_know_is_told_what_had_to_go() -> None:
    told: list[tuple[object, ...]] = []
    node = Node(on_overflow=lambda *lost: told.append(lost))
    node.away("away", "t")
    node.publish(message(b"new", properties=b"\x09\x00\x01c"))
    (request,) = node.exchange([*mixed(DROPPED_NEW), []])
    assert request[6:] == [1, True, False]  # what it knows, that it tells, no limit in bytes
    assert told == [("away", "t", 1, b"\x09\x00\x01c", 1)]
    node.settle()
    told.clear()
    node.publish(message())
    node.exchange([*appended(7, False, dropped=3), [b"old", 5, b"\x09\x00\x01a", b"old", 2, b""]])
    assert told == [
        ("away", "old", 1, b"\x09\x00\x01a", 1),
        ("away", "old", 2, b"", 1),
        ("away", None, 0, b"", 1),
    ]
    assert (node.router.statistics.dropped_oldest, node.router.statistics.dropped_new) == (3, 1)


# Trouble


def test_redis_full_holds_back_what_was_refused() -> None:
    node = Node()
    publisher = node.connect("publisher")
    queued = node.connect("queued", queue=new_queue(window=400), window=400)
    queued.subscribe("t", 1)
    for i in range(201):
        node.publish(message(b"%d" % i), publisher, i + 1)
    first, second = calls = node.router.next_calls()
    assert not node.router.take_replies(calls, [[[], appended(0)], RedisFull("full")])
    assert len(queued.got()) == 200
    assert not node.router.is_settled()
    (again,) = calls = node.router.next_calls()
    assert again.requests == second.requests
    assert again.bodies == second.bodies
    assert first.requests != second.requests
    assert not node.router.take_replies(calls, [RedisFull("full")])
    assert publisher.take() == []
    node.exchange(appended(200))
    assert queued.got() == [(b"200", 1)]
    node.settle()
    assert publisher.take() == [Puback(i + 1) for i in range(201)]


def test_a_full_primary_of_several_holds_back_its_part() -> None:
    node = Node()
    publisher = node.connect("publisher")
    peers = [node.connect(name, queue=new_queue()) for name in ("one", "other")]
    for peer in peers:
        peer.subscribe("t", 1)
    node.publish(message(b"x"), publisher, 1)
    (call,) = calls = node.router.next_calls()
    assert not node.router.take_replies(calls, [PartlyRefused([[], RedisFull("full"), appended(0)])])
    assert sorted(len(peer.got()) for peer in peers) == [0, 1]
    (again,) = node.router.next_calls()
    assert again.requests[1][:3] == call.requests[1][:3]
    assert len(again.requests) == 2
    node.router.take_replies([again], [[[], appended(0)]])
    node.settle()
    assert publisher.take() == [Puback(1)]


def test_a_lost_publisher_holds_back_a_call_that_was_partly_refused() -> None:
    node = Node()
    publisher = node.connect("publisher", queue=new_queue())
    node.away("away", "t")
    node.publish(message(b"x"), publisher, 1)
    calls = node.router.next_calls()
    assert not node.router.take_replies(calls, [PartlyRefused([[0], RedisFull("full")])])
    assert node.router.lost == [publisher.session]


def test_what_is_held_keeps_its_order() -> None:
    node = Node()
    node.away("away", "t")
    for i in range(450):
        node.publish(message(b"%d" % i))
    calls = node.router.next_calls()
    assert not node.router.take_replies(calls, [RedisFull("full")] * 3)
    again = node.router.next_calls()
    assert [call.requests for call in again] == [call.requests for call in calls]
    assert [len(entries_of(call)) // 5 for call in again] == [200, 200, 50]


def test_redis_full_holds_back_retained_messages() -> None:
    node = Node()
    publisher = node.connect("publisher")
    node.publish(message(retain=True), publisher, 5)
    calls = node.router.next_calls()
    assert not node.router.take_replies(calls, [RedisFull("full")])
    assert not node.router.is_settled()
    (request,) = node.exchange(1)
    assert request[0] == "retain"
    node.settle()
    assert publisher.take() == [Puback(5, 0x10)]


def test_what_was_held_goes_before_what_is_added() -> None:
    node = Node()
    node.away("away", "t")
    node.publish(message())
    calls = node.router.next_calls()
    assert not node.router.take_replies(calls, [RedisFull("full")])
    node.away("late", "t")
    assert node.router.is_outdated(node.index.version)
    node.router.match_again()
    requests = node.exchange(appended(0, False), appended(0, False))
    assert [request[2] for request in requests] == ["away", "late"]
    node.settle()


def test_acknowledgements_leave_in_the_order_of_arrival() -> None:
    node = Node()
    publisher = node.connect("publisher")
    node.away("away", "slow")
    node.publish(message(topic="slow"), publisher, 3)
    node.publish(message(topic="fast", qos=2), publisher, 1)
    publisher.session.inbound.begin(1)
    node.publish(message(topic="fast"), publisher, 2)
    node.exchange(appended(0, False))
    node.settle()
    assert publisher.take() == [Puback(3), Pubrec(1, 0x10), Puback(2, 0x10)]


def test_damaged_keys_of_one_session_stall_nobody_else() -> None:
    node = Node()
    publisher = node.connect("publisher")
    queued = node.connect("queued", queue=new_queue())
    node.away("damaged", "t")
    queued.subscribe("t", 1)
    node.publish(message(retain=True), publisher, 5)
    node.exchange(ItemError("WRONGTYPE"), appended(0), ItemError("no hash"))
    assert node.router.answers.damaged == [("damaged", "WRONGTYPE"), ("t", "no hash")]
    assert queued.got() == [(b"payload", 1)]
    node.settle()
    assert publisher.take() == [Puback(5)]


@pytest.mark.parametrize(
    "reply", [0, None, [], [1, 0, False], [b"gen", b"n", False, False, 0], [1, 0, False, [], 0]]
)
def test_an_answer_of_another_shape_is_damage_too(reply: object) -> None:
    node = Node()
    node.away("damaged", "t")
    node.publish(message())
    node.exchange(reply)
    ((client_id, _),) = node.router.answers.damaged
    assert client_id == "damaged"
    node.settle()


def test_a_call_that_failed_is_raised() -> None:
    node = Node()
    node.away("away", "t")
    node.publish(message())
    calls = node.router.next_calls()
    with pytest.raises(CallFailed):
        node.router.take_replies(calls, [CallFailed("no such function")])


# Subscriptions that change meanwhile


def test_a_group_that_is_kept_only_now_gets_the_message() -> None:
    """The interest of another node is known before the row of the member that is connected there."""
    node = Node()
    node.index.add_interest("node-2", "p:$share/g/t")
    node.publish(message(b"hello"))
    assert node.exchange() == []
    node.away("member", "$share/g/t")
    assert node.router.is_outdated(node.index.version)
    node.router.match_again()
    (request,) = requests_of(node.router.next_calls())
    assert request[0] == "share"


def test_only_those_who_were_added_are_served_again() -> None:
    node = Node()
    direct = node.connect("direct")
    direct.subscribe("t")
    node.away("away", "t")
    node.publish(message(b"hello"))
    node.exchange(appended(0, False))
    assert not node.router.is_outdated(node.index.version)
    late = node.connect("late")
    late.subscribe("t")
    node.away("late and away", "t")
    direct.subscribe("+")  # had it by its other filter
    assert node.router.is_outdated(node.index.version)
    node.router.match_again()
    assert not node.router.is_outdated(node.index.version)
    assert not node.router.is_settled()
    (request,) = node.exchange(appended(0, False))
    assert request[2] == "late and away"
    assert late.got() == [(b"hello", 1)]
    assert direct.got() == [(b"hello", 1)]
    node.settle()


def test_the_version_of_the_cluster_says_that_others_have_changed_something() -> None:
    node = Node()
    node.index.version = "1.5"
    node.publish(message())
    node.exchange()
    assert not node.router.is_outdated("1.5")
    assert node.router.is_outdated("1.6")


def test_matching_again_without_a_change_for_this_topic_does_nothing() -> None:
    node = Node()
    node.away("away", "t")
    node.publish(message())
    node.exchange(appended(0, False))
    node.away("other", "other")
    node.router.match_again()
    assert node.router.is_settled()


def test_who_is_added_makes_it_a_match() -> None:
    node = Node()
    publisher = node.connect("publisher")
    node.publish(message(), publisher, 5)
    node.exchange()
    node.connect("late").subscribe("t")
    node.settle()
    assert publisher.take() == [Puback(5)]


# Retained messages


def test_a_retained_message_at_qos_0_is_delivered_at_once_and_stored() -> None:
    node = Node()
    publisher = node.connect("publisher")
    direct = node.connect("direct")
    direct.subscribe("t", 2)
    node.publish(message(b"hello", qos=0, retain=True, deadline_ms=77), publisher)
    assert direct.got() == [(b"hello", 0)]
    (request,) = node.exchange(1)
    record = records.pack_retained(b"hello", 0, b"", 77)
    assert request == ["retain", retained.bucket_of_topic("t"), "t", record, 77, False, 0, False]
    assert request[-1] is False  # any number: 0 would be none at all
    node.settle()
    assert direct.got() == []  # not twice
    assert publisher.take() == []


def test_who_subscribes_before_it_is_stored_gets_it_live() -> None:
    node = Node()
    node.publish(message(b"hello", qos=0, retain=True), node.connect("publisher"))
    late = node.connect("late")
    late.subscribe("t")
    node.exchange(1)
    assert node.router.is_outdated(node.index.version)
    node.settle()
    assert late.got() == [(b"hello", 0)]


def test_an_empty_payload_removes_the_retained_message() -> None:
    node = Node()
    node.publish(message(b"", retain=True))
    (request,) = node.exchange(1)
    assert request[3] is False  # [MQTT-3.3.1-6]


def test_what_the_store_had_already_is_read_from_the_queue() -> None:
    """The answer to the call that appended it got lost, so nobody was handed the message."""
    node = Node()
    subscriber = node.connect("c", queue=new_queue())
    subscriber.subscribe("t", 2)
    queued = subscriber.session.queued
    assert queued is not None
    node.publish(message(b"1", qos=2))
    node.exchange(mixed(HAD_IT, n=1))
    assert queued.wanted_page() > 0
    assert subscriber.got() == []


def test_a_retained_message_with_a_token_is_stored_once() -> None:
    node = Node()
    node.publish(message(qos=2, retain=True, token=b"token"))
    (request,) = node.exchange(0)
    assert request[5:] == [b"token", TOKEN_TTL_MS, False]
    node.settle()


@pytest.mark.parametrize("qos", [0, 1])
def test_a_replay_hears_which_retained_messages_came_live(qos: int) -> None:
    node = Node()
    direct = node.connect("direct")
    direct.subscribe("#")
    heard = direct.session.outbound.listen()
    node.publish(message(topic="kept", qos=qos, retain=True))
    node.publish(message(topic="plain", qos=1))
    node.exchange(1)
    assert heard == {"kept"}
    assert len(direct.got()) == 2


@pytest.mark.parametrize("qos", [0, 1])
def test_a_persistent_subscriber_hears_them_too(qos: int) -> None:
    node = Node()
    queued = node.connect("queued", queue=new_queue())
    queued.subscribe("#", qos)
    heard = queued.session.outbound.listen()
    node.publish(message(topic="kept", qos=1, retain=True))
    node.publish(message(topic="plain", qos=1))
    node.exchange(*[appended(0)] * qos, 1)
    assert heard == {"kept"}
    assert len(queued.got()) == 2


def test_an_entry_says_that_it_was_retained_whatever_its_receiver_is_told() -> None:
    node = Node()
    node.away("away", "t")
    node.publish(message(retain=True))
    enqueue, _ = node.exchange(appended(0, False), 1)
    assert heads_of(enqueue) == [pack_head(1, False, (), True)]


@pytest.mark.parametrize(("version", "code"), [(MQTT_5, 0x97), (MQTT_3_1_1, 0)])
def test_what_there_is_no_room_to_retain_is_delivered_all_the_same(version: int, code: int) -> None:
    node = Node(retained_maximum=2)
    publisher = node.connect("publisher", version=version)
    direct = node.connect("direct")
    direct.subscribe("#", 2)
    publisher.session.inbound.begin(2)
    for qos in range(3):
        node.publish(message(b"%d" % qos, topic=f"t/{qos}", qos=qos, retain=True), publisher, qos)
    requests = node.exchange(*[retained.NOT_RETAINED] * 3)
    assert [request[7] for request in requests] == [2, 2, 2]
    node.settle()
    assert direct.got() == [(b"0", 0), (b"1", 1), (b"2", 2)]
    assert publisher.take() == [Puback(1, code), Pubrec(2)]  # at QoS 2 an error could bring a second copy
    assert node.router.statistics.not_retained == 3


def test_what_nodes_say_of_themselves_always_finds_room() -> None:
    node = Node(retained_maximum=1)
    node.publish(message(topic="$SYS/brokers/a/uptime", retain=True))
    node.publish(message(topic="$other", retain=True))
    assert [request[7] for request in node.exchange(1, 1)] == [False, 1]


def test_a_bucket_may_hold_what_the_others_leave() -> None:
    room = RetainedRoom(10)
    assert room.of(1) == 10  # nobody has looked yet
    counts = [0] * keys.BUCKETS
    counts[1:4] = [3, 4, 6]
    room.look(counts)
    assert (room.of(0), room.of(1), room.of(3), room.total) == (0, 0, 3, 13)
    counts[1:4] = [3, 4, 0]
    room.look(counts)
    assert (room.of(0), room.of(1), room.of(2)) == (3, 6, 7)
    assert RetainedRoom(0).of(1) is None


# Tokens, acknowledgements, origins


def test_a_direct_publishers_token_is_spent_when_all_is_settled() -> None:
    node = Node()
    publisher = node.connect("publisher")
    node.connect("direct").subscribe("t", 2)
    away = node.away("away", "t", 2)
    publisher.session.inbound.begin(5)
    node.publish(message(qos=2, retain=True, token=b"token"), publisher, 5)
    node.exchange(appended(0, False), 1)
    assert node.router.spent == []
    node.settle()
    buckets = {away.bucket, retained.bucket_of_topic("t")}
    assert sorted(node.router.spent) == sorted((bucket, b"token") for bucket in buckets)
    assert publisher.take() == [Pubrec(5)]


def test_a_persistent_publishers_token_is_remembered_until_its_exchange_ends() -> None:
    node = Node()
    publisher = node.connect("publisher", queue=new_queue())
    away = node.away("away", "t", 2)
    inbound = publisher.session.inbound
    inbound.begin(5)
    node.publish(message(qos=2, token=b"token"), publisher, 5)
    node.exchange(appended(0, False))
    node.settle()
    assert node.router.spent == []
    assert inbound.spent == []
    inbound.release(5)
    inbound.released(5)
    assert inbound.spent == [(away.bucket, b"token")]


def test_a_token_that_nobody_was_told_needs_not_be_forgotten() -> None:
    node = Node()
    publisher = node.connect("publisher")
    publisher.session.inbound.begin(5)
    node.connect("direct").subscribe("t", 2)
    node.publish(message(qos=2, token=b"token"), publisher, 5)
    node.exchange()
    node.settle()
    assert node.router.spent == []


def test_an_acknowledgement_says_whether_anybody_matched() -> None:
    node = Node()
    publisher = node.connect("publisher")
    older = node.connect("older", version=MQTT_3_1_1)
    node.connect("direct").subscribe("heard")
    node.publish(message(topic="heard"), publisher, 1)
    node.publish(message(topic="unheard"), publisher, 2)
    node.publish(message(topic="unheard"), older, 3)
    node.exchange()
    node.settle()
    assert publisher.take() == [Puback(1), Puback(2, 0x10)]
    assert older.take() == [Puback(3)]


def test_no_local_is_heeded_on_the_way_to_a_queue() -> None:
    node = Node()
    own = node.connect("own", queue=new_queue())
    own.subscribe("t", 2, no_local=True, stamp=1)
    own.subscribe("+", 1, identifier=8, stamp=2)
    own.subscribe("alone", 2, no_local=True, stamp=3)
    node.publish(message(), own, 1)
    (request,) = node.exchange(appended(0))
    assert heads_of(request) == [pack_head(1, False, (8,))]
    node.settle()
    node.index.remove(own.subscriber, "+", 2)
    node.publish(message(topic="alone"), own, 2)
    assert node.exchange() == []


def test_a_direct_subscriber_that_has_gone_is_passed_over() -> None:
    node = Node()
    gone = node.connect("gone")
    gone.subscribe("t")
    gone.subscriber.session = None
    node.publish(message())
    node.exchange()
    publisher = node.connect("publisher")
    node.router.nearby.publish_at_most_once(message(qos=0), publisher.session)
    assert gone.got() == []
    assert node.router.nearby.delivered == 0


class Origin:
    """Waits for a will to be routed."""

    def __init__(self) -> None:
        self.told: list[Publication] = []

    def settled(self, publication: Publication) -> None:
        self.told.append(publication)


def test_the_origin_of_a_will_is_told_when_it_is_routed() -> None:
    node = Node()
    origin = Origin()
    away = node.away("away", "t", 1)
    publication = Publication(message(token=b"token"), None, origin=origin)
    node.router.publish(publication)
    node.exchange(appended(0, False))
    assert origin.told == []
    node.settle()
    assert origin.told == [publication]
    assert node.router.spent == [(away.bucket, b"token")]


def test_nobody_has_to_wait_for_a_publication() -> None:
    node = Node()
    assert node.router.next_calls() == []
    node.publish(message())
    assert "Message('t'" in repr(node.router.incoming[0])
    node.exchange()
    node.settle()
    assert not node.router.has_work()


def test_a_direct_subscriber_has_a_message_once_whoever_sends_it_again() -> None:
    node = Node()
    direct = node.connect("direct")
    direct.subscribe("t", 2)
    got = []
    for _ in range(2):  # the publisher was cut off before PUBREC, and sends it again
        publisher = node.connect("publisher", queue=new_queue())
        node.publish(message(qos=2, token=b"token"), publisher)
        node.exchange()
        node.settle()
        got.append(direct.got())
    assert got == [[(b"payload", 2)], []]
    late = node.connect("late")
    late.subscribe("t", 2)
    node.publish(message(qos=2, token=b"token"))
    node.exchange()
    node.settle()
    assert late.got() == [(b"payload", 2)]
    assert direct.got() == []


def test_tokens_that_are_remembered_are_bounded() -> None:
    node = Node()
    had = node.router.nearby.had
    count = 2**18 + 1
    assert not any(had(b"%d" % number, "direct") for number in range(count))
    assert had(b"%d" % (count - 1), "direct")
    assert had(b"1", "direct")
    assert not had(b"0", "direct")  # the oldest is forgotten
