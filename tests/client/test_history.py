"""What is kept of a client's events, and what is not. The store is played by the test."""

from collections.abc import Sequence

import pytest

from broker.client.history import (
    CLIENTS_AT_A_TIME,
    IN_ORDER,
    History,
    HistoryLimits,
    brief,
)
from broker.client.recent import CLIENTS_WAITING, EVENTS_AT_A_TIME
from broker.observability.events import CONNECTED, DISCONNECTED, REFUSED, SUBSCRIBED, Event
from cluster.store.call import Reply, Request
from cluster.store.errors import CallFailed, NodeGone, RedisFull, StoreUnavailable
from cluster.store.events import BEGAN, WENT_ON, StoredEvent, unpack_events

pytestmark = pytest.mark.anyio

LIMITS = HistoryLimits(events=50, seconds=100, clients=1000)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Store:
    """Keeps what is written; may be away."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.calls: list[int] = []
        self.trouble: Exception | None = None

    async def write(self, requests: Sequence[Request]) -> Sequence[Reply]:
        if self.trouble is not None:
            raise self.trouble
        self.calls.append(len(requests))
        return [self._note(*request) for request in requests]

    def _note(self, *request: object) -> Reply:
        operation, _, client_id, packed, most, ttl_ms, may_begin = request
        assert (operation, most, ttl_ms) == ("note_events", 5000, 100_000)
        assert isinstance(client_id, str)
        assert isinstance(packed, bytes)
        before = self.kept.get(client_id)
        if before is None and not may_begin:
            return 0
        self.kept[client_id] = packed + (before or b"")
        return BEGAN if before is None else WENT_ON

    def events(self, client_id: str) -> list[StoredEvent]:
        return unpack_events(self.kept.get(client_id, b""))


def history(store: Store, limits: HistoryLimits = LIMITS, now: float = 0.0) -> History:
    return History(store.write, limits, lambda: now)


def event(client_id: str, kind: str = CONNECTED, at_ms: int = 1, **fields: object) -> Event:
    return Event(kind, client_id, at_ms, fields)


async def test_events_of_a_second_go_in_one_request_for_each_client() -> None:
    store = Store()
    kept = history(store)
    for number in range(3):
        kept.recent.take(event("a", CONNECTED, 1, address="192.0.2.1"))
        kept.recent.take(event(f"b{number}", SUBSCRIBED, 2))
    kept.recent.take(event("a", DISCONNECTED, 3, reason="client disconnected"))
    await kept.flush()
    assert store.calls == [4]
    newest, *others = store.events("a")
    assert newest == StoredEvent(3, DISCONNECTED, {"reason": "client disconnected"})
    assert others == [StoredEvent(1, CONNECTED, {"address": "192.0.2.1"})] * 3
    await kept.flush()
    assert store.calls == [4]


async def test_long_fields_are_cut() -> None:
    store = Store()
    kept = history(store)
    kept.recent.take(event("a", SUBSCRIBED, filters=[{"filter": "f" * 1000, "qos": 1}] * 1000))
    await kept.flush()
    (only,) = store.events("a")
    assert len(str(only.fields)) < 1200


@pytest.mark.parametrize(
    ("is_persistent", "reason", "is_kept"),
    [(False, IN_ORDER, False), (True, IN_ORDER, True), (False, "connection lost", True)],
)
async def test_who_comes_and_goes_at_once_leaves_nothing(
    is_persistent: bool, reason: str, is_kept: bool
) -> None:
    store = Store()
    kept = history(store)
    kept.recent.take(event("a", CONNECTED, persistent=is_persistent))
    kept.recent.take(event("a", DISCONNECTED, reason=reason))
    await kept.flush()
    assert bool(store.kept) == is_kept
    assert kept.lost == 0


async def test_one_client_does_not_flood() -> None:
    store = Store()
    kept = history(store)
    for number in range(1000):
        kept.recent.take(event("a", at_ms=number))
    await kept.flush()
    assert [each.at_ms for each in store.events("a")] == list(range(999, 999 - EVENTS_AT_A_TIME, -1))
    assert kept.lost == 1000 - EVENTS_AT_A_TIME


async def test_many_clients_are_written_in_turn_and_bounded() -> None:
    store = Store()
    kept = history(store, HistoryLimits(50, 100, 1_000_000))
    for number in range(CLIENTS_WAITING + 5):
        kept.recent.take(event(f"c{number}"))
    assert kept.lost == 5
    await kept.flush()
    assert len(store.kept) == CLIENTS_AT_A_TIME
    assert max(store.calls) <= 100
    while len(store.kept) < CLIENTS_WAITING:
        await kept.flush()
    assert kept.lost == 5


@pytest.mark.parametrize("kind", [StoreUnavailable, RedisFull, CallFailed])
async def test_while_redis_is_away_events_are_lost_and_counted(kind: type[Exception]) -> None:
    store = Store()
    kept = history(store)
    store.trouble = kind("trouble")
    kept.recent.take(event("a"))
    kept.recent.take(event("b"))
    await kept.flush()
    assert kept.lost == 2
    store.trouble = None
    kept.recent.take(event("a", at_ms=5))
    await kept.flush()
    assert [each.at_ms for each in store.events("a")] == [5]


async def test_a_node_that_is_dead_to_the_others_is_told() -> None:
    store = Store()
    kept = history(store)
    store.trouble = NodeGone("gone")
    kept.recent.take(event("a"))
    with pytest.raises(NodeGone):
        await kept.flush()


async def test_ever_new_clients_do_not_fill_redis() -> None:
    store = Store()
    now = 0.0
    kept = History(store.write, HistoryLimits(50, 100, 10), lambda: now)
    for number in range(30):
        kept.recent.take(event(f"c{number}"))
        await kept.flush()
    assert len(store.kept) == 11  # one more, as none is owed yet
    assert kept.lost == 19
    kept.recent.take(event("c0", DISCONNECTED))
    await kept.flush()
    assert [each.kind for each in store.events("c0")] == [DISCONNECTED, CONNECTED]
    now = 20.0
    for number in range(30, 60):
        kept.recent.take(event(f"c{number}"))
        await kept.flush()
    assert len(store.kept) == 11 + 2


async def test_strangers_do_not_take_the_places_of_others() -> None:
    """Who is refused may make up any Client Identifier."""
    store = Store()
    kept = history(store)
    for number in range(100):
        kept.recent.take(event(f"stranger-{number}", REFUSED))
        await kept.flush()
    assert len(store.kept) == LIMITS.clients // 100 + 1
    kept.recent.take(event("known"))
    kept.recent.take(event("known", REFUSED))
    await kept.flush()
    assert [each.kind for each in store.events("known")] == [REFUSED, CONNECTED]


async def test_nothing_is_kept_of_identifiers_that_the_broker_made() -> None:
    store = Store()
    kept = history(store)
    kept.recent.take(event("auto-0123"))
    await kept.flush()
    assert (store.kept, kept.lost) == ({}, 0)


def test_fields_are_brief() -> None:
    filters = [{"filter": f"f/{number}", "qos": 1} for number in range(7)]
    fields = {
        "username": None, "reason": "r" * 1000, "protocol": 5, "session_present": False, "filters": filters,
        "names": ["a", "b"],
    }  # fmt: skip
    assert brief(fields) == {
        "username": None,
        "reason": "r" * 200,
        "protocol": 5,
        "session_present": False,
        "filters": [*(f"f/{number} (QoS 1)" for number in range(5)), "and 2 more"],
        "names": ["a", "b"],
    }
