"""The library as a whole: dispatch, isolation, tombstones, a full Redis."""

from pathlib import Path

import pytest
import redis

from cluster.store import (
    deadlines,
    keys,
    letters,
    library,
    membership,
    queues,
    receive,
    sessions,
    subscriptions,
)
from cluster.store.entry import pack_body
from cluster.store.errors import ItemError
from tests.store.caller import HEAD, Caller

BUCKET = keys.bucket_of("c")


def test_the_name_carries_the_version_of_the_schema() -> None:
    assert library.library_source().startswith(f"#!lua name=moorline_{library.SCHEMA_VERSION}\n")
    assert f"moorline_{library.SCHEMA_VERSION}" == library.LIBRARY_NAME


def test_every_file_is_in_the_library() -> None:
    folder = Path(library.__file__).parent / "lua"
    source = library.library_source()
    for file in folder.glob("*.lua"):
        assert file.read_text(encoding="utf-8") in source


def test_the_source_tells_its_revision() -> None:
    assert library.revision_of(library.library_source()) == library.LIBRARY_REVISION
    assert library.revision_of(library.library_source(77)) == 77
    assert library.revision_of("#!lua name=moorline_1\n-- some comment\n-- revision 9\n") == 1


def test_functions_for_all_callers_that_are_served(redis_client: redis.Redis) -> None:
    redis_client.function_load(library.library_source(), replace=True)
    (listed,) = redis_client.function_list(library=library.LIBRARY_NAME)
    functions = {function[1].decode() for function in listed[5]}
    revisions = range(library.OLDEST_CALLER, library.LIBRARY_REVISION + 1)
    assert functions == {
        library.function_name(kind, revision) for kind in ("write", "free") for revision in revisions
    }
    assert library.function_name("free", 1) == "moorline_free"


def test_it_can_be_loaded_again(redis_client: redis.Redis) -> None:
    name = redis_client.function_load(library.library_source(), replace=True)
    assert name == library.LIBRARY_NAME.encode()


def test_a_bad_request_harms_no_other(caller: Caller) -> None:
    caller.redis.set(keys.session(caller.prefix, BUCKET, "c"), "no hash")
    replies = caller.call(
        [
            ["no_such_thing", 1],
            queues.raise_hi(BUCKET, "c", 1, 1),
            ["enqueue", 3, "x", 10, True, 5],
            letters.letter("c", "t", "test"),
        ]
    )
    assert [type(reply) for reply in replies] == [ItemError, ItemError, ItemError, int]
    assert "no_such_thing" in str(replies[0])
    assert "WRONGTYPE" in str(replies[1])


def test_a_call_may_be_empty(caller: Caller) -> None:
    assert caller.call([]) == []


def test_a_letter_says_who_what_and_why(caller: Caller) -> None:
    caller.ask(letters.letter("c", "a/b", "expired"))
    ((_, fields),) = caller.stream(keys.letters(caller.prefix, BUCKET))
    assert fields == {b"client": b"c", b"topic": b"a/b", b"reason": b"expired"}


@pytest.mark.parametrize("function", ["write", "free"])
@pytest.mark.parametrize("slot", ["m", BUCKET])
def test_a_tombstone_refuses_the_whole_call(caller: Caller, function: str, slot: int | str) -> None:
    caller.redis.set(keys.tombstone(caller.prefix, slot, caller.incarnation), 1)
    request = letters.letter("c", "t", "test")
    with pytest.raises(redis.ResponseError, match=r"^NODEGONE "):
        caller.call([request], function=function, slot=slot)
    assert not caller.redis.exists(keys.letters(caller.prefix, BUCKET))
    assert caller.other().call([request], function=function, slot=slot) == [1]


def test_two_prefixes_share_nothing(caller: Caller) -> None:
    caller.subscribed()
    other = Caller.with_new_prefix(caller.redis)
    assert other.enqueue(1)[3] == [1]
    assert not other.claim().present
    assert caller.enqueue(1)[3] is False


def test_numbers_stay_integers_beyond_what_lua_prints(caller: Caller) -> None:
    """Lua prints numbers of 15 digits and more as 1e+15; ours stay far below, also after many fail-overs."""
    caller.redis.set(keys.counter(caller.prefix, BUCKET), 10_000 * 2**24)
    claim = caller.subscribed()
    session = keys.session(caller.prefix, BUCKET, "c")
    caller.redis.hset(session, "n", 99_999_999_999_000)
    assert claim.gen == 10_000 * 2**24 + 1
    assert caller.enqueue(2)[:2] == [claim.gen, 99_999_999_999_000]
    assert caller.ids() == [99_999_999_999_001, 99_999_999_999_002]
    caller.ask(queues.release(BUCKET, "c", claim.epoch, [claim.gen, 99_999_999_999_001]))
    assert caller.claim().released == [99_999_999_999_001]


def test_when_redis_is_full_what_frees_memory_goes_through(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(4)
    stamp = caller.subscribe(claim, "g")
    caller.ask(subscriptions.rows([("c", "g", b"o", stamp)], []))
    caller.ask(receive.receive(BUCKET, "c", claim.epoch, [1, b"token"], 10))
    caller.ask(membership.join(caller.incarnation))
    caller.redis.config_set("maxmemory", 1)
    body = [pack_body("t", b"", b"", 0)]
    entries = ["f", HEAD, 0, False, 0]
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        caller.call([queues.enqueue(BUCKET, "c", 100, True, entries)], body)
    replies = caller.call(
        [
            queues.ack(BUCKET, "c", [claim.gen, 1]),
            queues.release(BUCKET, "c", claim.epoch, [claim.gen, 2]),
            queues.complete(BUCKET, "c", claim.epoch, [2]),
            receive.routed(BUCKET, "c", claim.epoch, [1]),
            receive.release_received(BUCKET, "c", claim.epoch, [1]),
            receive.settle_tokens(BUCKET, [b"token"]),
            subscriptions.unsubscribe("c", claim.epoch, ["g"]),
            subscriptions.rows([], [("c", "g", stamp)]),
            membership.beat(caller.incarnation),
            deadlines.due(BUCKET, 10, 1000),
            sessions.detach("c", claim.epoch, sent=2, expiry_seconds=None, fire_will=True),
        ],
        function="free",
    )
    assert not [reply for reply in replies if isinstance(reply, ItemError)]
    caller.redis.config_set("maxmemory", 0)
    assert caller.ids() == [3, 4]
    assert caller.enqueue(1)[3] is False
