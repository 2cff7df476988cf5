"""Key names: buckets, slots, escapes."""

import inspect
import re
from collections.abc import Callable

import pytest
import redis

from cluster.store import keys
from tests.store.caller import Caller

WITH_PREFIX = [
    function
    for name, function in inspect.getmembers(keys, inspect.isfunction)
    if next(iter(inspect.signature(function).parameters)) == "prefix"
]


def test_buckets_are_those_of_redis_cluster(redis_client: redis.Redis) -> None:
    assert keys.bucket_of("123456789") == 0x31C3 % 64  # the check value of CRC-16/XMODEM
    assert {keys.bucket_of(str(i)) for i in range(1000)} == set(range(keys.BUCKETS))
    assert keys.bucket_of_topic("a/b") == keys.bucket_of("a")
    assert keys.bucket_of_topic("/b") == keys.bucket_of("")
    assert {keys.shard_of(str(i), "f") for i in range(4000)} == set(range(keys.SUBSCRIPTION_SHARDS))


@pytest.mark.parametrize("function", WITH_PREFIX, ids=lambda function: function.__name__)
def test_no_name_can_move_a_key_to_another_slot(function: Callable[..., str | bytes]) -> None:
    parameters = list(inspect.signature(function).parameters)[1:]
    values: dict[str, object] = {"bucket": 7, "shard": 3, "epoch": 5, "slot": 7, "token": b"{9}"}
    key = function("p:", *(values.get(parameter, "{9}") for parameter in parameters))
    text = key.decode() if isinstance(key, bytes) else key
    found = re.match(r"p:\{([^{}]+)\}:", text)
    assert found is not None
    of_a_node = function in (keys.inbox, keys.messages_channel)
    assert found[1] == (
        keys.escape("{9}") if of_a_node else "7" if {"bucket", "slot"} & set(parameters) else "m"
    )


def test_escapes_tell_all_names_apart() -> None:
    names = ["{", "}", "%", "%7B", "{}", "a{b"]
    assert len({keys.escape(name) for name in names}) == len(names)


def test_the_library_builds_the_same_names(caller: Caller) -> None:
    name = "a{b}%"
    bucket = keys.bucket_of(name)
    claim = caller.claim(name, will=b"w")
    caller.detach(claim, name)
    assert caller.key_names() == {
        keys.counter(caller.prefix, bucket),
        keys.sessions(caller.prefix, bucket),
        keys.session_index(caller.prefix, bucket),
        keys.session_chunk(caller.prefix, bucket, ""),
        keys.session(caller.prefix, bucket, name),
        keys.will(caller.prefix, bucket, name, claim.epoch),
        keys.due_wills(caller.prefix, bucket, name),
        keys.due(caller.prefix, bucket),
    }
