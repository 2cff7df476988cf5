"""Sessions whose subscriptions have changed behind the router's back."""

from broker.mqtt import Puback
from cluster.store import records
from cluster.store.entry import pack_head
from tests.routing.nodes import Node, appended, filters_of, heads_of, message, options, outdated
from tests.routing.room import new_queue


def test_a_session_that_has_other_options_is_served_by_those() -> None:
    node = Node()
    publisher = node.connect("publisher")
    node.away("away", "t", 2, stamp=4)
    node.publish(message(), publisher, 5)
    (first,) = node.exchange(outdated(9, ("t", options(1, 3), 8), owner=False))
    assert (filters_of(first), first[6]) == ([False], 4)
    (second,) = node.exchange(appended(0, False))
    assert heads_of(second) == [pack_head(1, False, (3,))]
    assert filters_of(second) == ["t"]  # the session may have still other ones, if it has any
    assert len(second) == 6
    node.settle()
    assert publisher.take() == [Puback(5)]
    assert (node.router.answers.stale_rows, node.router.statistics.refused) == ([], 1)
    node.publish(message())
    assert node.exchange(appended(1, False))[0][6] == 9


def test_a_session_without_a_subscription_is_a_stale_row() -> None:
    node = Node()
    publisher = node.connect("publisher")
    node.away("away", "t", stamp=4)
    node.publish(message(), publisher, 5)
    node.exchange(outdated(9, owner=False))
    (row,) = node.router.answers.stale_rows
    assert (row.subscriber.client_id, row.filter, row.stamp) == ("away", "t", 4)
    assert node.index.subscribers == {}
    node.settle()
    assert publisher.take() == [Puback(5, 0x10)]


def test_overlapping_subscriptions_that_came_behind_our_back_count() -> None:
    node = Node()
    queued = node.connect("queued", queue=new_queue())
    queued.subscribe("+", 1, identifier=1, stamp=4)
    for number in (b"1", b"2"):
        node.publish(message(number, qos=2))
    node.exchange(outdated(6, ("+", options(1, 1), 4), ("t", options(2, 2), 6)))
    assert queued.got() == []
    (again,) = node.exchange(appended(0))
    assert heads_of(again) == [pack_head(2, False, (2, 1))] * 2
    assert queued.got() == [(b"1", 2), (b"2", 2)]
    node.settle()


def test_what_nobody_may_send_any_more_is_not_matched_again() -> None:
    node = Node()
    publisher = node.connect("publisher", queue=new_queue())
    node.away("away", "t", stamp=4)
    node.publish(message(), publisher)
    publisher.session.is_lost = True
    node.exchange(outdated(9, ("t", options(1, 3), 8), owner=False))
    assert node.router.is_settled()


def test_a_message_that_was_queued_is_not_queued_by_other_options_again() -> None:
    node = Node()
    node.away("away", "t", 2, stamp=4)
    node.publish(message())
    node.exchange(appended(0, False))
    node.away("away", "t", 1, stamp=9)
    node.settle()


def test_who_gets_a_queued_copy_only_by_its_new_options_is_added() -> None:
    """By those of before the message went past the queue, to wherever the client may be."""
    node = Node()
    here = node.connect("here", queue=new_queue())
    here.subscribe("t", 0, stamp=4)
    node.away("away", "t", 0, stamp=5)
    node.publish(message(b"hello", qos=2))
    node.exchange()
    here.subscribe("t", 2, stamp=6)  # it has the message: that came before its SUBACK
    node.away("away", "t", 1, stamp=7)
    node.router.match_again()
    (request,) = node.exchange(appended(0, False))
    assert (request[2], heads_of(request)) == ("away", [pack_head(1, False, ())])
    node.settle()
    assert here.got() == [(b"hello", 0)]


def test_no_local_that_is_gone_counts_no_more() -> None:
    node = Node()
    subscriber = node.away("publisher", "t", 1, stamp=4)
    node.index.add(subscriber, "t", records.pack_options(1, True, False, 0, 0), 5)
    node.publish(message())
    assert node.exchange() == []
    node.away("publisher", "t", 1, stamp=6)
    node.router.match_again()
    (request,) = node.exchange(appended(0, False))
    assert request[2] == "publisher"
    node.settle()
