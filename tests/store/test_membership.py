"""Membership: joining, life signs, leaving."""

import pytest
import redis

from cluster.store import keys, membership, subscriptions
from tests.store.caller import Caller


def join(caller: Caller) -> None:
    caller.ask(membership.join(caller.incarnation))


def beat(caller: Caller) -> membership.Beat:
    return membership.parse_beat(caller.ask(membership.beat(caller.incarnation), function="free"))


def row(caller: Caller) -> float | None:
    return caller.redis.zscore(keys.nodes(caller.prefix), caller.incarnation)


def test_a_beat_tells_the_time_and_the_tick(caller: Caller) -> None:
    join(caller)
    before = caller.now_ms()
    first = beat(caller)
    assert 0 <= first.time_ms - before < 5_000
    assert first.tick == 1
    assert row(caller) == 1


def test_the_tick_advances_once_a_second_for_all_nodes(caller: Caller) -> None:
    other = caller.other()
    join(caller)
    join(other)
    assert [beat(caller).tick, beat(other).tick, beat(caller).tick] == [1, 1, 1]
    caller.redis.delete(keys.tick(caller.prefix) + ":pace")  # a second later
    assert beat(other).tick == 2
    assert (row(caller), row(other)) == (1, 2)


def test_a_beat_of_a_stranger_refuses_the_whole_call(caller: Caller) -> None:
    with pytest.raises(redis.ResponseError, match=r"^NODEGONE "):
        beat(caller)
    assert row(caller) is None


def test_who_was_reaped_does_not_come_back_by_a_beat(caller: Caller) -> None:
    join(caller)
    caller.redis.zrem(keys.nodes(caller.prefix), caller.incarnation)
    with pytest.raises(redis.ResponseError, match=r"^NODEGONE "):
        beat(caller)


def test_a_joining_node_starts_at_the_current_tick(caller: Caller) -> None:
    join(caller)
    beat(caller)
    caller.redis.set(keys.tick(caller.prefix), 41)
    join(caller.other())
    assert row(caller.other()) == 41
    assert caller.redis.get(keys.version(caller.prefix)) == b"1.0"


def test_leaving_takes_row_and_interest_away(caller: Caller) -> None:
    join(caller)
    caller.ask(subscriptions.interest(caller.incarnation, ["1:a", "1:b"], []))
    version = subscriptions.parse_version(caller.ask(membership.leave(caller.incarnation), function="free"))
    assert row(caller) is None
    assert not caller.redis.exists(keys.interest(caller.prefix, caller.incarnation))
    log = subscriptions.parse_log(caller.ask(subscriptions.log_since("1.1")))
    assert log is not None
    assert log.version == version
    assert [(change.kind, change.who) for change in log.changes] == [("gone", caller.incarnation)]
    assert caller.ask(membership.leave(caller.incarnation)) == version.encode()


def test_members_and_what_they_say_of_themselves(caller: Caller) -> None:
    other = caller.other()
    join(caller)
    join(other)
    caller.ask(membership.beat(caller.incarnation, b"busy"), function="free")
    for _ in range(membership.DEAD_TICKS):
        caller.redis.delete(keys.tick(caller.prefix) + ":pace")  # a second later
        beat(caller)
    found = membership.parse_members(caller.ask(membership.members()))
    assert sorted(found, key=lambda member: member.incarnation) == [
        membership.Member(caller.incarnation, True, b"busy"),
        membership.Member(other.incarnation, False, b""),
    ]
    ages = {member.incarnation: member.unseen_ticks for member in found}
    assert ages[caller.incarnation] == 0
    assert ages[other.incarnation] >= membership.DEAD_TICKS
    caller.ask(membership.leave(caller.incarnation), function="free")
    assert not caller.redis.exists(keys.info(caller.prefix))


def take(caller: Caller, holder: str, milliseconds: int) -> object:
    return caller.ask(membership.turn("chore", holder, milliseconds), function="free")


def test_a_turn_is_one_holders_until_it_is_given_back(caller: Caller) -> None:
    assert [take(caller, "a", 10_000), take(caller, "b", 10_000), take(caller, "a", 20_000)] == [1, 0, 1]
    assert 10_000 < caller.redis.pttl(keys.turn(caller.prefix, "chore")) <= 20_000
    assert take(caller, "b", 0) == 0  # which is not its own
    assert take(caller, "a", 0) == 1
    assert take(caller, "b", 10_000) == 1
    assert caller.ask(membership.turn("another", "a", 10_000), function="free") == 1


def test_a_turn_ends_by_itself(caller: Caller) -> None:
    assert take(caller, "a", 1) == 1
    assert caller.redis.pttl(keys.turn(caller.prefix, "chore")) <= 1
    while caller.redis.exists(keys.turn(caller.prefix, "chore")):
        pass
    assert take(caller, "b", 10_000) == 1
