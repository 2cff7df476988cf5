"""Retained messages: set, found by filter, replayed."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.mqtt.topic import matches
from cluster.store import keys, queues, retained
from cluster.store.call import Call
from cluster.store.entry import pack_body, pack_head
from tests.store.caller import HEAD, Caller

BUCKET = keys.bucket_of("c")


def retain(caller: Caller, topic: str, record: bytes | None = b"record", deadline_ms: int = 0) -> None:
    assert caller.ask(retained.retain(topic, record, deadline_ms, False, 0)) == 1


def find(caller: Caller, topic_filter: str, limit: int = 100, budget: int = 1000) -> dict[str, bytes]:
    """All that matches, however many pages it takes."""
    found: dict[str, bytes] = {}
    for bucket in retained.retained_buckets(topic_filter):
        cursor: str | None = None
        while True:
            request = retained.retained_page(bucket, topic_filter, cursor, limit, budget)
            page = retained.parse_page(caller.ask(request, function="free"))
            assert len(page.items) <= limit
            assert not found.keys() & dict(page.items).keys()
            found.update(page.items)
            if page.cursor is None:
                break
            assert cursor is None or page.cursor.encode() > cursor.encode()
            cursor = page.cursor
    return found


def test_a_retained_message_is_set_replaced_and_removed(caller: Caller) -> None:
    retain(caller, "a/b", b"one")
    retain(caller, "a/b", b"two:\x00")
    assert find(caller, "a/b") == {"a/b": b"two:\x00"}
    assert find(caller, "a") == {}
    retain(caller, "a/b", None)
    retain(caller, "a/b", None)
    assert find(caller, "#") == {}
    assert caller.redis.keys(f"{caller.prefix}*") == []


def test_a_large_record_is_a_body_of_the_call(caller: Caller) -> None:
    call = Call("write")
    record = bytes(range(256)) * 4
    assert caller.ask(retained.retain("a/b", call.place(record), 0, False, 0), call.bodies) == 1
    assert find(caller, "a/b") == {"a/b": record}


def test_a_token_sets_it_once(caller: Caller) -> None:
    first = retained.retain("a", b"one", 0, b"token", 60_000)
    assert caller.ask(first) == 1
    retain(caller, "a", b"newer")
    assert caller.ask(first) == 0
    assert find(caller, "a") == {"a": b"newer"}
    key = keys.once(caller.prefix, keys.bucket_of("a"), b"token")
    assert caller.redis.smembers(key) == {b"r"}


@pytest.mark.parametrize("topic_filter", ["a", "a/#", "+", "#"])
def test_an_expired_message_is_skipped_and_removed(caller: Caller, topic_filter: str) -> None:
    retain(caller, "a", b"old", caller.now_ms() - 1)
    assert find(caller, topic_filter) == {}
    bucket = keys.bucket_of("a")
    assert not caller.redis.exists(keys.retained(caller.prefix, bucket))
    assert not caller.redis.exists(keys.retained_index(caller.prefix, bucket))
    retain(caller, "a", b"new", caller.now_ms() + 60_000)
    assert find(caller, topic_filter) == {"a": b"new"}


def test_an_index_entry_without_message_is_removed(caller: Caller) -> None:
    bucket = keys.bucket_of("a")
    caller.redis.zadd(keys.retained_index(caller.prefix, bucket), {"a": 0, "a\0b": 0})
    assert find(caller, "a/#") == {}
    assert caller.redis.zcard(keys.retained_index(caller.prefix, bucket)) == 0


def test_a_full_bucket_takes_no_other_topic(caller: Caller) -> None:
    def retain_within(topic: str, record: bytes | None, maximum: int, token: bytes | bool = False) -> object:
        return caller.ask(retained.retain(topic, record, 0, token, 60_000, maximum))

    assert retain_within("a/1", b"one", 2) == 1
    assert retain_within("a/2", b"two", 2) == 1
    assert retain_within("a/3", b"three", 2, b"token") == retained.NOT_RETAINED
    assert retain_within("a/3", None, 0) == 1
    assert retain_within("a/2", b"newer", 1) == 1
    assert find(caller, "a/#") == {"a/1": b"one", "a/2": b"newer"}
    assert retain_within("a/1", None, 2) == 1
    assert retain_within("a/3", b"three", 2, b"token") == 1  # the refusal has not spent it
    assert find(caller, "a/#") == {"a/2": b"newer", "a/3": b"three"}


def test_system_topics_match_no_leading_wildcard(caller: Caller) -> None:  # [MQTT-4.7.2-1]
    for topic in ("$SYS/a", "$x", "a/$b"):
        retain(caller, topic)
    assert find(caller, "#").keys() == {"a/$b"}
    assert find(caller, "+/a").keys() == set()
    assert find(caller, "+").keys() == set()
    assert find(caller, "$SYS/#").keys() == {"$SYS/a"}
    assert find(caller, "$SYS/+").keys() == {"$SYS/a"}
    assert find(caller, "a/+").keys() == {"a/$b"}


def test_a_literal_first_level_asks_one_bucket(caller: Caller) -> None:
    assert retained.retained_buckets("a/#") == [keys.bucket_of_topic("a/b/c")]
    assert retained.retained_buckets("+/a") == list(range(keys.BUCKETS))
    assert retained.retained_buckets("#") == list(range(keys.BUCKETS))


def test_a_page_looks_at_no_more_than_its_budget(caller: Caller) -> None:
    for i in range(300):
        retain(caller, f"a/{i:03}/{i % 7}")
    bucket = keys.bucket_of("a")
    page = retained.parse_page(caller.ask(retained.retained_page(bucket, "a/+/x", None, 100, 50)))
    assert page.items == []
    assert page.cursor is not None
    assert 10 < int(page.cursor.split("\0")[1].rstrip("\1")[:3]) < 50
    assert len(find(caller, "a/+/3", limit=5, budget=10)) == 43


def test_a_skip_scan_does_not_read_what_can_not_match(caller: Caller) -> None:
    for i in range(10):
        for j in range(100):
            retain(caller, f"a/{i}/{j:02}")
        retain(caller, f"a/{i}/state")
    bucket = keys.bucket_of("a")
    page = retained.parse_page(caller.ask(retained.retained_page(bucket, "a/+/state", None, 100, 70)))
    assert len(page.items) == 10
    assert page.cursor is None  # 1,010 topics, about five looks per second level


LEVELS = st.sampled_from(["", "a", "b", "ab", "a ", "$s", "é", "\x01", "a\x01", "+x".replace("+", "-"), "0"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.tuples(st.lists(st.one_of(LEVELS, st.just("+")), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    topics=st.sets(TOPICS, max_size=25),
    filters=st.lists(FILTERS, min_size=1, max_size=4),
    limit=st.integers(1, 5),
    budget=st.integers(1, 8),
)
def test_pages_find_what_a_plain_matcher_finds(
    caller: Caller, topics: set[str], filters: list[str], limit: int, budget: int
) -> None:
    here = Caller.with_new_prefix(caller.redis)
    for topic in topics:
        retain(here, topic, topic.encode())
    for topic_filter in filters:
        expected = {topic: topic.encode() for topic in topics if matches(topic_filter, topic)}
        assert find(here, topic_filter, limit, budget) == expected


# Replays


def page_of(*topics: str) -> list[object]:
    entries: list[object] = []
    for topic in topics:
        entries += [topic, HEAD, pack_body(topic, b"retained", b"", 0)]
    return entries


def replay(
    caller: Caller, epoch: int, before: int, cursor: str | None, *topics: str
) -> retained.Replayed | None:
    request = retained.replay(BUCKET, "c", epoch, "f", before, cursor, page_of(*topics))
    return retained.parse_replay(caller.ask(request))


def test_a_replay_queues_its_pages_and_moves_its_cursor(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "f", replay=2)
    assert replay(caller, claim.epoch, 0, "3:x\0y", "a", "b") == retained.Replayed(claim.gen, 0, [0, 1])
    assert caller.claim(nonce=b"1").replays == [("f", "3:x\0y")]
    epoch = caller.claim(nonce=b"1").epoch
    assert replay(caller, epoch, 2, None, "c") == retained.Replayed(claim.gen, 2, [0])
    assert caller.claim().replays == []
    assert caller.ids() == [1, 2, 3]


@pytest.mark.parametrize("cursor", ["next", None])
def test_a_repeated_page_gets_the_same_answer(caller: Caller, cursor: str | None) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "f", replay=2)
    first = replay(caller, claim.epoch, 0, cursor, "a", "b")
    assert replay(caller, claim.epoch, 0, cursor, "a", "b") == first
    assert caller.ids() == [1, 2]


def test_a_topic_whose_retained_message_was_queued_since_is_skipped(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "f", replay=2)
    live = pack_head(1, False, (), True)
    for topic, head in (("before", live), ("live", live), ("live", HEAD), ("event", HEAD)):
        caller.enqueue(1, head=head, body=pack_body(topic, b"live", b"", 0))
    answer = replay(caller, claim.epoch, 1, None, "before", "live", "event", "other")
    assert answer == retained.Replayed(claim.gen, 4, [0, 2, 3])
    assert caller.ids() == [1, 2, 3, 4, 5, 6, 7]


def test_a_replay_is_exempt_from_the_bound(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "f", replay=2)
    caller.enqueue(3, limit=3)
    answer = replay(caller, claim.epoch, 3, None, "a", "b")
    assert answer is not None
    assert answer.appended == [0, 1]


def test_a_replay_that_is_stale_or_over_is_refused(caller: Caller) -> None:
    stale = caller.claim()
    caller.subscribe(stale, "f", replay=2)
    claim = caller.claim()
    assert replay(caller, stale.epoch, 0, None, "a") is None
    assert replay(caller, claim.epoch, 0, None, "a") is not None
    assert replay(caller, claim.epoch, 1, None, "b") is None
    assert caller.ids() == [1]


def test_an_empty_page_may_move_the_cursor(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "f", replay=2)
    assert replay(caller, claim.epoch, 0, "7:", *()) == retained.Replayed(claim.gen, 0, [])
    assert caller.claim().replays == [("f", "7:")]
    assert caller.ask(queues.ack(BUCKET, "c", [claim.gen, 1])) == 0
