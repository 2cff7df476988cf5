"""The reaper on a real Redis: it may die between any two of its calls, and others may do the same work."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from cluster.reaper import Reaper
from cluster.store import inboxes, keys, membership, subscriptions
from cluster.store.call import Reply, Request
from cluster.store.deadlines import DueWill, EndedSession
from cluster.store.errors import NodeGone, StoreUnavailable
from cluster.store.store import Store, open_store
from tests.store.caller import Caller
from tests.store.servers import RunningServer

pytestmark = pytest.mark.anyio

CLIENTS = 150
FILTERS = 600


@pytest.fixture
def dead(node_caller: Caller) -> Caller:
    """The node that will be dead, in a cluster of its own."""
    return node_caller.other("dead")


class Life:
    """A living node: its store, which may break after some calls, and what its reaper has found."""

    def __init__(self, store: Store, caller: Caller, calls_left: int) -> None:
        self.caller = caller
        self.calls_left = calls_left
        self.wills: list[bytes] = []
        self.ended: list[str] = []
        self._store = store
        self.reaper = Reaper(self, self._on_wills, self._on_ended)  # type: ignore[arg-type]  # all of a store that it uses

    async def call(self, requests: Sequence[Request], *, function: str) -> list[Reply]:
        """As the store's, until it is lost."""
        if self.calls_left == 0:
            raise StoreUnavailable("lost")
        self.calls_left -= 1
        return await self._store.call(requests, function=function)

    def pass_ticks(self, count: int = 5) -> None:
        """Beats for so many seconds."""
        for _ in range(count):
            self.caller.redis.delete(keys.tick(self.caller.prefix) + ":pace")
            self.caller.ask(membership.beat(self.caller.incarnation))

    def _on_wills(self, wills: Sequence[DueWill]) -> None:
        self.wills += [will.member for will in wills]

    def _on_ended(self, ended: EndedSession) -> None:
        self.ended.append(ended.client_id)


@asynccontextmanager
async def living(
    server: RunningServer, dead: Caller, incarnation: str = "a", calls_left: int = -1
) -> AsyncIterator[Life]:
    """Another member of the cluster; it loses Redis after so many calls."""
    async with await open_store(server.url, dead.prefix, incarnation) as store:
        await store.ping()
        caller = dead.other(incarnation)
        caller.ask(membership.join(incarnation))
        yield Life(store, caller, calls_left)


def die(dead: Caller) -> None:
    """Joins, has all kinds of clients and interest, and is heard of no more."""
    dead.ask(membership.join(dead.incarnation))
    for number in range(CLIENTS):
        dead.claim(f"{dead.incarnation}-{number}", expiry=3600 * (number % 2), will=b"will")
    dead.ask(inboxes.open_inbox(dead.incarnation))
    filters = [f"1:f/{number}" for number in range(FILTERS)]
    dead.ask(subscriptions.interest(dead.incarnation, filters, []))


def is_member(caller: Caller) -> bool:
    return caller.redis.zscore(keys.nodes(caller.prefix), caller.incarnation) is not None


def assert_reaped(dead: Caller, *lives: Life) -> None:
    """Every session was given back by exactly one of them, and nothing but tombstones names the dead."""
    ended = Counter(client_id for life in lives for client_id in life.ended)
    assert ended == Counter(f"dead-{number}" for number in range(0, CLIENTS, 2))
    wills = [member for life in lives for member in life.wills]
    assert len(wills) == len(set(wills)) == CLIENTS
    assert not is_member(dead)
    names = [name.removeprefix(dead.prefix) for name in dead.key_names()]
    slots = [keys.META_SLOT, *range(keys.BUCKETS), *(life.caller.incarnation for life in lives)]
    left = {name for name in names if name.endswith(":dead")} - {
        "{dead}:gone:dead"
    }  # unless it had left before
    assert left == {f"{{{slot}}}:gone:dead" for slot in slots}
    assert len([name for name in names if "}:s:dead-" in name]) == CLIENTS // 2


async def test_all_of_a_dead_node_is_given_back(server: RunningServer, dead: Caller) -> None:
    die(dead)
    async with living(server, dead) as life:
        life.pass_ticks(4)
        await life.reaper.look()
        assert (life.wills, life.ended) == ([], [])
        life.pass_ticks(1)
        for _ in range(2):
            await life.reaper.look()
            assert_reaped(dead, life)
        assert is_member(life.caller)


async def test_another_goes_on_wherever_the_reaper_dies(server: RunningServer, dead: Caller) -> None:
    is_complete = False
    calls = 0
    while not is_complete:
        dead.redis.flushdb()
        die(dead)
        async with (
            living(server, dead, calls_left=calls) as first,
            living(server, dead, "b") as second,
        ):
            first.pass_ticks()
            second.pass_ticks(1)
            try:
                await first.reaper.look()
                is_complete = True
            except StoreUnavailable:
                await second.reaper.look()
            assert_reaped(dead, first, second)
        calls += 1
    assert calls > 8  # it looks, buries twice, reaps several times, forgets several times


async def test_two_at_the_same_time(server: RunningServer, dead: Caller) -> None:
    die(dead)
    async with living(server, dead) as first, living(server, dead, "b") as second:
        first.pass_ticks()
        second.pass_ticks(1)
        async with anyio.create_task_group() as group:
            group.start_soon(first.reaper.look)
            group.start_soon(second.reaper.look)
        assert_reaped(dead, first, second)


async def test_one_that_makes_trouble_delays_no_other(
    server: RunningServer, dead: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    bad = dead.other("bad")  # comes before "dead"
    for node in (bad, dead):
        die(node)
    owned = keys.owned(bad.prefix, keys.bucket_of("bad-0"), "bad")
    bad.redis.delete(owned)
    bad.redis.set(owned, "no set")
    async with living(server, dead) as life:
        life.pass_ticks()
        await life.reaper.look()
        assert "dead node bad can't be reaped: WRONGTYPE" in caplog.text
        assert (is_member(bad), is_member(dead)) == (True, False)
        bad.redis.delete(owned)
        await life.reaper.look()
        assert not is_member(bad)


async def test_a_damaged_session_is_named(
    server: RunningServer, dead: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    dead.ask(membership.join("dead"))
    dead.claim("c")
    dead.redis.set(keys.session(dead.prefix, keys.bucket_of("c"), "c"), "no hash")
    async with living(server, dead) as life:
        life.pass_ticks()
        await life.reaper.look()
    assert [record.__dict__["client_id"] for record in caplog.records if record.levelname == "ERROR"] == ["c"]
    assert not is_member(dead)


async def test_who_is_declared_dead_reaps_nobody(server: RunningServer, dead: Caller) -> None:
    die(dead)
    async with living(server, dead) as first, living(server, dead, "b") as second:
        second.pass_ticks()
        assert second.caller.ask(membership.bury(keys.META_SLOT, "a"))
        with pytest.raises(NodeGone):
            await first.reaper.look()
        assert is_member(dead)


async def test_it_looks_again_when_redis_is_back(server: RunningServer, dead: Caller) -> None:
    die(dead)
    async with living(server, dead, calls_left=0) as life, anyio.create_task_group() as group:
        life.pass_ticks()
        group.start_soon(life.reaper.run)
        await anyio.sleep(1.2)  # the first look fails
        assert is_member(dead)
        life.calls_left = -1
        for _ in range(100):
            await anyio.sleep(0.05)
            if not is_member(dead):
                break
        group.cancel_scope.cancel()
        assert_reaped(dead, life)
