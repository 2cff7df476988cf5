"""The index against the reference matcher; overlapping subscriptions; stamps."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.mqtt import is_valid_topic_filter, matches
from broker.routing.index import SubscriptionIndex
from broker.routing.subscription import Subscriber, Subscription, merge, without_no_local
from broker.session import QueueState
from cluster.store import records
from tests.session.wire import Link

OPTIONS = records.pack_options(1, False, False, 0, 0)
LEVELS = st.sampled_from(["a", "b", "", "$SYS", "ab"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.lists(st.one_of(LEVELS, st.sampled_from(["+", "+", "#"])), min_size=1, max_size=4)
    .map("/".join)
    .filter(is_valid_topic_filter)
)
CLIENTS = st.sampled_from(["one", "two", "three"])


@dataclass
class _Added:
    client_id: str
    filter: str
    qos: int
    no_local: bool
    retain_as_published: bool
    identifier: int

    @property
    def options(self) -> bytes:
        return records.pack_options(self.qos, self.no_local, self.retain_as_published, 0, self.identifier)


SUBSCRIPTIONS = st.builds(
    _Added, CLIENTS, FILTERS, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 3)
)


def _add(
    index: SubscriptionIndex,
    client_id: str,
    filter: str,
    qos: int = 1,
    *,
    stamp: int = 1,
    no_local: bool = False,
    retain_as_published: bool = False,
    identifier: int = 0,
) -> bool:
    options = records.pack_options(qos, no_local, retain_as_published, 0, identifier)
    return index.add_row(client_id, filter, options, stamp)


def _matched(
    index: SubscriptionIndex, topic: str, publisher: str = ""
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Client -> QoS and Subscription Identifiers; fails if one of them is there twice."""
    found = {}
    for match in index.match(topic):
        client_id = match.subscriber.client_id
        subscription = without_no_local(match) if client_id == publisher else match
        if subscription is None:
            continue
        assert client_id not in found
        found[client_id] = (subscription.qos, tuple(sorted(subscription.subscription_identifiers)))
    return found


def _expected(
    held: dict[tuple[str, str], _Added], topic: str, publisher: str = ""
) -> dict[str, tuple[int, tuple[int, ...]]]:
    by_client: dict[str, list[_Added]] = {}
    for added in held.values():
        if matches(added.filter, topic) and not (added.no_local and added.client_id == publisher):
            by_client.setdefault(added.client_id, []).append(added)
    return {
        client_id: (
            max(each.qos for each in several),
            tuple(sorted(each.identifier for each in several if each.identifier)),
        )
        for client_id, several in by_client.items()
    }


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), SUBSCRIPTIONS), max_size=25), st.lists(TOPICS, min_size=1, max_size=6)
)
def test_it_matches_as_the_reference_does(changes: list[tuple[bool, _Added]], topics: list[str]) -> None:
    index = SubscriptionIndex()
    held: dict[tuple[str, str], _Added] = {}
    for stamp, (is_added, change) in enumerate(changes, 1):
        subscriber = index.subscriber(change.client_id)
        place = (change.client_id, change.filter)
        if is_added:
            assert index.add(subscriber, change.filter, change.options, stamp)
            held[place] = change
        else:
            assert index.remove(subscriber, change.filter, stamp) is (place in held)
            held.pop(place, None)
        for topic in topics:  # after every change, so that nothing outdated stays in the cache
            assert _matched(index, topic) == _expected(held, topic)
            assert _matched(index, topic, "one") == _expected(held, topic, "one")
        assert index.count == len(held)


@settings(deadline=None)
@given(st.lists(SUBSCRIPTIONS, min_size=1, max_size=12))
def test_what_is_removed_leaves_nothing_behind(added: list[_Added]) -> None:
    index = SubscriptionIndex()
    for each in added:
        _add(index, each.client_id, each.filter)
    for each in added:
        index.remove_row(each.client_id, each.filter, 1)
    assert index.subscribers == {}
    assert index.count == 0
    assert index._wildcards.is_empty()
    assert (index._rows.count, index._filters.keys) == (0, 0)


def test_topics_of_the_server_are_not_matched_by_wildcards_at_the_start() -> None:  # [MQTT-4.7.2-1]
    index = SubscriptionIndex()
    for filter in ("#", "+/monitor/Clients", "+/#", "$SYS/#", "$SYS/+/Clients", "$SYS/monitor/Clients"):
        _add(index, filter, filter)
    assert set(_matched(index, "$SYS/monitor/Clients")) == {
        "$SYS/#",
        "$SYS/+/Clients",
        "$SYS/monitor/Clients",
    }
    assert set(_matched(index, "a/monitor/Clients")) == {"#", "+/monitor/Clients", "+/#"}


def test_the_multi_level_wildcard_includes_the_parent() -> None:
    index = SubscriptionIndex()
    _add(index, "client", "a/b/#")
    assert _matched(index, "a/b")
    assert _matched(index, "a/b/c/d")
    assert not _matched(index, "a")


def test_a_filter_may_have_thousands_of_levels() -> None:
    index = SubscriptionIndex()
    topic = "/".join(["x"] * 20_000)
    _add(index, "deep", topic + "/#")
    _add(index, "plus", "/".join(["+"] * 20_000))
    assert set(_matched(index, topic)) == {"deep", "plus"}
    assert index.remove_row("deep", topic + "/#", 1)
    assert index.remove_row("plus", "/".join(["+"] * 20_000), 1)
    assert index._wildcards.is_empty()


def test_overlapping_subscriptions_are_one_copy() -> None:  # [MQTT-3.3.4-2], [MQTT-3.3.4-3]
    index = SubscriptionIndex()
    _add(index, "client", "a/+", 1, stamp=4, identifier=7)
    _add(index, "client", "a/b", 0, stamp=5, identifier=8)
    _add(index, "client", "#", 2, stamp=6, retain_as_published=True)
    (found,) = index.match("a/b")
    assert (found.qos, found.filter, found.stamp) == (2, "#", 6)
    assert set(found.subscription_identifiers) == {7, 8}
    assert found.retain_as_published
    assert len(found.overlapping) == 3
    (single,) = index.match("a/c/d")
    assert single.overlapping == ()
    assert repr(single) == "Subscription('client', '#', qos=2, stamp=6)"


def _subscription(qos: int, *, no_local: bool = False, identifier: int = 0) -> Subscription:
    subscriber = Subscriber("client", 7, False)
    identifiers = (identifier,) if identifier else ()
    return Subscription(subscriber, f"f{qos}", qos, no_local, False, identifiers, b"", 1)


def test_a_single_subscription_is_merged_to_itself() -> None:
    single = _subscription(1)
    assert merge([single]) is single


def test_what_is_left_without_no_local() -> None:  # [MQTT-3.8.3-3]
    plain = _subscription(1, identifier=1)
    other = _subscription(0, identifier=3)
    local = _subscription(2, no_local=True, identifier=2)
    assert without_no_local(plain) is plain
    assert without_no_local(local) is None
    assert without_no_local(merge([local, local])) is None
    assert without_no_local(merge([local, plain])) is plain
    left = without_no_local(merge([plain, local, other]))
    assert left is not None
    assert (left.qos, left.subscription_identifiers) == (1, (1, 3))


def test_a_lower_stamp_changes_nothing() -> None:
    index = SubscriptionIndex()
    assert _add(index, "client", "a", 2, stamp=5)
    assert not _add(index, "client", "a", 0, stamp=4)
    assert _matched(index, "a") == {"client": (2, ())}
    assert not index.remove_row("client", "a", 4)
    assert _add(index, "client", "a", 1, stamp=5)
    assert _matched(index, "a") == {"client": (1, ())}
    assert index.count == 1
    assert index.remove_row("client", "a", 5)
    assert _matched(index, "a") == {}


def test_every_change_is_a_new_generation() -> None:
    index = SubscriptionIndex()
    generations = [index.generation]
    for filter in ("a", "b/+"):
        _add(index, "client", filter)
        generations.append(index.generation)
    for filter in ("a", "b/+"):
        index.remove_row("client", filter, 1)
        generations.append(index.generation)
    assert generations == sorted(set(generations))
    index.remove_row("client", "a", 9)
    assert index.generation == generations[-1]


def test_what_a_topic_matches_is_remembered() -> None:
    index = SubscriptionIndex()
    _add(index, "client", "a")
    found = index.match("a")
    assert index.match("a") is found
    _add(index, "client", "b")
    assert index.match("a") is found  # only what could have changed is forgotten
    _add(index, "client", "c/+")
    assert index.match("a") is not found


def test_long_topics_are_not_remembered() -> None:
    index = SubscriptionIndex()
    _add(index, "client", "#")
    topic = "x" * 129
    assert index.match(topic) is not index.match(topic)
    assert _matched(index, topic) == {"client": (1, ())}


def test_what_is_remembered_is_bounded() -> None:
    index = SubscriptionIndex()
    first = index.match("t")
    for number in range(65_536):
        index.match(str(number))
    assert index.match("t") is not first


def test_a_direct_and_a_persistent_session_of_one_client_are_two_subscribers() -> None:
    index = SubscriptionIndex()
    persistent = index.subscriber("client")
    direct = Subscriber("client", 7, True)
    index.add(persistent, "a", OPTIONS, 3)
    index.add(direct, "a", OPTIONS, 0)
    assert {found.subscriber for found in index.match("a")} == {persistent, direct}
    index.remove(direct, "a", 0)
    assert [found.subscriber for found in index.match("a")] == [persistent]
    assert index.subscribers == {"client": persistent}  # the other one was never here
    assert repr(direct) == "Subscriber('client', away)"


def test_a_subscriber_is_known_by_its_client_identifier() -> None:
    index = SubscriptionIndex()
    known = index.subscriber("client")
    assert index.subscriber("client") is known
    index.forget_if_unused(known)
    assert index.subscribers == {}  # it has no subscription
    again = index.subscriber("client")
    assert again is not known
    index.forget_if_unused(known)  # an older one: not the one that is known now
    assert index.subscribers == {"client": again}


def test_there_is_one_subscriber_for_all_that_matches() -> None:
    index = SubscriptionIndex()
    _add(index, "client", "a")
    _add(index, "client", "b/+")
    (first,), (second,) = index.match("a"), index.match("b/c")
    assert first.subscriber is second.subscriber is index.known("client")
    assert index.known("stranger") is None


def test_visitors_are_let_go_when_there_are_many() -> None:
    """Whoever is connected here stays, and members of groups."""
    index = SubscriptionIndex(visitors_limit=100)
    for number in range(100):
        _add(index, f"client-{number}", "a")
    _add(index, "member", "$share/g/b")
    here = index.subscriber("client-1")
    here.session = Link().session(QueueState(1, 0, 0, 8, (), (), True))
    before = index.match("a")
    assert len(before) == len(index.subscribers) - 1 == 100
    index.trim()
    assert set(index.subscribers) == {"client-1", "member"}
    after = index.match("a")
    assert [each.subscriber.client_id for each in after] == [each.subscriber.client_id for each in before]
    for one, other in zip(after, before, strict=True):  # in what order depends on the hashes of this process
        assert (one.subscriber is other.subscriber) == (one.subscriber is here)
    assert index.subscriber("client-1") is here
    here.session = None
    index.forget_if_unused(here)
    assert index.subscriber("client-1") is here  # the store may still name it in this batch
    index.trim()
    assert index.subscriber("client-1") is not here


def test_few_visitors_stay() -> None:
    index = SubscriptionIndex()
    _add(index, "client", "a")
    before = index.match("a")
    index.trim()
    assert index.match("a") is before


def test_what_a_subscriber_has() -> None:
    index = SubscriptionIndex()
    direct, persistent = Subscriber("direct", 7, True), index.subscriber("persistent")
    for subscriber, stamp in ((direct, 0), (persistent, 4)):
        for filter in ("a", "+", "$exclusive/a", "$share/g/a"):
            index.add(subscriber, filter, OPTIONS, stamp)
            found = index.subscription(subscriber, filter)
            assert found is not None
            assert (found.subscriber, found.filter, found.stamp) == (subscriber, filter, stamp)
        assert index.subscriptions_of(subscriber) == 4
        assert index.subscription(subscriber, "b") is None
        index.remove(subscriber, "a", stamp)
        assert index.subscription(subscriber, "a") is None
        assert index.subscription(subscriber, "$exclusive/a") is not None
    assert index.stamps_of("persistent") == {"+": 4, "$exclusive/a": 4, "$share/g/a": 4}
    assert index.stamps_of("direct") == {}


# Other nodes


def nodes_for(index: SubscriptionIndex, topic: str) -> set[tuple[str, str]]:
    """Node and kind of interest."""
    return {(each.subscriber.node, each.subscriber.interest) for each in index.match(topic)}


def test_a_node_is_one_subscriber_for_each_kind_of_interest() -> None:
    index = SubscriptionIndex("here")
    for field in ("1:a/+", "1:a/b", "0:a/b", "p:#", "1:c"):
        index.add_interest("there", field)
        index.add_interest("there", field)  # told again
    assert nodes_for(index, "a/b") == {("there", "1"), ("there", "0"), ("there", "p")}
    assert nodes_for(index, "c") == {("there", "1"), ("there", "p")}
    assert len(index.match("a/b")) == 3
    assert index.count == 0  # these are no subscriptions of clients


def test_interest_ends() -> None:
    index = SubscriptionIndex("here")
    for field in ("1:a", "0:a", "1:a/#"):
        index.add_interest("there", field)
    index.remove_interest("there", "1:a")
    assert nodes_for(index, "a") == {("there", "0"), ("there", "1")}
    for field in ("1:a/#", "1:never", "x:y"):
        index.remove_interest("there", field)
    index.remove_interest("stranger", "1:a")
    assert nodes_for(index, "a") == {("there", "0")}


def test_a_node_that_is_gone_wants_nothing() -> None:
    index = SubscriptionIndex("here")
    for field in ("1:a", "0:a/#", "p:+"):
        index.add_interest("there", field)
        index.add_interest("elsewhere", field)
    index.remove_node("there")
    index.remove_node("there")
    assert {node for node, _ in nodes_for(index, "a")} == {"elsewhere"}
    index.remove_node("elsewhere")
    assert index.match("a") == []
    assert index.nodes == {}


@pytest.mark.parametrize(("node", "field"), [("here", "1:a"), ("there", "x:a")])
def test_interest_that_is_none_of_ours(node: str, field: str) -> None:
    """Our own, and a kind that only a newer release knows."""
    index = SubscriptionIndex("here")
    index.add_interest(node, field)
    assert index.match("a") == []


@pytest.mark.parametrize("filter", ["a/b", "a/+", "#"])
def test_an_exclusive_subscription_stands_beside_an_ordinary_one(filter: str) -> None:
    """They add up like any that overlap, and each ends alone."""
    index = SubscriptionIndex()
    subscriber = index.subscriber("one")
    assert index.match("a/b") == []
    _add(index, "one", filter, 0, identifier=1)
    _add(index, "one", f"$exclusive/{filter}", 2, identifier=2)
    assert _matched(index, "a/b") == {"one": (2, (1, 2))}
    assert index.match(f"$exclusive/{filter}") == []
    index.remove(subscriber, filter, 1)
    assert _matched(index, "a/b") == {"one": (2, (2,))}
    index.remove(subscriber, f"$exclusive/{filter}", 1)
    assert index.match("a/b") == []
    assert index.subscribers == {}


def test_subscriptions_that_end_with_their_connection_are_counted() -> None:
    index = SubscriptionIndex("here")
    direct = Subscriber("two", 7, True)
    _add(index, "one", "a")
    for filter in ("a", "b", "b"):
        index.add(direct, filter, OPTIONS, 0)
    index.add_interest("there", "1:a")
    assert (index.count, index.direct_count) == (3, 2)
    index.remove(direct, "a", 0)
    index.remove_node("there")
    assert (index.count, index.direct_count) == (2, 1)
