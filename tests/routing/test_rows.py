"""The change log, applied to the index."""

from broker.routing.index import SubscriptionIndex
from broker.routing.rows import apply_changes
from cluster.store import keys, records
from cluster.store.subscriptions import Change


def _options(qos: int, identifier: int = 0) -> bytes:
    return records.pack_options(qos, True, True, 1, identifier)


def test_rows_come_and_go() -> None:
    index = SubscriptionIndex()
    apply_changes(index, [Change("sub+", "client", "a/+", _options(2, 9), 4)], "1.5")
    assert index.version == "1.5"
    (found,) = index.match("a/b")
    assert (found.qos, found.no_local, found.retain_as_published, found.stamp) == (2, True, True, 4)
    assert found.subscription_identifiers == (9,)
    assert found.options == _options(2, 9)
    assert found.subscriber.bucket == keys.bucket_of("client")
    apply_changes(index, [Change("sub-", "client", "a/+", b"", 6)], "1.6")
    assert index.match("a/b") == []
    assert index.version == "1.6"


def test_a_row_with_a_lower_stamp_is_ignored() -> None:
    index = SubscriptionIndex()
    changes = [
        Change("sub+", "client", "a", _options(1), 5),
        Change("sub+", "client", "a", _options(0), 4),
        Change("sub-", "client", "a", b"", 4),
    ]
    apply_changes(index, changes, "1.9")
    assert [found.qos for found in index.match("a")] == [1]


def test_what_nobody_knows_is_passed_over() -> None:
    index = SubscriptionIndex()
    changes = [
        Change("sub-", "stranger", "a", b"", 5),
        Change("int+", "node", "a", b"", 0),
        Change("int-", "node", "a", b"", 0),
    ]
    apply_changes(index, changes, "1.9")
    assert index.match("a") == []
    assert index.version == "1.9"
    assert index.count == 0


def test_a_damaged_row_is_left_out() -> None:
    index = SubscriptionIndex()
    changes = [
        Change("sub+", "client", "a", b"\xc1", 5),
        Change("sub+", "client", "b", b"", 5),
        Change("sub+", "client", "c", _options(1), 5),
    ]
    apply_changes(index, changes, "1.9")
    assert (index.match("a"), index.match("b")) == ([], [])
    assert len(index.match("c")) == 1
    assert index.version == "1.9"
