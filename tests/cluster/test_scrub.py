"""The scrub on a real Redis: what it deletes, what it leaves, whose turn it is."""

import pytest

from cluster.scrub import Scrub
from cluster.store import keys, subscriptions
from cluster.store.keys import SUBSCRIPTION_SHARDS
from cluster.store.store import open_store
from tests.store.caller import OPTIONS, Caller
from tests.store.servers import RunningServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def caller(node_caller: Caller) -> Caller:
    """A node."""
    return node_caller


def write_rows(caller: Caller, *rows: tuple[str, str, int]) -> None:
    """Client id, filter, stamp."""
    caller.ask(subscriptions.rows([(client, filter, OPTIONS, stamp) for client, filter, stamp in rows], []))


def all_rows(caller: Caller) -> set[tuple[str, str]]:
    found = set()
    for shard in range(SUBSCRIPTION_SHARDS):
        for field in caller.hash(keys.subscriptions(caller.prefix, shard)):
            name, _, client_id = field.decode().partition("\0")
            found.add((client_id, name))
    return found


async def test_a_pass_deletes_what_no_session_has(server: RunningServer, caller: Caller) -> None:
    kept = set()
    for number in range(300):
        claim = caller.claim(f"c{number}")
        stamp = caller.subscribe(claim, "kept", client_id=f"c{number}")
        write_rows(caller, (f"c{number}", "kept", stamp), (f"c{number}", "gone", stamp))
        write_rows(caller, (f"nobody{number}", "kept", 1))
        kept.add((f"c{number}", "kept"))
    before = caller.redis.get(keys.version(caller.prefix))
    async with await open_store(server.url, caller.prefix, "node-1") as store:
        scrub = Scrub(store)
        shards = set()
        for _ in range(SUBSCRIPTION_SHARDS):
            caller.redis.delete(f"{caller.prefix}{{m}}:scrub:pace")
            shards.add(await scrub.look())
        assert len(shards) == SUBSCRIPTION_SHARDS
        assert all_rows(caller) == kept
        assert scrub.deleted == 600
    assert caller.redis.get(keys.version(caller.prefix)) != before  # the nodes learn of it by the log


async def test_one_node_at_a_time(server: RunningServer, caller: Caller) -> None:
    async with (
        await open_store(server.url, caller.prefix, "node-1") as one,
        await open_store(server.url, caller.prefix, "node-2") as two,
    ):
        assert await Scrub(one).look() == 1
        assert await Scrub(two).look() is None
        assert await Scrub(one).look() is None
