"""The proxy does to the connections of a node what it says, and springs its trap at the right call."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
import redis
import uvloop
from redis.backoff import NoBackoff
from redis.retry import Retry

from cluster.store import membership
from cluster.store.library import library_source
from tests.cluster.proxy import Proxy, Trap
from tests.cluster.resp import Splitter, arguments, incarnation, operations
from tests.node.redis_server import RedisServer, running_redis
from tests.store.caller import Caller

COMMANDS = [
    b"*1\r\n$4\r\nPING\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\n*1\r\n$1\r\n",
    b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
]
HELD_SECONDS = 0.15
Scenario = Callable[[Proxy, Caller], Awaitable[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis") / "redis") as server:
        with server.client() as client:
            client.function_load(library_source())
        yield server


def through_proxy(server: RedisServer, scenario: Scenario) -> None:
    """Runs it with a proxy and a caller behind it; calls are made in threads, as the proxy is in the loop."""

    async def run() -> None:
        proxy = Proxy(server.port)
        await proxy.start()
        client = redis.Redis(port=proxy.port, socket_timeout=5.0, retry=Retry(NoBackoff(), 0))
        try:
            await scenario(proxy, Caller.with_new_prefix(client).other("me"))
        finally:
            await asyncio.to_thread(client.close)
            await proxy.close()

    uvloop.run(run())


def joins(caller: Caller) -> Awaitable[object]:
    """A call that can be seen."""
    return asyncio.ensure_future(asyncio.to_thread(caller.ask, membership.join(caller.incarnation)))


def members(server: RedisServer, caller: Caller) -> bool:
    """Whether that call was carried out; asked beside the proxy."""
    with server.client() as client:
        return bool(client.keys(f"{caller.prefix}*nodes"))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_splitter(size: int) -> None:
    data = b"".join(COMMANDS * 3)
    splitter = Splitter()
    found = [
        command
        for begin in range(0, len(data), size)
        for command in splitter.feed(data[begin : begin + size])
    ]
    assert found == COMMANDS * 3


def test_what_is_no_command() -> None:
    with pytest.raises(ValueError, match="no array"):
        list(Splitter().feed(b"PING\r\n"))


def test_arguments() -> None:
    assert [arguments(command) for command in COMMANDS] == [
        [b"PING"],
        [b"SET", b"k", b"*1\r\n$1"],
        [b"GET", b""],
    ]
    assert [operations(command) for command in COMMANDS] == [[], [], []]
    assert incarnation(COMMANDS[1]) == ""


def test_it_passes_and_knows_the_incarnation(server: RedisServer) -> None:
    async def scenario(proxy: Proxy, caller: Caller) -> None:
        await joins(caller)
        assert members(server, caller)
        assert proxy.incarnation == "me"

    through_proxy(server, scenario)


def test_cut_and_mend(server: RedisServer) -> None:
    async def scenario(proxy: Proxy, caller: Caller) -> None:
        await joins(caller)
        proxy.cut()
        with pytest.raises(redis.ConnectionError):
            await joins(caller)
        proxy.mend()
        await joins(caller)

    through_proxy(server, scenario)


def test_swallow_and_mend(server: RedisServer) -> None:
    async def scenario(proxy: Proxy, caller: Caller) -> None:
        await joins(caller)
        proxy.swallow()
        other = Caller(caller.redis, caller.prefix + "2", "me")
        call = asyncio.ensure_future(joins(other))
        await asyncio.wait([call], timeout=HELD_SECONDS)
        assert not call.done()
        assert not members(server, other)
        proxy.mend()
        await call
        assert members(server, other)

    through_proxy(server, scenario)


def test_latency(server: RedisServer) -> None:
    async def scenario(proxy: Proxy, caller: Caller) -> None:
        await joins(caller)
        proxy.latency_seconds = 0.05
        begin = time.monotonic()
        await joins(caller)
        assert time.monotonic() - begin > 0.1

    through_proxy(server, scenario)


@pytest.mark.parametrize("after", [False, True])
def test_trap(server: RedisServer, after: bool) -> None:
    """Before: Redis does not have the call. After: it has, but the caller has no reply. Then both go on."""

    async def scenario(proxy: Proxy, caller: Caller) -> None:
        sprung: list[bool] = []
        proxy.trap = Trap(1, lambda: sprung.append(True), after, frozenset({"join"}))
        call = asyncio.ensure_future(joins(caller))
        await proxy.trap.sprung.wait()
        await asyncio.wait([call], timeout=HELD_SECONDS)
        assert (sprung, call.done()) == ([True], False)
        assert members(server, caller) is after
        proxy.mend()
        await call
        assert members(server, caller)

    through_proxy(server, scenario)


def test_trap_of_one_who_dies(server: RedisServer) -> None:
    """What was held before the call is never carried out."""

    async def scenario(proxy: Proxy, caller: Caller) -> None:
        proxy.trap = Trap(1, lambda: None, operations=frozenset({"join"}))
        call = asyncio.ensure_future(joins(caller))
        await proxy.trap.sprung.wait()
        proxy.reset()
        with pytest.raises(redis.ConnectionError):
            await call
        proxy.mend()
        await asyncio.to_thread(caller.redis.ping)
        assert not members(server, caller)

    through_proxy(server, scenario)


def test_trap_counts(server: RedisServer) -> None:
    """Only what it is for, and not what nodes do all the time."""

    async def scenario(proxy: Proxy, caller: Caller) -> None:
        await joins(caller)
        trap = proxy.trap = Trap(2, lambda: None)
        await asyncio.to_thread(caller.ask, membership.beat("me"))
        await asyncio.to_thread(caller.claim, "one")
        assert (trap.seen, trap.sprung.is_set()) == (["claim"], False)
        call = asyncio.ensure_future(asyncio.to_thread(caller.claim, "two"))
        await trap.sprung.wait()
        proxy.mend()
        await call
        trap = proxy.trap = Trap(1, lambda: None, containing=b"three")
        await asyncio.to_thread(caller.claim, "four")
        assert trap.seen == []

    through_proxy(server, scenario)
