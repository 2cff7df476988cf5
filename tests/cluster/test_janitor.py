"""The janitor on a real Redis: it does all that is due, a little in each call."""

import pytest

from cluster.janitor import Janitor
from cluster.store import keys
from cluster.store.call import Reply, Request
from cluster.store.deadlines import EndedSession
from cluster.store.store import Store, open_store
from tests.store.caller import Caller
from tests.store.servers import RunningServer

pytestmark = pytest.mark.anyio

ENDS_PER_CALL = 64


@pytest.fixture
def caller(node_caller: Caller) -> Caller:
    """A node."""
    return node_caller


async def test_many_sessions_that_expire_at_once_end_in_several_calls(
    server: RunningServer, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{number}" for number in range(3000)]
    crowded = [name for name in names if keys.bucket_of(name) == 5]
    expiring = names[:300] + crowded
    for name in dict.fromkeys(expiring):
        caller.detach(caller.claim(name, expiry=1), name)
    for bucket in range(keys.BUCKETS):
        caller.pass_time(2000, next(name for name in names if keys.bucket_of(name) == bucket))
    ended: list[EndedSession] = []
    ends: list[int] = []
    call = Store.call

    async def counted(store: Store, requests: list[Request], *, function: str) -> list[Reply]:
        replies = await call(store, requests, function=function)
        ends.append(sum(len(reply[2]) // 2 for reply in replies if isinstance(reply, list)))
        return replies

    monkeypatch.setattr(Store, "call", counted)
    async with await open_store(server.url, caller.prefix, "node-1") as store:
        await Janitor(store, lambda _: None, ended.append, lambda _: None).look()
    assert sorted(each.client_id for each in ended) == sorted(set(expiring))
    assert sum(ends) == len(ended)
    assert max(ends) <= ENDS_PER_CALL
