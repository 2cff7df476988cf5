"""What a node asks Redis now and then: of the nodes, the server, and its part of the queues."""

from collections.abc import Sequence
from typing import cast

import pytest

from broker.observability.sounding import Soundings
from cluster import soundings
from cluster.heartbeat import Heartbeat
from cluster.soundings import PAGE, Sounder, buckets_of
from cluster.store.call import Reply, Request
from cluster.store.connection import Connection
from cluster.store.errors import ItemError
from cluster.store.keys import BUCKETS, bucket_of
from cluster.store.membership import Member
from cluster.store.store import Store

pytestmark = pytest.mark.anyio

LIMIT = 100
NO_CONNECTION = cast(Connection, None)


class Site:
    """A store with queues, and clients that the index has."""

    def __init__(self, lengths: dict[str, int], page_size: int = 3) -> None:
        self.lengths = lengths
        self.clients = list(lengths)
        self.page_size = page_size
        self.byte_limit = 0
        self.asked: list[list[str]] = []
        self.members: Reply = [7, b"node-1.a", 7, b"", b"node-2.b", 4, b""]
        self.heartbeat = Heartbeat(cast(Store, self), "node-1.a", self.ask, lambda _: None, lambda: b"")
        self.soundings = Soundings()
        self.primary = "10.0.0.1:6379"
        self.switches = 3
        self.sounder = Sounder(
            cast(Store, self),
            "node-1.a",
            self.heartbeat,
            self,
            lambda: LIMIT,
            lambda: self.byte_limit,
            self.soundings,
        )

    async def ask(self, request: Request) -> Reply:
        """Nothing here asks by the lane."""
        raise AssertionError(request)

    async def call(self, requests: Sequence[Request], *, function: str = "write") -> list[Reply]:
        """Who is there."""
        return [self.members]

    async def server_figures(self) -> dict[str, int]:
        """As INFO has them."""
        return {"used_memory": 11, "maxmemory": 22, "connected_slaves": 1}

    async def queue_lengths(self, connection: Connection, client_ids: Sequence[str]) -> list[int]:
        """One page."""
        self.asked.append(list(client_ids))
        return [self.lengths[client_id] for client_id in client_ids]

    async def queue_sizes(self, client_ids: Sequence[str]) -> list[int]:
        """A hundred bytes each message, and those of `b` a thousand."""
        return [self.lengths[client_id] * (1000 if client_id == "b" else 100) for client_id in client_ids]

    def clients_on(self, page: int) -> list[str] | None:
        """As the index has them."""
        found = self.clients[page * self.page_size : (page + 1) * self.page_size]
        return found or None


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundings, "PAGE_SECONDS", 0.0)


def _member(incarnation: str, *, is_alive: bool = True) -> Member:
    return Member(incarnation, is_alive, b"")


def test_living_nodes_share_all_buckets() -> None:
    members = [_member("c"), _member("a"), _member("b"), _member("dead", is_alive=False)]
    parts = [buckets_of(each, members) for each in ("a", "b", "c")]
    assert sorted(bucket for part in parts for bucket in part) == list(range(BUCKETS))
    assert {len(part) for part in parts} == {21, 22}
    assert buckets_of("new", []) == frozenset(range(BUCKETS))


async def test_the_server_and_the_others() -> None:
    site = Site({})
    await site.sounder.look()
    found = site.soundings
    assert (found.redis_memory_used, found.redis_memory_maximum, found.redis_replicas) == (11, 22, 1)
    assert (found.redis_primary, found.redis_switches) == (site.primary, site.switches)
    assert found.redis_delayed_fsync is None  # there is no append-only file
    ages = [found.others_beat_age]
    site.members = [7, b"node-1.a", 7, b""]
    await site.sounder.look()
    assert [*ages, found.others_beat_age] == [3, None]
    site.members = ItemError("damaged")
    with pytest.raises(ItemError):
        await site.sounder.look()


def test_the_age_of_the_own_beat_needs_no_answer() -> None:
    site = Site({})
    site.heartbeat.last_beat -= 5
    site.sounder.age()
    assert site.soundings.beat_age == pytest.approx(5, abs=1)


async def test_queues_of_a_part() -> None:
    """Of two nodes each has half of the buckets."""
    lengths = {f"client-{number}": number for number in range(100)}
    site = Site(lengths)
    await site.sounder.look()
    await site.sounder.look_at_queues(NO_CONNECTION)
    ours = {client_id: length for client_id, length in lengths.items() if bucket_of(client_id) % 2 == 0}
    found = site.soundings
    assert 0 < len(ours) < 100
    assert sorted(each for page in site.asked for each in page) == sorted(ours)
    assert found.queue_entries == sum(ours.values())
    assert found.queues_nearly_full == sum(length >= 80 for length in ours.values())
    assert found.queue_fullest == max(ours.values()) / LIMIT
    assert ours[found.queue_fullest_client] == max(ours.values())


async def test_pages_are_bounded() -> None:
    site = Site({f"client-{number}": 1 for number in range(3 * PAGE)}, page_size=PAGE - 1)
    site.members = [7, b"node-1.a", 7, b""]
    await site.sounder.look()
    await site.sounder.look_at_queues(NO_CONNECTION)
    assert max(map(len, site.asked)) <= PAGE
    assert site.soundings.queue_entries == 3 * PAGE


async def test_a_queue_that_was_emptied_is_not_the_fullest_any_more() -> None:
    site = Site({"a": 90, "b": 10})
    site.members = [7, b"node-1.a", 7, b""]
    await site.sounder.look()
    await site.sounder.look_at_queues(NO_CONNECTION)
    assert site.soundings.queue_fullest == 0.9
    site.lengths["a"] = 0
    await site.sounder.look_at_queues(NO_CONNECTION)
    assert (site.soundings.queue_fullest, site.soundings.queue_fullest_client) == (0.1, "b")
    site.clients = []
    await site.sounder.look_at_queues(NO_CONNECTION)
    assert (site.soundings.queue_fullest, site.soundings.queue_entries) == (0, 0)


async def test_bytes_of_queues_count_if_they_are_limited() -> None:
    site = Site({"a": 20, "b": 9, "empty": 0})
    site.members = [7, b"node-1.a", 7, b""]
    await site.sounder.look()
    for limit, found in ((0, (0.2, "a", 0)), (10_000, (0.9, "b", 1))):
        site.byte_limit = limit
        await site.sounder.look_at_queues(NO_CONNECTION)
        soundings = site.soundings
        assert (
            soundings.queue_fullest,
            soundings.queue_fullest_client,
            soundings.queues_nearly_full,
        ) == found
