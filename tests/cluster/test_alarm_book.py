"""Alarms in Redis: each node writes its own, and those of nodes that are gone go away."""

from collections.abc import Mapping, Sequence
from typing import cast

import orjson
import pytest

from cluster.alarms import LIFETIME_MS, SHOWN_MAXIMUM, Alarm, AlarmBook, in_order, pack
from cluster.store.store import Store

pytestmark = pytest.mark.anyio


class Hash:
    """The hash of alarms, and the time of Redis."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.now_ms = 1_000_000
        self.ttl_seconds = 0

    async def time_ms(self) -> int:
        """What time it is there."""
        return self.now_ms

    async def alarms(self) -> dict[bytes, bytes]:
        """All of it."""
        return dict(self.fields)

    async def put_alarms(self, alarms: Mapping[str, bytes], ttl_seconds: int) -> None:
        """Adds these."""
        self.fields.update({field.encode(): alarm for field, alarm in alarms.items()})
        self.ttl_seconds = ttl_seconds

    async def drop_alarms(self, fields: Sequence[str]) -> None:
        """Takes these away."""
        for field in fields:
            del self.fields[field.encode()]

    def book(self, incarnation: str) -> AlarmBook:
        """Of a node."""
        return AlarmBook(cast(Store, self), incarnation)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _alarm(name: str, node: str = "node", severity: str = "warning") -> Alarm:
    return Alarm(name, severity, node, 1, 2.0, 3.0, "text")


async def test_each_writes_its_own_and_sees_all() -> None:
    store = Hash()
    one, two = store.book("one.a"), store.book("two.b")
    one.own = (_alarm("cpu", "one"), _alarm("drops", "one"))
    two.own = (_alarm("redis_memory", "two", "critical"),)
    await one.write()
    await two.write()
    assert sorted(store.fields) == [b"one.a/cpu", b"one.a/drops", b"two.b/redis_memory"]
    assert store.ttl_seconds * 1000 == LIFETIME_MS
    for book in (one, two, store.book("looker")):
        assert [alarm.name for alarm in await book.all()] == ["redis_memory", "cpu", "drops"]
    one.own = one.own[:1]
    await one.write()
    assert sorted(store.fields) == [b"one.a/cpu", b"two.b/redis_memory"]


async def test_what_nobody_writes_again_goes_away() -> None:
    """Of a node that is gone: first it is not shown, then somebody takes it away."""
    store = Hash()
    gone, living = store.book("gone.a"), store.book("living.b")
    gone.own = (_alarm("cpu", "gone"),)
    living.own = (_alarm("drops", "living"),)
    await gone.write()
    await living.write()
    store.now_ms += LIFETIME_MS - 1
    await living.write()
    assert len(await living.all()) == 2
    store.now_ms += 1
    assert [alarm.node for alarm in await living.all()] == ["living"]
    await living.write()
    assert list(store.fields) == [b"living.b/drops"]


async def test_a_node_shows_its_own_even_if_redis_took_none() -> None:
    store = Hash()
    book = store.book("full.a")
    book.own = (_alarm("redis_memory"),)
    assert await book.all() == [_alarm("redis_memory")]
    store.fields[b"full.a/cpu"] = orjson.dumps({})  # of a moment ago, and not true any more
    assert await book.all() == [_alarm("redis_memory")]


async def test_what_a_newer_release_writes_is_left_alone() -> None:
    store = Hash()
    store.fields[b"new.a/odd"] = b'{"kind": 7}'
    book = store.book("old.b")
    await book.write()
    assert await book.all() == []
    assert list(store.fields) == [b"new.a/odd"]
    known = orjson.loads(pack([_alarm("cpu")]))[0]
    store.fields[b"new.a/cpu"] = orjson.dumps({**known, "until_ms": 1 << 50, "more": 1})
    assert [alarm.name for alarm in await book.all()] == ["cpu"]


def test_the_topic_has_a_bounded_list() -> None:
    alarms = in_order([_alarm(f"a{number}") for number in range(SHOWN_MAXIMUM + 10)])
    shown = orjson.loads(pack(alarms))
    assert len(shown) == SHOWN_MAXIMUM
    assert shown[0] == {
        "name": "a0",
        "severity": "warning",
        "node": "node",
        "since_ms": 1,
        "value": 2.0,
        "threshold": 3.0,
        "text": "text",
        "runbook": "docs/runbook.md#a0",
    }
