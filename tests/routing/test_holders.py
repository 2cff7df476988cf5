"""Who has a filter, as far as it is asked for."""

import pytest

from broker.routing.index import SubscriptionIndex
from broker.routing.subscription import Subscriber
from cluster.store import records

OPTIONS = [records.pack_options(qos, qos == 1, False, 0, 0) for qos in (0, 1, 2)]


def an_index(sessions: int = 3) -> SubscriptionIndex:
    index = SubscriptionIndex("a.1")
    for number in range(sessions):
        index.add_row(f"s{number}", "t/+", OPTIONS[1], number + 1)
    index.add_row("s0", "t/x", OPTIONS[2], 100)
    index.add_row("s1", "$exclusive/t/x", OPTIONS[0], 101)
    index.add_row("s2", "$share/g/t/#", OPTIONS[1], 102)
    index.add(Subscriber("direct", 0, True), "t/x", OPTIONS[1], 0)
    index.add_interest("b.2", "1:t/x")
    index.add_interest("b.2", "0:t/x")
    return index


def test_filters_that_match_and_that_somebody_has() -> None:
    index = an_index()
    assert sorted(index.filters_for("t/x")) == ["t/#", "t/+", "t/x"]
    assert sorted(index.filters_for("t/y")) == ["t/#", "t/+"]
    assert index.filters_for("u") == []


def test_persistent_ones_and_others() -> None:
    holders = an_index().holders("t/x", 10, 10)
    assert holders.persistent_count == 2
    assert {(each.subscriber.client_id, each.filter, each.qos) for each in holders.persistent} == {
        ("s0", "t/x", 2),
        ("s1", "$exclusive/t/x", 0),
    }
    assert holders.held_count == 3
    assert {each.subscriber.node or each.subscriber.client_id for each in holders.held} == {"direct", "b.2"}
    assert repr(holders) == "Holders('t/x', 2 persistent, 3 others)"


def test_a_group_is_one_of_them() -> None:
    (only,) = an_index().holders("t/#", 10, 10).held
    assert only.subscriber.share is not None
    assert only.subscriber.share.name == "g/t/#"


@pytest.mark.parametrize("sessions", [3, 5000])
def test_not_more_than_is_asked_for(sessions: int) -> None:
    index = an_index(sessions)
    known = len(index.subscribers)
    holders = index.holders("t/+", 2, 1)
    assert (holders.persistent_count, len(holders.persistent)) == (sessions, 2)
    assert len(index.subscribers) == known, "nobody is kept because somebody asked"
    assert index.holders("nobody/has/it", 2, 1).persistent == []
