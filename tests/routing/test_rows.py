"""The change log, applied to the index; and interest, loaded."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import cast

import pytest

from broker.routing.index import SubscriptionIndex
from broker.routing.rows import apply_changes, learn, load_index, load_unversioned
from broker.routing.subscription import Subscriber
from broker.session import QueueState
from cluster.store import keys, records
from cluster.store.store import Store
from cluster.store.subscriptions import Change
from tests.session.wire import Link


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


class Rows(Interests):
    """A store with rows of subscriptions, too; each page is a few of them."""

    def __init__(self, rows: dict[bytes, bytes], interest: dict[str, list[str]]) -> None:
        super().__init__(interest)
        self._pages = [[part for row in page for part in row] for page in batched(rows.items(), 3)]

    async def load_subscriptions(self, take: Callable[[list[bytes]], None]) -> str:
        for page in self._pages:
            take(page)
        return "1.7"


def batched(rows: Iterable[tuple[bytes, bytes]], count: int) -> Iterator[list[tuple[bytes, bytes]]]:
    rest = iter(rows)
    while part := list(islice(rest, count)):
        yield part


def row(client_id: str, filter: str, stamp: int = 5, qos: int = 1) -> tuple[bytes, bytes]:
    """As Redis has it."""
    return f"{filter}\0{client_id}".encode(), b"%d:%b" % (stamp, _options(qos))


def found_by(index: SubscriptionIndex, topic: str) -> dict[str, tuple[str, int, int]]:
    """Client -> filter, QoS and stamp."""
    return {
        each.subscriber.client_id or each.subscriber.node: (each.filter, each.qos, each.stamp)
        for each in index.match(topic)
    }


@pytest.mark.anyio
async def test_all_kinds_of_rows_are_loaded() -> None:
    rows = [
        row("é", "a/b"),
        row("two", "a/b", 6, 2),
        row("two", "+/c"),
        row("three", "a/#", 7, 0),
        row("three", "$exclusive/a/b", 8, 2),
        row("four", "$share/g/a/b", 9),
        row("five", "$SYS/x"),
    ]
    index = SubscriptionIndex("here")
    await load_index(index, cast(Store, Rows(dict(rows), {"there": ["1:a/+"]})))
    assert (index.version, index.count) == ("1.7", 7)
    assert found_by(index, "a/b") == {
        "é": ("a/b", 1, 5),
        "two": ("a/b", 2, 6),
        "three": ("$exclusive/a/b", 2, 8),
        "$share/g/a/b": ("$share/g/a/b", 2, 0),
        "there": ("a/+", 2, 0),
    }
    assert found_by(index, "x/c") == {"two": ("+/c", 1, 5)}
    assert found_by(index, "$SYS/x") == {"five": ("$SYS/x", 1, 5)}
    assert set(index.shares["g/a/b"].members) == {"four"}
    assert index.stamps_of("three") == {"a/#": 7, "$exclusive/a/b": 8}
    assert index.stamps_of("four") == {"$share/g/a/b": 9}
    for each in ("a/b", "+/c"):
        assert index.remove_row("two", each, 9)
    assert set(found_by(index, "a/b")) == {"é", "three", "$share/g/a/b", "there"}
    assert found_by(index, "x/c") == {}


@pytest.mark.anyio
async def test_what_is_loaded_takes_the_place_of_what_was_known() -> None:
    """Of persistent sessions; those that are connected here stay connected."""
    index = SubscriptionIndex("here")
    direct = Subscriber("direct", 7, True)
    index.add(direct, "+/b", _options(1), 0)
    for client_id, filter in (
        ("kept", "a/b"), ("gone", "a/b"), ("gone", "x/+"), ("gone", "$share/g/t"), ("kept", "$share/g/t"),
    ):  # fmt: skip
        index.add_row(client_id, filter, _options(0), 4)
    kept, gone = index.subscriber("kept"), index.subscriber("gone")
    assert set(found_by(index, "a/b")) == {"kept", "gone", "direct"}
    rows = [row("kept", "a/b", 6), row("kept", "$share/g/t", 6), row("new", "#", 7)]
    await load_index(index, cast(Store, Rows(dict(rows), {})))
    assert found_by(index, "a/b") == {"kept": ("a/b", 1, 6), "new": ("#", 1, 7), "direct": ("+/b", 1, 0)}
    assert index.subscriber("kept") is kept
    assert index.subscriber("gone") is not gone
    assert set(index.shares["g/t"].members) == {"kept"}
    assert found_by(index, "x/y") == {"new": ("#", 1, 7)}
    assert index.count == 4


@pytest.mark.anyio
async def test_damaged_rows_are_not_loaded(caplog: pytest.LogCaptureFixture) -> None:
    damaged = [
        (b"a\xff\0c", b"5:" + _options(1)),
        (b"a\0c", b"5"),
        (b"a\0d", b"x:" + _options(1)),
        (b"a\0e", b"5:\xc1"),
        (b"$share/g/a\0f", b"-:" + _options(1)),
    ]
    index = SubscriptionIndex("here")
    await load_index(index, cast(Store, Rows(dict([*damaged, row("good", "a")]), {})))
    assert found_by(index, "a") == {"good": ("a", 1, 5)}
    assert index.count == 1
    assert len(caplog.records) == len(damaged)


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
    assert index.subscriber("c").stamp == 9
    assert learn(index, "c", 8, [b"a", _options(1), 4]) == []  # that is older
    assert index.subscriber("c").stamp == 9


LATE = Change("sub+", "c", "late", _options(1), 5)


@pytest.mark.parametrize(
    "before",
    [
        [Change("sub+", "c", "a", _options(1), 8)],
        [Change("sub+", "c", "a", _options(1), 4), Change("sub-", "c", "late", b"", 7)],
    ],
    ids=["a newer row", "a newer deletion"],
)
@pytest.mark.parametrize("is_asked_for", [True, False])
def test_a_row_that_was_written_late_is_doubted(before: list[Change], is_asked_for: bool) -> None:
    """Until the store says what there is; whatever the log says meanwhile."""
    index = SubscriptionIndex()
    apply_changes(index, before, "1.2")
    if is_asked_for:
        index.subscriber("c")
    apply_changes(index, [LATE], "1.3")
    assert index.subscriber("c").stamp == 0
    apply_changes(index, [Change("sub+", "c", "b", _options(1), 9), Change("sub-", "c", "x", b"", 10)], "1.5")
    assert index.subscriber("c").stamp == 0
    told = [name for change in before if change.kind == "sub+" for name in (b"a", _options(1), change.stamp)]
    (stale,) = learn(index, "c", 10, [*told, b"b", _options(1), 9])
    assert (stale.filter, stale.stamp) == ("late", 5)
    assert index.subscriber("c").stamp == 10
    assert found_by(index, "late") == {}
    assert "c" in found_by(index, "b")


def test_of_one_that_is_connected_the_last_deletion_counts() -> None:
    """Though it has no row any more."""
    index = SubscriptionIndex()
    index.subscriber("c").session = Link().session(QueueState(1, 0, 0, 8, (), (), True))
    apply_changes(index, [Change("sub+", "c", "a", _options(1), 6), Change("sub-", "c", "a", b"", 7)], "1.2")
    assert index.subscriber("c").stamp == 7
    apply_changes(index, [LATE], "1.3")
    assert index.subscriber("c").stamp == 0


def test_what_is_known_already_is_not_doubted() -> None:
    """The log is read again from where the rows were loaded."""
    index = SubscriptionIndex()
    changes = [LATE, Change("sub+", "c", "a", _options(1), 8)]
    apply_changes(index, changes, "1.2")
    apply_changes(index, changes, "1.2")
    assert index.subscriber("c").stamp == 8


@pytest.mark.anyio
async def test_doubt_outlasts_loading() -> None:
    index = SubscriptionIndex("here")
    apply_changes(index, [Change("sub+", "c", "a", _options(1), 8), LATE], "1.2")
    rows = [row("c", "a", 8), row("c", "late", 5)]
    await load_index(index, cast(Store, Rows(dict(rows), {})))
    assert index.subscriber("c").stamp == 0
    await load_index(index, cast(Store, Rows({}, {})))
    assert not index.knowledge.is_doubted(b"c")


@pytest.mark.timeout(20)  # a look through all rows for each of them took minutes
def test_a_client_with_very_many_filters() -> None:
    index = SubscriptionIndex()
    apply_changes(index, [Change("sub+", "c", f"a/{n}", _options(1), n + 1) for n in range(20_000)], "1.1")
    assert index.subscriber("c").stamp == 20_000
    assert index.count == 20_000
