"""The lane against real servers which are killed, stopped, full or emptied in the middle of it."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cluster.store.call import Call
from cluster.store.errors import CallFailed, ItemError, NodeGone, RedisFull
from cluster.store.lane import Exchange
from cluster.store.outage import backoff_seconds
from tests.store.servers import (
    KINDS,
    LOOPS,
    RunningServer,
    connected,
    lane_to,
    running_server,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(request.param, tmp_path, "--appendonly", "yes", "--appendfsync", "always") as running:
        yield running


def count(*names: str) -> Call:
    return Call("write", [["count", 7, name] for name in names], slot=7)


async def test_replies_are_those_of_each_call_in_order(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        calls = [
            Call("write", [["echo", 1, "a"], ["fail", 1, "ERR no"], ["echo", 1, b"\xff\x00"]]),
            Call("free", [["body", 2, 1], ["echo", 2, [1, "x", False, -5]]], [b"first", b"second"]),
            count("n", "n"),
        ]
        exchange = await under_test.lane.exchange(calls)
        first, second, third = exchange.replies
        assert isinstance(first, list)
        assert first[0] == b"a"
        assert isinstance(first[1], ItemError)
        assert str(first[1]) == "ERR no"
        assert first[2] == b"\xff\x00"
        assert second == [b"second", [1, b"x", False, -5]]
        assert third == [1, 2]
        assert exchange.version is None


async def test_version_comes_with_the_replies(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        assert (await under_test.lane.exchange([], True)).version == "1.0"
        async with connected(server.url) as other:
            await other.ask_one("SET", "mq:{m}:ver", "3.14")
            exchange = await under_test.lane.exchange([count("n")], read_version=True)
            assert exchange.replies == [[1]]
            assert exchange.version == "3.14"
            assert (await under_test.lane.exchange([count("n")])).version is None


async def test_nothing_to_ask_asks_nothing(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        exchange = await under_test.lane.exchange([])
        assert exchange.replies == []
        assert under_test.connections == []


async def test_large_batch(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        body = bytes(range(256)) * 4096
        calls = [Call("write", [["body", 1, i] for i in range(3)], [body] * 3) for _ in range(4)]
        exchange = await under_test.lane.exchange(calls)
        assert exchange.replies == [[body] * 3] * 4


async def test_lost_library_is_loaded_again(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        await under_test.lane.exchange([count("n")])
        async with connected(server.url) as other:
            await other.ask_one("FUNCTION", "FLUSH")
            exchange = await under_test.lane.exchange([count("n"), count("n")])
            assert exchange.replies == [[2], [3]]
            assert len(under_test.connections) == 1
            assert under_test.statuses == []


async def test_killed_server_gets_the_same_batch_again(server: RunningServer) -> None:
    """Somebody kills the server again and again: each exchange is carried out once, or once more."""
    async with lane_to(server.url) as under_test:
        replies: list[object] = []
        kills = 0

        async def exchange_many() -> None:
            while len(replies) < 300 or kills < 4:  # a slow killer finds somebody at work, too
                exchange = await under_test.lane.exchange([count("n")])
                replies.append(exchange.replies[0])

        with anyio.fail_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(exchange_many)
                while kills < 4:
                    await anyio.sleep(0.01)
                    if len(replies) >= 60 * kills:
                        server.kill()
                        server.start()
                        kills += 1
        numbers = [reply[0] for reply in replies if isinstance(reply, list)]
        assert len(numbers) == len(replies)
        assert numbers == sorted(set(numbers))
        assert len(numbers) <= numbers[-1] <= len(numbers) + kills
        assert under_test.lane.away_since is None


async def test_status_tells_away_and_back(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        await under_test.lane.exchange([count("n")])
        under_test.statuses.clear()
        server.kill()
        before = anyio.current_time()
        exchanges: list[Exchange] = []
        answered = anyio.Event()

        async def exchange() -> None:
            exchanges.append(await under_test.lane.exchange([count("n")]))
            answered.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange)
            await anyio.sleep(0.3)
            assert len(under_test.statuses) == 1
            away = under_test.statuses[0]
            assert away.reason
            assert under_test.lane.away_since == away.away_since
            server.start()
            with anyio.fail_after(3):  # the back-off is at most a second
                await answered.wait()
        assert exchanges[0].replies == [[2]]
        assert away.away_since is not None
        assert away.away_since - before < 0.1
        assert [status.away_since for status in under_test.statuses[1:]] == [None]
        assert under_test.lane.away_since is None


async def test_stopped_server_is_left_for_a_new_connection(server: RunningServer) -> None:
    async with lane_to(server.url, timeout_seconds=0.2) as under_test:
        await under_test.lane.exchange([count("n")])
        server.stop()
        exchanges: list[Exchange] = []

        async def exchange() -> None:
            exchanges.append(await under_test.lane.exchange([count("n")]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange)
            await anyio.sleep(0.6)
            assert under_test.lane.away_since is not None
            assert len(under_test.connections) >= 1
            assert under_test.connections[0].is_closed
            server.go_on()
        (answer,) = exchanges
        # The stopped server had the first batch in its socket: carried out as well, its answer met nobody.
        assert answer.replies == [[3]]


async def test_cancelled_exchange_leaves_no_reply_behind(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        await under_test.lane.exchange([Call("write", [["echo", 1, "before"]])])
        server.stop()
        with anyio.move_on_after(0.05) as scope:
            await under_test.lane.exchange([Call("write", [["echo", 1, "cancelled"]])])
        assert scope.cancelled_caught
        assert under_test.connections[0].is_closed
        server.go_on()
        exchange = await under_test.lane.exchange([Call("write", [["echo", 1, "after"]])])
        assert exchange.replies == [[b"after"]]


async def test_exchange_is_cancelled_while_redis_is_away(tmp_path: Path) -> None:
    async with lane_to(f"unix://{tmp_path}/none.sock") as under_test:
        with anyio.move_on_after(0.3) as scope:
            await under_test.lane.exchange([count("n")])
        assert scope.cancelled_caught
        assert len(under_test.statuses) == 1
        assert "No such file" in under_test.statuses[0].reason
        with running_server("valkey", tmp_path) as late:
            (tmp_path / "none.sock").symlink_to(late.url.removeprefix("unix://"))
            assert (await under_test.lane.exchange([count("n")])).replies == [[1]]


async def test_full_server_refuses_single_calls(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        await under_test.lane.exchange([count("n")])
        async with connected(server.url) as other:
            await other.ask_one("CONFIG", "SET", "maxmemory", "1")
            free = Call("free", [["echo", 1, "freed"]])
            exchange = await under_test.lane.exchange([count("n"), free, count("n")], read_version=True)
            assert isinstance(exchange.replies[0], RedisFull)
            assert exchange.replies[1] == [b"freed"]
            assert isinstance(exchange.replies[2], RedisFull)
            await other.ask_one("CONFIG", "SET", "maxmemory", "0")
            assert (await under_test.lane.exchange([count("n")])).replies == [[2]]
            assert under_test.lane.away_since is None


async def test_replica_counts_as_away(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        await under_test.lane.exchange([count("n")])
        async with connected(server.url) as other:
            await other.ask_one("REPLICAOF", "127.0.0.1", "1")
            with anyio.move_on_after(0.3) as scope:
                await under_test.lane.exchange([count("n")])
            assert scope.cancelled_caught
            assert under_test.lane.away_since is not None
            await other.ask_one("REPLICAOF", "NO", "ONE")
            assert (await under_test.lane.exchange([count("n")])).replies == [[2]]
            assert under_test.lane.away_since is None


async def test_dead_incarnation_is_told(server: RunningServer) -> None:
    async with lane_to(server.url, incarnation="gone") as under_test:
        with pytest.raises(NodeGone, match="declared dead"):
            await under_test.lane.exchange([count("n")])


async def test_broken_answer_concerns_its_call_only(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        broken = Call(
            "write", [["fail", 1, "x"], [5]]
        )  # no such operation: the stand-in has no defence against it
        exchange = await under_test.lane.exchange([Call("write", [["echo", 1]]), broken, count("n")])
        assert isinstance(exchange.replies[0], list)
        assert exchange.replies[2] == [1]
        no_function = Call("write")
        no_function.requests.append("not a request")
        exchange = await under_test.lane.exchange([no_function, count("n")])
        assert isinstance(exchange.replies[0], CallFailed)
        assert exchange.replies[1] == [2]


async def test_one_exchange_at_a_time(server: RunningServer) -> None:
    async with lane_to(server.url) as under_test:
        server.stop()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(under_test.lane.exchange, [count("n")])
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="one exchange"):
                await under_test.lane.exchange([count("n")])
            server.go_on()


def test_backoff_grows_to_a_second_and_is_spread() -> None:
    assert backoff_seconds(0, 1.0) == 0.0
    highest = [backoff_seconds(failures, 1.0) for failures in range(1, 40)]
    assert highest == sorted(highest)
    assert highest[0] == pytest.approx(0.04)
    assert highest[-1] == 1.0
    assert backoff_seconds(1000, 0.0) == 0.5
