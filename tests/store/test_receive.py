"""Inbound QoS 2: identifiers and tokens."""

from cluster.store import keys, receive
from tests.store.caller import Caller

BUCKET = keys.bucket_of("c")


def test_the_token_stored_first_counts(caller: Caller) -> None:
    epoch = caller.claim().epoch
    assert caller.ask(receive.receive(BUCKET, "c", epoch, [1, b"a", 2, b"b:\n\x00"], 10)) == [0, 0]
    answer = caller.ask(receive.receive(BUCKET, "c", epoch, [2, b"new", 3, b"c"], 10))
    assert answer == [[b"b:\n\x00", False], 0]
    assert caller.ask(receive.routed(BUCKET, "c", epoch, [2, 77])) == 1
    assert caller.ask(receive.receive(BUCKET, "c", epoch, [2, b"new"], 10)) == [[b"b:\n\x00", True]]
    assert caller.redis.hlen(keys.receiving(caller.prefix, BUCKET, "c")) == 3


def test_no_more_than_the_limit_are_open(caller: Caller) -> None:
    epoch = caller.claim().epoch
    messages: list[object] = [1, b"a", 2, b"b", 3, b"c"]
    assert caller.ask(receive.receive(BUCKET, "c", epoch, messages, 2)) == [0, 0, -1]
    repeated = caller.ask(receive.receive(BUCKET, "c", epoch, messages, 2))
    assert repeated == [[b"a", False], [b"b", False], -1]


def test_a_request_holds_any_number_of_messages(caller: Caller) -> None:
    epoch = caller.claim().epoch
    ids = list(range(1, 10_001))  # more than Lua has places on its stack
    messages: list[object] = [value for id in ids for value in (id, b"%d" % id)]
    assert caller.ask(receive.receive(BUCKET, "c", epoch, messages, 20_000)) == [0] * len(ids)
    assert caller.ask(receive.routed(BUCKET, "c", epoch, ids)) == 1
    repeated = caller.ask(receive.receive(BUCKET, "c", epoch, messages, 20_000))
    assert repeated == [[b"%d" % id, True] for id in ids]
    release = receive.release_received(BUCKET, "c", epoch, ids)
    assert caller.ask(release, function="free") == [b"%d" % id for id in ids]
    assert caller.session_keys() == {"s"}


def test_pubrel_frees_the_identifier(caller: Caller) -> None:
    epoch = caller.claim().epoch
    caller.ask(receive.receive(BUCKET, "c", epoch, [1, b"a\x00:", 2, b"b"], 10))
    caller.ask(receive.routed(BUCKET, "c", epoch, [1]))
    release = receive.release_received(BUCKET, "c", epoch, [1, 2, 3])
    assert caller.ask(release, function="free") == [b"a\x00:", b"b", False]
    assert caller.ask(release, function="free") == [False, False, False]
    assert caller.ask(receive.receive(BUCKET, "c", epoch, [1, b"z"], 10)) == [0]


def test_a_stale_owner_is_refused(caller: Caller) -> None:
    stale = caller.claim().epoch
    epoch = caller.claim().epoch
    caller.ask(receive.receive(BUCKET, "c", epoch, [1, b"a"], 10))
    assert caller.ask(receive.receive(BUCKET, "c", stale, [2, b"b"], 10)) == 0
    assert caller.ask(receive.routed(BUCKET, "c", stale, [1])) == 0
    assert caller.ask(receive.release_received(BUCKET, "c", stale, [1])) == 0
    assert caller.claim().receiving == [(1, b"a", False)]


def test_routed_after_pubrel_brings_nothing_back(caller: Caller) -> None:
    epoch = caller.claim().epoch
    assert caller.ask(receive.routed(BUCKET, "c", epoch, [1])) == 1
    assert caller.session_keys() == {"s"}


def test_spent_tokens_are_forgotten_in_a_minute(caller: Caller) -> None:
    caller.subscribed()
    caller.enqueue(1, token=b"t")
    key = keys.once(caller.prefix, BUCKET, b"t")
    caller.redis.pexpire(key, 600_000_000)
    assert caller.ask(receive.settle_tokens(BUCKET, [b"t", b"unknown"]), function="free") == 1
    assert 50_000 < caller.redis.pttl(key) <= 60_000
    assert not caller.redis.exists(keys.once(caller.prefix, BUCKET, b"unknown"))
