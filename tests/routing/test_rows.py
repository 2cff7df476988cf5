"""The change log, applied to the index; and interest, loaded."""

from collections.abc import AsyncIterator
from typing import cast

import pytest

from broker.routing.index import SubscriptionIndex
from broker.routing.rows import apply_changes, learn, load_unversioned
from cluster.store import keys, records
from cluster.store.store import Store
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


def test_interest_comes_and_goes_with_its_node() -> None:
    index = SubscriptionIndex("here")
    apply_changes(index, [Change("int+", "there", "a", b"", 0), Change("int+", "here", "a", b"", 0)], "1.1")
    assert [found.subscriber.node for found in index.match("a")] == ["there"]
    apply_changes(index, [Change("int-", "there", "a", b"", 0), Change("int+", "there", "b", b"", 0)], "1.3")
    assert (len(index.match("a")), len(index.match("b"))) == (0, 1)
    apply_changes(index, [Change("gone", "there", "", b"", 0), Change("gone", "stranger", "", b"", 0)], "1.4")
    assert index.match("b") == []


class Interests:
    """A store that holds what nodes are interested in."""

    def __init__(self, interest: dict[str, list[str]]) -> None:
        self._interest = interest

    async def load_interest(self) -> AsyncIterator[tuple[str, list[str]]]:
        for node, fields in self._interest.items():
            yield node, fields


@pytest.mark.anyio
async def test_what_the_channel_may_have_missed_is_read() -> None:
    """What it has said since is newer; kind 1 is the business of the log."""
    index = SubscriptionIndex("here")
    for node, field in (("there", "0:stale"), ("there", "p:told"), ("there", "1:logged"), ("gone", "0:a")):
        index.add_interest(node, field)
    store = Interests({"there": ["0:new", "p:withdrawn", "1:not yet"], "here": ["0:own"], "idle": []})
    await load_unversioned(index, cast(Store, store), {("there", "p:told"), ("there", "p:withdrawn")})
    found = {
        (node, kind, filter)
        for node, kinds in index.nodes.items()
        for kind, subscriber in kinds.items()
        for filter in subscriber.filters
    }
    assert found == {("there", "0", "new"), ("there", "p", "told"), ("there", "1", "logged")}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_log_says_how_far_a_session_is_known() -> None:
    index = SubscriptionIndex()
    changes = [
        Change("sub+", "c", "a", _options(1), 4),
        Change("sub+", "c", "b", _options(1), 6),
        Change("sub-", "c", "b", b"", 9),
    ]
    apply_changes(index, changes, "1.3")
    assert index.subscribers["c"].stamp == 9
    assert learn(index, "c", 8, [b"a", _options(1), 4]) == []  # that is older
    assert index.subscribers["c"].stamp == 9
