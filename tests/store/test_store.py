"""The store as a node opens it, on real servers with the real library."""

import logging
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cluster.store import keys, membership, records, subscriptions
from cluster.store.call import Call
from cluster.store.errors import (
    AccessDenied,
    CallFailed,
    InvalidRedisUrl,
    ItemError,
    LibraryTooNew,
    NodeGone,
    RedisFull,
    SchemaTooNew,
    StoreUnavailable,
    UnsupportedRedis,
)
from cluster.store.library import (
    LIBRARY_NAME,
    LIBRARY_REVISION,
    OLDEST_CALLER,
    library_source,
    revision_of,
)
from cluster.store.reply import as_list, as_text, in_pairs
from cluster.store.store import Store, SubscriptionRow, open_store, pairs_of, row_of
from tests.store.servers import (
    KINDS,
    LOOPS,
    RunningServer,
    connected,
    fake_server,
    info_of,
    running_server,
    tls_server,
)

pytestmark = pytest.mark.anyio

PREFIX = "test:"
OPTIONS = records.pack_options(1, False, True, 2, 7)


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(request.param, tmp_path, "--appendonly", "yes") as running:
        yield running


async def opened(url: str) -> Store:
    return await open_store(url, PREFIX, "n1", exchange_timeout_seconds=2.0)


async def command(server: RunningServer, *arguments: str | bytes | int) -> object:
    async with connected(server.url) as connection:
        return await connection.ask_one(*arguments)


async def loaded_revision(server: RunningServer) -> int:
    (listed,) = as_list(await command(server, "FUNCTION", "LIST", "WITHCODE"))
    return revision_of(as_text(dict(in_pairs(listed))[b"library_code"]))


async def test_lane_and_side_connection_use_the_same_keys(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        store = await opened(server.url)
    assert caplog.records == []
    async with store:
        await store.ping()
        assert store.server.role == "master"
        (version,) = await store.call([subscriptions.rows([("c", "a/#", OPTIONS, 5)], [])], function="free")
        exchange = await store.lane.exchange([Call("write", [subscriptions.log_since("1.0")])], True)
        assert version == b"1.1"
        assert exchange.version == "1.1"
        (replies,) = exchange.replies
        assert isinstance(replies, list)
        log = subscriptions.parse_log(replies[0])
        assert log is not None
        assert [(change.who, change.filter, change.options) for change in log.changes] == [
            ("c", "a/#", OPTIONS)
        ]


async def test_all_subscriptions_are_loaded(server: RunningServer) -> None:
    expected = {SubscriptionRow(f"client-{n}", f"a/{n % 7}/é", OPTIONS, n) for n in range(3000)}
    async with await opened(server.url) as store:
        pages: list[list[bytes]] = []
        assert await store.load_subscriptions(pages.append) == "1.0"
        assert not any(pages)
        adds = [(row.client_id, row.filter, row.options, row.stamp) for row in expected]
        await store.call([subscriptions.rows(adds, [])])
        assert await store.load_subscriptions(pages.append) == "1.1"
        assert {row_of(*row) for page in pages for row in pairs_of(page)} == expected


async def test_large_shard_comes_in_pages(server: RunningServer) -> None:
    fields = [part for n in range(5000) for part in (f"f\0client-{n}", b"%d:%b" % (n, OPTIONS))]
    await command(server, "HSET", keys.subscriptions(PREFIX, 255), *fields)
    pages: list[list[bytes]] = []
    async with await opened(server.url) as store:
        await store.load_subscriptions(pages.append)
    sizes = [len(page) // 2 for page in pages]
    assert sum(sizes) == 5000
    assert 1 < max(sizes) < 2500


async def test_failed_request_harms_no_other(server: RunningServer) -> None:
    async with await opened(server.url) as store:
        first, second = await store.call([["no such request", 0], subscriptions.rows([], [])])
        assert isinstance(first, ItemError)
        assert second == b"1.0"


async def test_a_call_in_parts_has_all_replies_in_order(server: RunningServer) -> None:
    async with await opened(server.url) as store:
        await command(server, "FUNCTION", "FLUSH")
        requests = [subscriptions.log_since(f"1.{number}") for number in range(7)]
        requests.insert(4, ["no such request", 0])
        replies = await store.call_in_parts(requests, 3)
        assert isinstance(replies[4], ItemError)
        assert replies == [*await store.call(requests[:4], function="free"), replies[4], False, False, False]
        assert await store.call_in_parts([], 3) == []
        await command(server, "SET", keys.tombstone(PREFIX, "m", "n1"), "1")
        with pytest.raises(NodeGone):
            await store.call_in_parts(requests, 3)


async def test_lost_library_is_loaded_again(server: RunningServer) -> None:
    async with await opened(server.url) as store:
        await command(server, "FUNCTION", "FLUSH")
        assert await store.call([subscriptions.rows([], [])]) == [b"1.0"]
        await command(server, "FUNCTION", "FLUSH")
        exchange = await store.lane.exchange([Call("write", [subscriptions.rows([], [])])])
        assert exchange.replies == [[b"1.0"]]


async def test_who_misses_its_functions_replaces_an_older_library(server: RunningServer) -> None:
    """A node of an older release, which knows no revisions, has just started; or Redis had lost the library,
    and that node was the first to load its own."""
    older = library_source(OLDEST_CALLER)
    async with await opened(server.url) as store:
        await command(server, "FUNCTION", "LOAD", "REPLACE", older)
        assert await store.call([subscriptions.rows([], [])]) == [b"1.0"]
        assert await loaded_revision(server) == LIBRARY_REVISION
        await command(server, "FUNCTION", "LOAD", "REPLACE", older)
        exchange = await store.lane.exchange([Call("write", [subscriptions.rows([], [])])])
        assert exchange.replies == [[b"1.0"]]
        assert await loaded_revision(server) == LIBRARY_REVISION


async def test_a_newer_library_stays_and_serves(server: RunningServer) -> None:
    """It is loaded while the node runs; the node also starts on it."""
    async with await opened(server.url) as store:
        await command(server, "FUNCTION", "LOAD", "REPLACE", library_source(LIBRARY_REVISION + 1))
        assert await store.call([subscriptions.rows([], [])]) == [b"1.0"]
        exchange = await store.lane.exchange([Call("write", [subscriptions.rows([], [])])])
        assert exchange.replies == [[b"1.0"]]
    async with await opened(server.url) as store:
        assert await store.call([subscriptions.rows([], [])]) == [b"1.0"]
    assert await loaded_revision(server) == LIBRARY_REVISION + 1


async def test_when_redis_has_lost_a_newer_library_ours_is_loaded(server: RunningServer) -> None:
    """Nobody else is there who could."""
    async with await opened(server.url) as store:
        await command(server, "FUNCTION", "LOAD", "REPLACE", library_source(LIBRARY_REVISION + 1))
        await command(server, "FUNCTION", "FLUSH")
        assert await store.call([subscriptions.rows([], [])]) == [b"1.0"]
        assert await loaded_revision(server) == LIBRARY_REVISION


async def test_a_newer_library_that_does_not_serve_us_holds_everything(server: RunningServer) -> None:
    """Until somebody starts a newer release, or takes the library away, as the way back is."""
    without_us = library_source(LIBRARY_REVISION + 1).replace(
        "for caller = OLDEST_CALLER, REVISION do", "for caller = REVISION, REVISION do"
    )
    async with await opened(server.url) as store:
        await command(server, "FUNCTION", "LOAD", "REPLACE", without_us)
        with pytest.raises(LibraryTooNew):
            await store.call([subscriptions.rows([], [])])
        with anyio.move_on_after(0.2) as waiting:
            await store.lane.exchange([Call("write", [subscriptions.rows([], [])])])
        assert waiting.cancelled_caught
        with pytest.raises(LibraryTooNew):
            await opened(server.url)
        await command(server, "FUNCTION", "DELETE", LIBRARY_NAME)
        exchange = await store.lane.exchange([Call("write", [subscriptions.rows([], [])])])
        assert exchange.replies == [[b"1.0"]]


async def test_second_node_does_not_load_the_library_again(server: RunningServer) -> None:
    async with await opened(server.url):
        await command(server, "CONFIG", "SET", "maxmemory", "1")
        async with await open_store(server.url, PREFIX, "n2") as second:
            await second.ping()
        await command(server, "FUNCTION", "DELETE", LIBRARY_NAME)
        with pytest.raises(StoreUnavailable, match="full"):
            await opened(server.url)


async def test_full_server_takes_what_frees_memory(server: RunningServer) -> None:
    async with await opened(server.url) as store:
        await command(server, "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(RedisFull):
            await store.call([subscriptions.rows([], [])])
        assert await store.call([subscriptions.rows([], [])], function="free") == [b"1.0"]


async def test_server_that_is_away_is_told_at_once_and_found_again(server: RunningServer) -> None:
    async with await opened(server.url) as store:
        server.kill()
        with pytest.raises(StoreUnavailable, match=r"r\.sock"):
            await store.call([subscriptions.rows([], [])])
        server.start()
        (version,) = await store.call([subscriptions.rows([], [])])
        assert version != b"1.0"  # a server that was started again may have lost something
        exchange = await store.lane.exchange([Call("write", [subscriptions.rows([], [])])])
        assert exchange.replies == [[version]]


async def test_stopped_server_is_told_after_the_timeout(server: RunningServer) -> None:
    async with await open_store(server.url, PREFIX, "n1", exchange_timeout_seconds=0.2) as store:
        await store.ping()
        server.stop()
        with anyio.fail_after(2), pytest.raises(StoreUnavailable):
            await store.ping()
        server.go_on()
        await store.ping()


async def test_cancelled_call_leaves_no_reply_behind(server: RunningServer) -> None:
    async with await opened(server.url) as store:
        await store.ping()
        server.stop()
        with anyio.move_on_after(0.1) as scope:
            await store.call([subscriptions.rows([("c", "f", OPTIONS, 1)], [])])
        assert scope.cancelled_caught
        server.go_on()
        await store.ping()
        first, _ = await store.call([subscriptions.log_since("1.0"), subscriptions.rows([], [])])
        log = subscriptions.parse_log(first)
        assert log is not None
        assert log.version in ("1.0", "1.1")


async def test_dead_incarnation_is_told(server: RunningServer) -> None:
    async with await opened(server.url) as store:
        await command(server, "SET", keys.tombstone(PREFIX, "m", "n1"), "1")
        with pytest.raises(NodeGone):
            await store.call([membership.beat("n1")])


async def test_newer_schema_is_refused(server: RunningServer) -> None:
    await command(server, "SET", keys.schema(PREFIX), "2")
    with pytest.raises(SchemaTooNew):
        await opened(server.url)
    assert await command(server, "FUNCTION", "LIST") == []


async def test_password_and_database_hold_for_both_connections(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "p w") as running:
        async with await opened(running.url.replace("unix://", "unix://:p%20w@") + "?db=5") as store:
            await store.call([subscriptions.rows([("c", "f", OPTIONS, 1)], [])])
            assert (await store.lane.exchange([], True)).version == "1.1"
        with pytest.raises(AccessDenied):
            await opened(running.url)


async def test_tls_holds_for_both_connections(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (port, certificate):
        async with await opened(f"rediss://localhost:{port}?ssl_ca_certs={certificate}") as store:
            assert await store.call([subscriptions.rows([], [])]) == [b"1.0"]
            assert (await store.lane.exchange([], True)).version == "1.0"
        async with await opened(f"rediss://localhost:{port}?ssl_cert_reqs=none") as store:
            await store.ping()


async def test_server_that_may_lose_messages_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server("valkey", tmp_path, "--maxmemory-policy", "allkeys-lru") as running:
        async with await opened(running.url):
            pass
    assert "allkeys-lru" in caplog.text
    assert "append-only" in caplog.text


async def test_start_is_refused_in_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidRedisUrl):
        await opened("http://localhost")
    with pytest.raises(StoreUnavailable):
        await opened(f"unix://{tmp_path}/none")
    async with fake_server(b"+OK\r\n", info_of(redis_version="6.0.16")) as endpoint:
        with pytest.raises(UnsupportedRedis, match=r"Redis 6\.0\.16: Moorline needs Redis 7\.0 or newer"):
            await opened(f"redis://{endpoint}")


async def test_command_that_the_server_refuses(server: RunningServer) -> None:
    async with await opened(server.url) as store:
        await command(server, "SET", keys.subscriptions(PREFIX, 0), "no hash")
        with pytest.raises(CallFailed, match="WRONGTYPE"):
            await store.load_subscriptions(lambda _: None)
