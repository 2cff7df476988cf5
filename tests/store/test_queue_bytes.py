"""`enqueue` with a limit in bytes: lua/queue_bytes.lua."""

from typing import cast

import pytest

from cluster.store import keys, queues
from cluster.store.entry import pack_body
from tests.store.caller import Caller

KB = 1000
LIMIT = 100 * KB
BUCKET = keys.bucket_of("c")


def body(size: int, topic: str = "t") -> bytes:
    return pack_body(topic, bytes(size), b"", 0)


def away(caller: Caller) -> int:
    """A session whose client is gone and was sent nothing; its gen."""
    claim = caller.subscribed(window=2)
    caller.detach(claim, sent=0)
    return claim.gen


def put(
    caller: Caller, amount: int = 1, size: int = 10 * KB, *, limit: int = LIMIT, drop_oldest: bool = True
) -> tuple[object, object]:
    """Statuses, and how many older ones went."""
    reply = caller.enqueue(amount, drop_oldest=drop_oldest, body=body(size), byte_limit=limit)
    return reply[3], reply[4]


def acknowledge(caller: Caller, gen: int, *numbers: int) -> None:
    caller.ask(queues.ack(BUCKET, "c", [value for n in numbers for value in (gen, n)]))


def counted(caller: Caller) -> int:
    """Bytes, as the session says."""
    return int((caller.field("bytes") or "-1").split()[0])


def usage(caller: Caller) -> int:
    """Bytes, as Redis says."""
    return caller.redis.memory_usage(keys.queue(caller.prefix, BUCKET, "c"), samples=0) or 0


def test_the_oldest_go_when_there_are_too_many_bytes(caller: Caller) -> None:
    away(caller)
    for _ in range(9):
        assert put(caller) == (False, 0)
    assert put(caller) == (False, 1)
    assert put(caller, 3) == (False, 3)
    assert caller.ids() == [5, 6, 7, 8, 9, 10, 11, 12, 13]
    letters = caller.stream(keys.letters(caller.prefix, BUCKET))
    assert [fields[b"reason"] for _, fields in letters] == [b"drop_oldest"] * 4
    assert usage(caller) < LIMIT * 1.3  # what is allocated for an entry is up to a quarter more than it


def test_new_ones_go_by_the_other_policy(caller: Caller) -> None:
    away(caller)
    assert put(caller, 12, drop_oldest=False) == ([0] * 9 + [3] * 3, 0)
    assert put(caller, drop_oldest=False) == ([3], 0)
    assert put(caller, 1, 1 * KB, drop_oldest=False) == (False, 0)  # there is room for a small one
    assert caller.ids() == list(range(1, 11))


def test_of_a_batch_that_is_too_large_the_newest_stay(caller: Caller) -> None:
    away(caller)
    put(caller, 2)
    assert put(caller, 12) == ([3] * 3 + [0] * 9, 2)
    assert caller.ids() == list(range(3, 12))


def test_what_may_have_been_sent_stays(caller: Caller) -> None:
    caller.subscribed(window=20)
    assert put(caller, 11) == ([0] * 9 + [3] * 2, 0)
    assert put(caller) == ([3], 0)
    assert caller.ids() == list(range(1, 10))


def test_both_limits_hold_at_once(caller: Caller) -> None:
    away(caller)
    put(caller, 9)
    reply = caller.enqueue(2, limit=10, body=body(20 * KB), byte_limit=LIMIT)
    assert reply[3:] == [False, 4]
    assert caller.ids() == [5, 6, 7, 8, 9, 10, 11]
    assert counted(caller) <= LIMIT


@pytest.mark.parametrize("drop_oldest", [True, False])
def test_acknowledged_bytes_make_room(caller: Caller, drop_oldest: bool) -> None:
    gen = away(caller)
    put(caller, 9)
    acknowledge(caller, gen, 1, 2, 3)
    assert put(caller, 3, drop_oldest=drop_oldest) == (False, 0)
    for n in range(4, 40):
        acknowledge(caller, gen, n)
        assert put(caller, drop_oldest=drop_oldest) == (False, 0)


def test_an_empty_queue_has_room(caller: Caller) -> None:
    gen = away(caller)
    for n in range(1, 30):
        assert put(caller, 1, 60 * KB) == (False, 0)
        acknowledge(caller, gen, n)
    assert caller.ids() == []


def test_what_others_have_appended_counts(caller: Caller) -> None:
    """Nodes without the limit, of an older release, replays."""
    away(caller)
    put(caller, 4)
    caller.enqueue(20, body=body(10 * KB))
    assert counted(caller) < 50 * KB
    assert [put(caller)[1] for _ in range(3)] == [5] * 3  # an entry of so many bytes pays for five others
    put(caller)
    assert counted(caller) <= LIMIT
    assert usage(caller) < LIMIT * 1.3


def test_a_lower_limit_counts_at_once(caller: Caller) -> None:
    away(caller)
    put(caller, 9)
    assert put(caller, limit=LIMIT // 2) == (False, 5)
    assert put(caller, 1, limit=LIMIT // 2, drop_oldest=False) == ([3], 0)


def test_a_large_message_does_not_drop_thousands_at_once(caller: Caller) -> None:
    away(caller)
    caller.enqueue(990, body=body(100))
    assert put(caller, 1, 20 * KB, limit=80 * KB)[1] == 10
    put(caller, 1, 20 * KB, limit=80 * KB)
    assert caller.ids()[0] == 21


def test_a_full_queue_of_one_that_is_away_is_not_looked_at_again(caller: Caller) -> None:
    away(caller)
    put(caller, 9)
    before = looks(caller)
    for _ in range(20):
        put(caller)
    assert looks(caller) == before


def looks(caller: Caller) -> int:
    """How often Redis was asked for the memory that a key takes."""
    stats = cast(dict[str, dict[str, int]], caller.redis.info("commandstats"))
    return stats.get("cmdstat_memory|usage", {"calls": 0})["calls"]


def test_nothing_is_counted_without_a_limit(caller: Caller) -> None:
    away(caller)
    put(caller, 50, limit=0)
    assert caller.ids() == list(range(1, 51))
    assert caller.field("bytes") is None


def test_entries_that_are_refused_or_had_take_no_room(caller: Caller) -> None:
    away(caller)
    entries: list[object] = []
    for number in range(20):
        entries += ["f" if number % 10 == 0 else "gone", b"h" * 40 * KB, queues.WHOLE, False, 0]
    reply = caller.ask(queues.enqueue(BUCKET, "c", 100, True, entries, None, LIMIT))
    assert isinstance(reply, list)
    assert reply[3:] == [[0, *[1] * 9] * 2, 0]
