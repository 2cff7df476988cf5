"""Subscriptions: the session decides, the rows follow, the log tells."""

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker
import pytest

from cluster.store import keys, retained, subscriptions
from cluster.store.subscriptions import Change, Log, Outcome
from tests.store.caller import OPTIONS, Caller

OTHER_OPTIONS = b"\x93\x01\x02\x00"


def rows(caller: Caller) -> dict[tuple[str, str], bytes]:
    found = {}
    for shard in range(keys.SUBSCRIPTION_SHARDS):
        for field, value in caller.hash(keys.subscriptions(caller.prefix, shard)).items():
            name, _, client_id = field.decode().partition("\0")
            assert shard == keys.shard_of(client_id, name)
            found[client_id, name] = value
    return found


def add(caller: Caller, client_id: str, name: str, stamp: int, options: bytes = OPTIONS) -> str:
    return subscriptions.parse_version(
        caller.ask(subscriptions.rows([(client_id, name, options, stamp)], []))
    )


def delete(caller: Caller, client_id: str, name: str, stamp: int) -> str:
    request = subscriptions.rows([], [(client_id, name, stamp)])
    return subscriptions.parse_version(caller.ask(request, function="free"))


def log_since(caller: Caller, version: str, limit: int = 100) -> Log | None:
    return subscriptions.parse_log(caller.ask(subscriptions.log_since(version, limit), function="free"))


# The session


def test_a_subscription_is_stored_with_its_stamp(caller: Caller) -> None:
    claim = caller.claim()
    request = subscriptions.subscribe("c", claim.epoch, [("f", OPTIONS, 1), ("g", OPTIONS, 0)])
    answer = subscriptions.parse_subscribe(caller.ask(request))
    assert answer is not None
    assert answer.filters == [Outcome(False, True), Outcome(False, False)]
    session = keys.session(caller.prefix, keys.bucket_of("c"), "c")
    assert caller.redis.hget(session, "f:f") == f"{answer.stamp}:".encode() + OPTIONS
    assert caller.claim().replays == [("f", "")]


def test_stamps_rise(caller: Caller) -> None:
    claim = caller.claim()
    first = caller.subscribe(claim, "f")
    second = caller.subscribe(claim, "f")
    assert second > first
    assert caller.claim().subscriptions == [("f", OPTIONS, second)]


def test_a_stale_owner_can_not_subscribe(caller: Caller) -> None:
    stale = caller.claim()
    claim = caller.claim()
    request = subscriptions.subscribe("c", stale.epoch, [("f", OPTIONS, 0)])
    assert subscriptions.parse_subscribe(caller.ask(request)) is None
    caller.subscribe(claim, "f")
    removal = subscriptions.unsubscribe("c", stale.epoch, ["f"])
    assert subscriptions.parse_unsubscribe(caller.ask(removal)) is None
    assert len(caller.claim().subscriptions) == 1


@pytest.mark.parametrize(("wants", "starts"), [(0, False), (1, False), (2, True)])
def test_retain_handling_of_a_subscription_that_exists(caller: Caller, wants: int, starts: bool) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "f", replay=0)
    answer = subscriptions.parse_subscribe(
        caller.ask(subscriptions.subscribe("c", claim.epoch, [("f", OTHER_OPTIONS, wants)]))
    )
    assert answer is not None
    assert answer.filters == [Outcome(True, starts)]


def test_a_repeated_subscribe_starts_its_replay_again(caller: Caller) -> None:
    claim = caller.claim()
    request = subscriptions.subscribe("c", claim.epoch, [("f", OPTIONS, 1)])
    caller.ask(request)
    answer = subscriptions.parse_subscribe(caller.ask(request))
    assert answer is not None
    assert answer.filters == [Outcome(True, True)]


def test_unsubscribe_ends_subscription_and_replay(caller: Caller) -> None:
    claim = caller.claim()
    stamp = caller.subscribe(claim, "f", "g", replay=2)
    answer = subscriptions.parse_unsubscribe(
        caller.ask(subscriptions.unsubscribe("c", claim.epoch, ["f", "never"]), function="free")
    )
    assert answer is not None
    assert answer.stamp > stamp
    assert answer.existed == [True, False]
    again = caller.claim()
    assert again.subscriptions == [("g", OPTIONS, stamp)]
    assert again.replays == [("g", "")]
    assert caller.enqueue(1)[3] == [1]


# Rows


def test_rows_are_written_and_logged(caller: Caller) -> None:
    version = add(caller, "c", "a/+", 5)
    assert version == "1.1"
    assert caller.redis.get(keys.version(caller.prefix)) == b"1.1"
    assert rows(caller) == {("c", "a/+"): b"5:" + OPTIONS}
    assert log_since(caller, "1.0") == Log("1.1", False, [Change("sub+", "c", "a/+", OPTIONS, 5)])
    assert log_since(caller, "1.1") == Log("1.1", False, [])


def test_the_same_again_is_not_logged(caller: Caller) -> None:
    add(caller, "c", "f", 5)
    assert add(caller, "c", "f", 5) == "1.1"
    assert add(caller, "c", "f", 6) == "1.2"


def test_a_lower_stamp_is_ignored(caller: Caller) -> None:
    add(caller, "c", "f", 5, OTHER_OPTIONS)
    assert add(caller, "c", "f", 4) == "1.1"
    assert delete(caller, "c", "f", 4) == "1.1"
    assert rows(caller) == {("c", "f"): b"5:" + OTHER_OPTIONS}


@pytest.mark.parametrize("stamp", [5, 6])
def test_a_row_is_deleted_by_its_stamp_or_a_higher_one(caller: Caller, stamp: int) -> None:
    add(caller, "c", "f", 5)
    assert delete(caller, "c", "f", stamp) == "1.2"
    assert rows(caller) == {}
    assert delete(caller, "c", "f", stamp) == "1.2"
    assert log_since(caller, "1.1") == Log("1.2", False, [Change("sub-", "c", "f", b"", stamp)])


def test_one_request_is_one_entry_of_the_log(caller: Caller) -> None:
    add(caller, "c", "old", 1)
    adds = [("c", f"f{i}", OPTIONS, 2) for i in range(3)]
    caller.ask(subscriptions.rows(adds, [("c", "old", 1)]))
    log = log_since(caller, "1.1")
    assert log is not None
    assert log.version == "1.2"
    assert [(change.kind, change.filter) for change in log.changes] == [
        ("sub+", "f0"),
        ("sub+", "f1"),
        ("sub+", "f2"),
        ("sub-", "old"),
    ]


# Interest


def test_interest_of_direct_subscribers_is_versioned(caller: Caller) -> None:
    assert caller.ask(subscriptions.interest("node-1", ["1:a", "1:b"], [])) == b"1.1"
    assert caller.ask(subscriptions.interest("node-1", ["1:a"], [])) == b"1.1"
    assert caller.ask(subscriptions.interest("node-1", [], ["1:a", "1:never"])) == b"1.2"
    assert caller.redis.hkeys(keys.interest(caller.prefix, "node-1")) == [b"1:b"]


def test_interest_is_told_on_the_channel(caller: Caller) -> None:
    with caller.redis.pubsub() as listener:  # type: ignore[no-untyped-call]  # untyped there
        listener.subscribe(keys.interest_channel(caller.prefix))
        listener.get_message(timeout=5)
        assert caller.ask(subscriptions.interest("node-1", ["0:a", "p:b", "1:c"], [])) == b"1.1"
        assert caller.ask(subscriptions.interest("node-1", ["0:a"], ["p:b", "p:never"])) == b"1.1"
        told = [listener.get_message(timeout=5) for _ in range(2)]
        assert [msgpack.unpackb(message["data"], raw=True) for message in told if message] == [
            [b"node-1", [b"0:a", b"p:b", b"1:c"], []],
            [b"node-1", [], [b"p:b"]],
        ]
    assert caller.redis.hkeys(keys.interest(caller.prefix, "node-1")) == [b"0:a", b"1:c"]


def test_the_log_is_read_in_pages(caller: Caller) -> None:
    for stamp in range(1, 6):
        add(caller, "c", "f", stamp)
    first = log_since(caller, "1.0", limit=3)
    assert first is not None
    assert (first.version, first.more, len(first.changes)) == ("1.3", True, 3)
    rest = log_since(caller, first.version, limit=3)
    assert rest is not None
    assert (rest.version, rest.more) == ("1.5", False)
    assert [change.stamp for change in rest.changes] == [4, 5]


@pytest.mark.parametrize("version", ["2.0", "0.0", "1.9", ""])
def test_another_term_or_the_future_means_load_again(caller: Caller, version: str) -> None:
    add(caller, "c", "f", 1)
    assert log_since(caller, version) is None


def test_a_log_that_was_cut_means_load_again(caller: Caller) -> None:
    for stamp in range(1, 6):
        add(caller, "c", "f", stamp)
    caller.redis.xtrim(keys.change_log(caller.prefix), maxlen=2, approximate=False)
    assert log_since(caller, "1.2") is None
    assert log_since(caller, "1.3") is not None
    caller.redis.delete(keys.change_log(caller.prefix))
    assert log_since(caller, "1.3") is None


def test_nothing_has_happened_yet(caller: Caller) -> None:
    assert log_since(caller, "1.0") == Log("1.0", False, [])


def test_a_replay_ends_with_its_subscription(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "f", replay=2)
    caller.ask(subscriptions.unsubscribe("c", claim.epoch, ["f"]))
    request = retained.replay(keys.bucket_of("c"), "c", claim.epoch, "f", 0, None, [])
    assert retained.parse_replay(caller.ask(request)) is None
