"""Shared subscriptions in the index and the router: one copy a group, whoever its members are."""

from broker.routing.channel import messages_of
from cluster.store import inbox_records, shares
from cluster.store.errors import ItemError, RedisFull
from cluster.store.inbox_records import Runs
from tests.routing.nodes import Node, message, spread
from tests.routing.room import new_queue

FILTER = "$share/g/t/+"
NAME = "g/t/+"
THERE = "node-2"


def answered(*given: object, statuses: list[int] | bool = False, dropped: int = 0) -> list[object]:
    """What `share` answers."""
    return [statuses, dropped, list(given)]


def test_a_group_matches_once_for_all_its_members() -> None:
    node = Node()
    node.away("a", FILTER)
    node.away("b", FILTER)
    node.away("c", "t/#")
    names = sorted(target.subscriber.client_id for target in node.index.match("t/1"))
    assert names == [FILTER, "c"]
    assert node.index.count == 3
    assert set(node.index.shares[NAME].members) == {"a", "b"}


def test_it_ends_with_its_last_member() -> None:
    node = Node()
    for name in ("a", "b"):
        node.away(name, FILTER)
    for name in ("a", "b"):
        assert node.index.match("t/1")
        node.index.remove(node.index.subscribers[name], FILTER, 1)
    assert node.index.match("t/1") == []
    assert node.index.shares == {}


def test_one_request_for_a_group_in_a_batch() -> None:
    node = Node()
    node.away("a", FILTER)
    for payload in (b"1", b"2"):
        node.publish(message(payload, topic="t/1"))
    ((name, _, group, limit, *_, entries),) = node.exchange(
        answered(b"s:a", b"node-1", b"0-0", b"5-0", b"entry")
    )
    assert (name, group, limit) == ("share", NAME, 1000)
    assert isinstance(entries, list)
    assert len(entries) == 8
    ((given_name, given),) = node.router.answers.given
    assert (given_name, given.member, given.id) == (NAME, "s:a", "5-0")
    assert node.router.statistics.appended == 2
    node.settle()


def test_what_a_full_group_drops_is_counted() -> None:
    node = Node()
    node.away("a", FILTER)
    for payload in (b"1", b"2", b"3"):
        node.publish(message(payload, topic="t/1"))
    node.exchange(answered(statuses=[0, 2, 3], dropped=4))
    statistics = node.router.statistics
    assert (statistics.appended, statistics.dropped_new, statistics.dropped_oldest) == (1, 1, 4)


def test_what_a_full_group_drops_is_told() -> None:
    told: list[tuple[object, ...]] = []
    node = Node(on_overflow=lambda *lost: told.append(lost))
    node.away("a", FILTER)
    for payload in (b"1", b"2"):
        node.publish(message(payload, topic="t/1", properties=b"\x09\x00\x01c"))
    (request,) = node.exchange([[0, 3], 2, [], [b"t/0", 2, b""]])
    assert request[-1] is True
    assert told == [
        (FILTER, "t/0", 2, b"", 1),
        (FILTER, None, 0, b"", 1),  # of one there is no more than the number
        (FILTER, "t/1", 1, b"\x09\x00\x01c", 1),
    ]


def test_a_damaged_group_harms_nobody_else() -> None:
    node = Node()
    node.away("a", FILTER)
    for reply in (ItemError("damaged"), 7):
        node.publish(message(topic="t/1"))
        node.exchange(reply)
        node.settle()
    assert [name for name, _ in node.router.answers.damaged] == [NAME, NAME]


def test_a_full_redis_means_once_more() -> None:
    node = Node()
    node.away("a", FILTER)
    node.publish(message(topic="t/1"))
    calls = node.router.next_calls()
    assert not node.router.take_replies(calls, [RedisFull("OOM")])
    assert not node.router.is_settled()
    node.exchange(answered())
    node.settle()


def test_the_interest_of_a_node_for_its_persistent_sessions_keeps_no_group() -> None:
    node = Node()
    node.index.add_interest(THERE, f"p:{FILTER}")
    node.publish(message(topic="t/1"))
    assert node.exchange() == []
    node.settle()
    node.index.add_interest(THERE, f"1:{FILTER}")
    node.publish(message(topic="t/1"))
    assert len(node.exchange(answered())) == 1
    node.settle()
    node.index.remove_interest(THERE, f"1:{FILTER}")
    assert not node.index.shares[NAME].keepers


def test_at_qos_0_members_take_turns() -> None:
    node = Node()
    peers = [node.connect("a"), node.connect("b", queue=new_queue())]
    for peer in peers:
        peer.subscribe(FILTER, 1)
    node.away("c", FILTER)  # is never there for it
    publisher = node.connect("publisher")
    for number in range(4):
        node.router.nearby.publish_at_most_once(
            message(str(number).encode(), topic="t/1", qos=0), publisher.session
        )
    assert [len(peer.got()) for peer in peers] == [2, 2]


def test_at_qos_0_another_node_is_one_of_them() -> None:
    node, far = Node(), Node()
    here = node.connect("a")
    here.subscribe(FILTER, 1)
    for kind in "01p":
        node.index.add_interest(THERE, f"{kind}:{FILTER}")
    there = far.connect("b")
    there.subscribe(FILTER, 0)
    far.connect("c").subscribe("t/#", 0)  # has nothing to do with the group
    publisher = node.connect("publisher")
    for number in range(4):
        node.router.nearby.publish_at_most_once(
            message(str(number).encode(), topic="t/1", qos=0), publisher.session
        )
    ((name, packed),) = node.router.transit.take_messages()
    record = inbox_records.unpack(packed)
    assert name == THERE
    assert isinstance(record, Runs)
    assert messages_of(record.runs)[0] == []
    far.router.nearby.deliver_channel(record.runs)
    assert len(here.got()) == len(there.got()) == 2


def test_at_qos_0_nobody_is_there() -> None:
    node = Node()
    node.away("a", FILTER)
    node.router.nearby.publish_at_most_once(message(topic="t/1", qos=0), node.connect("publisher").session)
    node.publish(message(topic="t/1", qos=0))  # a will
    assert node.exchange() == []
    assert not node.router.transit.waiting


def test_what_a_lost_publisher_has_sent_is_left_out() -> None:
    node = Node()
    node.away("a", FILTER)
    publisher = node.connect("publisher", queue=new_queue())
    node.publish(message(topic="t/1"), publisher)
    publisher.session.is_lost = True
    calls = node.router.next_calls()
    request = calls[0].requests[1]
    assert isinstance(request[-1], list)
    assert request[-1][0] is False
    assert node.router.take_replies(calls, spread(calls, [answered(statuses=[2])]))


def test_a_member_is_told_apart_by_its_kind() -> None:
    assert shares.member_name("c", 0) != shares.member_name("c", 5)
