"""The ban list in Redis."""

from typing import cast

import redis

from broker.auth.ban import Ban, target_of
from cluster.store import bans, keys
from cluster.store.bans import Added
from tests.store.caller import Caller

CLIENT = target_of("client", "c")


def add(
    caller: Caller,
    kind: str = "client",
    value: str = "c",
    *,
    milliseconds: int = 0,
    automatic: bool = False,
    maximum: int = 10,
    patterns: int = 2,
) -> Added:
    target = target_of(kind, value)
    request = bans.add(
        target,
        reason="why",
        by="me",
        milliseconds=milliseconds,
        is_automatic=automatic,
        maximum=maximum,
        patterns_maximum=patterns,
    )
    return bans.parse_add(caller.ask(request, function="free"), target)


def held(caller: Caller) -> dict[str, Ban]:
    found = cast(dict[bytes, bytes], caller.redis.hgetall(keys.bans(caller.prefix)))
    return {name.decode(): bans.unpack(name.decode(), record) for name, record in found.items()}


def test_a_ban_is_there_until_it_is_removed(caller: Caller) -> None:
    before = caller.now_ms()
    added = add(caller)
    assert added.is_new
    assert added.ban == held(caller)["client:c"]
    assert (added.ban.reason, added.ban.by, added.ban.until_ms) == ("why", "me", 0)
    assert before <= added.ban.since_ms <= caller.now_ms()
    assert caller.ask(bans.remove(CLIENT)) == 1
    assert caller.ask(bans.remove(CLIENT)) == 0
    assert held(caller) == {}


def test_the_newer_one_takes_its_place(caller: Caller) -> None:
    add(caller, milliseconds=3_600_000)
    assert add(caller, milliseconds=1000).is_new
    (ban,) = held(caller).values()
    assert ban.until_ms == ban.since_ms + 1000
    assert add(caller).is_new
    assert held(caller)["client:c"].until_ms == 0
    assert caller.redis.zcard(keys.bans_until(caller.prefix)) == 0


def test_one_by_itself_never_shortens_another(caller: Caller) -> None:
    manual = add(caller, milliseconds=3_600_000).ban
    assert add(caller, milliseconds=1000, automatic=True) == Added(manual, is_new=False)
    longer = add(caller, milliseconds=7_200_000, automatic=True)
    assert longer.is_new
    assert longer.ban is not None
    assert longer.ban.is_automatic
    forever = add(caller).ban
    assert add(caller, milliseconds=1000, automatic=True) == Added(forever, is_new=False)


def test_what_has_ended_is_swept(caller: Caller) -> None:
    add(caller, value="short", milliseconds=1)
    add(caller, value="shor*", milliseconds=1)
    add(caller, value="long", milliseconds=3_600_000)
    add(caller, value="ever")
    while caller.now_ms() < held(caller)["client:shor*"].until_ms:
        pass
    first = bans.parse_sweep(caller.ask(bans.sweep(1), function="free"))
    second = bans.parse_sweep(caller.ask(bans.sweep(100), function="free"))
    assert {*first.ended, *second.ended} == {"client:short", "client:shor*"}
    assert len(first.ended) == 1
    assert set(held(caller)) == {"client:long", "client:ever"}
    assert bans.parse_sweep(caller.ask(bans.sweep(100))).ended == []
    assert caller.redis.scard(keys.ban_patterns(caller.prefix)) == 0


def test_there_are_not_too_many(caller: Caller) -> None:
    for number in range(3):
        assert (add(caller, value=f"{number}*").ban is None) == (number == 2)
    assert add(caller, value="0*").is_new, "it is there already"
    for number in range(8):
        add(caller, value=str(number))
    assert add(caller, value="one more") == Added(None, is_new=False)
    assert len(held(caller)) == 10
    caller.ask(bans.remove(target_of("client", "0*")))
    assert add(caller, value="another*").is_new


def test_each_change_has_a_number_and_is_told(caller: Caller) -> None:
    told = caller.redis.pubsub()  # type: ignore[no-untyped-call]  # untyped there
    told.subscribe(keys.bans_channel(caller.prefix))
    assert told.get_message(timeout=5) is not None
    ban = add(caller, "pair", "192.0.2.7 {c}", milliseconds=1).ban
    assert ban is not None
    add(caller)
    caller.ask(bans.remove(CLIENT))
    while caller.now_ms() < ban.until_ms:
        pass
    caller.ask(bans.sweep(100))
    changes = []
    for _ in range(4):
        message = told.get_message(timeout=5)
        assert message is not None
        changes.append(bans.unpack_change(message["data"]))
    told.close()
    assert [change.version for change in changes] == [1, 2, 3, 4]
    assert [change.target.name for change in changes] == [
        "pair:192.0.2.7 {c}", "client:c", "client:c", "pair:192.0.2.7 {c}",
    ]  # fmt: skip
    assert changes[0].ban == ban
    assert [change.ban is None for change in changes] == [False, False, True, True]


def test_a_longer_record_is_of_a_newer_release(caller: Caller, redis_client: redis.Redis) -> None:
    ban = add(caller).ban
    assert ban is not None
    name = keys.bans(caller.prefix)
    record = redis_client.hget(name, "client:c")
    assert isinstance(record, bytes)
    assert bans.unpack("client:c", b"\x97" + record[1:] + b"\xc0") == ban


def test_all_keys_are_named(caller: Caller) -> None:
    add(caller, value="p*", milliseconds=3_600_000)
    assert caller.key_names() == {
        keys.bans(caller.prefix),
        keys.bans_until(caller.prefix),
        keys.ban_patterns(caller.prefix),
        keys.ban_version(caller.prefix),
    }
