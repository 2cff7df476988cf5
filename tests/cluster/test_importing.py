"""Sessions and retained messages from one prefix to another, without nodes: pages, limits, and what was
left half done."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from cluster.browsing import Browser
from cluster.exporting import PAGE_BYTES, Exporter, Place, RetainedPlace
from cluster.importing import PROBLEMS, Importer, Limits, Order
from cluster.moved import MovedEntries, MovedRetained, MovedSession, MovedSubscription, Record
from cluster.retained import RetainedBook
from cluster.store import keys, records, retained
from cluster.store.entry import pack_body
from cluster.store.store import Store, open_store
from tests.store.caller import Caller
from tests.store.servers import RunningServer

pytestmark = pytest.mark.anyio

LIMITS = Limits(1000, True, 10, 0, 100, 60_000)
ORDER = Order(b"import-1", LIMITS)


@pytest.fixture
def caller(node_caller: Caller) -> Caller:
    """A node of the old broker."""
    return node_caller


@pytest.fixture
def target(caller: Caller) -> Caller:
    """One of the new broker."""
    return Caller.with_new_prefix(caller.redis)


@pytest.fixture
async def exporter(server: RunningServer, caller: Caller) -> AsyncIterator[Exporter]:
    async with await open_store(server.url, caller.prefix, "exports") as store:
        yield Exporter(store)


@pytest.fixture
async def importer(server: RunningServer, target: Caller) -> AsyncIterator[Importer]:
    async with await open_store(server.url, target.prefix, "imports") as store:
        yield made_importer(store)


def made_importer(store: Store) -> Importer:
    return Importer(store, Browser(store), RetainedBook(store))


async def exported(exporter: Exporter, beginning: str = "") -> list[list[Record]]:
    """Page by page."""
    pages = []
    place: Place | None = Place()
    while place is not None:
        page, place = await exporter.sessions(beginning, place)
        assert page.problems == []
        pages.append(page.records)
    return pages


def rows_of(target: Caller) -> set[bytes]:
    return {
        field
        for shard in range(keys.SUBSCRIPTION_SHARDS)
        for field in target.hash(keys.subscriptions(target.prefix, shard))
    }


async def test_a_queue_goes_over_several_pages(
    caller: Caller, target: Caller, exporter: Exporter, importer: Importer
) -> None:
    for client_id in ("a", "b", "c"):
        caller.detach(caller.subscribed(client_id), client_id)
    for _ in range(5):
        caller.enqueue(100, "b", body=pack_body("t", bytes(2000), b"", 0))
    pages = await exported(exporter)
    assert len(pages) > 500 * 2000 // (2 * PAGE_BYTES)
    entries = [record for page in pages for record in page if isinstance(record, MovedEntries)]
    assert [each.first for each in entries] == [True] + [False] * (len(entries) - 1)
    for page in pages:
        assert (await importer.take(page, ORDER)).problems == []
    assert target.ids("b") == list(range(1, 501))
    assert {name.partition(b"\0")[2] for name in rows_of(target)} == {b"a", b"b", b"c"}


async def test_a_session_that_is_another_begins_anew(caller: Caller, exporter: Exporter) -> None:
    caller.detach(caller.subscribed())
    for _ in range(3):
        caller.enqueue(100, body=pack_body("t", bytes(2000), b"", 0))
    page, place = await exporter.sessions("", Place())
    assert (place is not None and place.part is not None, len(page.records)) == (True, 1)
    caller.detach(caller.claim(clean_start=True))
    assert place is not None
    page, place = await exporter.sessions("", place)
    assert place is None
    (session,) = page.records
    assert isinstance(session, MovedSession)
    assert (session.n, session.has_entries) == (0, False)


async def test_one_that_went_away_between_pages(caller: Caller, exporter: Exporter) -> None:
    caller.detach(caller.subscribed())
    for _ in range(3):
        caller.enqueue(100, body=pack_body("t", bytes(2000), b"", 0))
    _, place = await exporter.sessions("", Place())
    caller.claim(clean_start=True, expiry=0)
    assert place is not None
    page, place = await exporter.sessions("", place)
    assert (page.records, place) == ([], None)


async def test_what_can_not_be_read_is_left_out(caller: Caller, exporter: Exporter) -> None:
    for client_id in ("a", "b", "d", "e"):
        caller.detach(caller.subscribed(client_id), client_id)
    caller.redis.set(keys.queue(caller.prefix, keys.bucket_of("d"), "d"), "no stream")
    caller.redis.hset(keys.receiving(caller.prefix, keys.bucket_of("e"), "e"), "1", "no token")
    caller.redis.hset(keys.session(caller.prefix, keys.bucket_of("a"), "a"), "f:g", b"1:\x91\x07")
    for topic, record in (("r/a", b"\x91\x07"), ("r/b", records.pack_retained(b"x", 0, b"", 0))):
        caller.ask(retained.retain(topic, record, 0, False, 0))
    page, place = await exporter.sessions("", Place())
    assert place is None
    assert [each.client_id for each in page.records if isinstance(each, MovedSession)] == ["b"]
    assert sorted(problem[:9] for problem in page.problems) == ["session a", "session d", "session e"]
    page, _ = await exporter.retained("r/#", RetainedPlace())
    assert [each.topic for each in page.records if isinstance(each, MovedRetained)] == ["r/b"]
    assert ["r/a" in problem for problem in page.problems] == [True]


async def test_a_stop_before_the_rows_is_made_good(
    caller: Caller, target: Caller, exporter: Exporter, importer: Importer
) -> None:
    caller.detach(caller.subscribed())
    (page,) = await exported(exporter)
    await importer.take(page, ORDER)
    for shard in range(keys.SUBSCRIPTION_SHARDS):
        target.redis.delete(keys.subscriptions(target.prefix, shard))
    for order in (ORDER, replace(ORDER, import_id=b"another")):
        summary = await importer.take(page, order)
        assert summary.sessions["made"] + summary.sessions["there"] == 1
        assert rows_of(target) == {b"f\0c"}


async def test_the_limit_of_retained_messages_holds(target: Caller, importer: Importer) -> None:
    """In all buckets together, to the one."""
    messages = [MovedRetained(kind="retained", topic=f"t{n}/x", payload=b"x") for n in range(200)]
    order = replace(ORDER, limits=replace(LIMITS, retained=73))
    summary = await importer.take(messages, order)
    assert summary.retained == {"made": 73, "there": 0, "refused": 127}
    assert (len(summary.problems), summary.problem_count) == (PROBLEMS, 127)
    assert sum(len(target.hash(keys.retained(target.prefix, bucket))) for bucket in range(keys.BUCKETS)) == 73
    again = await importer.take(messages, replace(order, replaces=True))
    assert again.retained["made"] == 73
    large = MovedRetained(kind="retained", topic="large", payload=bytes(101))
    assert (await importer.take([large], ORDER)).problems == [
        "retained message of large: 101 bytes, the limit is 100"
    ]


async def test_the_limit_of_subscriptions_holds(target: Caller, importer: Importer) -> None:
    filters = [MovedSubscription(filter=f"f/{number}") for number in range(11)]
    session = MovedSession(kind="session", client_id="c", n=0, hi=0, expiry_seconds=60, subscriptions=filters)
    for summary in (await importer.look([session], ORDER), await importer.take([session], ORDER)):
        assert summary.problems == ["client c: 11 subscriptions, the limit is 10"]
    assert target.session_keys() == set()
