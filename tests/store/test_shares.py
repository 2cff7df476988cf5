"""Shared subscriptions: who is given what, what comes back, what stays, and bounds."""

from collections import Counter

import pytest

from cluster.store import keys, shares
from cluster.store.entry import pack_body, pack_head, unpack_entry
from cluster.store.shares import Given, Look, Policy
from tests.store.caller import Caller

NAME = "g/t/#"
BUCKET = keys.bucket_of(NAME)
BALANCED = Policy("balanced", 60_000)


def share(
    caller: Caller,
    *payloads: str,
    qos: int = 1,
    topic: str = "t/1",
    limit: int = 100,
    drop_oldest: bool = False,
    token: bytes | bool = False,
    policy: Policy = BALANCED,
) -> tuple[list[int], int, list[Given]]:
    entries: list[object] = []
    for i in range(len(payloads)):
        entries += [pack_head(qos, False, ()), i, token, 60_000]
    bodies = [pack_body(topic, payload.encode(), b"", 0) for payload in payloads]
    statuses, dropped, given, _ = shares.parse_share(
        caller.ask(shares.share(NAME, limit, drop_oldest, policy, entries), bodies)
    )
    return list(statuses), dropped, given


def join(
    caller: Caller, client_id: str, *, epoch: int = 1, window: int = 10, qos: int = 2, direct: bool = False
) -> tuple[list[str], list[Given]]:
    """What it had, and what it or others are given."""
    member = shares.member_name(client_id, epoch if direct else 0)
    answer = shares.parse_join(caller.ask(shares.join(NAME, member, epoch, window, qos, BALANCED)))
    assert answer is not None
    return [payload_of(entry) for _, entry in answer[0]], answer[2]


def leave(
    caller: Caller, client_id: str, *, epoch: int = 1, direct: bool = False, ended: bool = False
) -> tuple[list[str], list[Given]]:
    member = shares.member_name(client_id, epoch if direct else 0)
    owed, given = shares.parse_leave(caller.ask(shares.leave(NAME, member, epoch, ended, BALANCED)))
    return [payload_of(entry) for _, entry in owed], given


def done(caller: Caller, *given: Given, keeps: bool = False, completed: int = 0) -> list[Given]:
    request = shares.done(NAME, given[0].member, [each.id for each in given], keeps, completed, BALANCED)
    return shares.parse_given(caller.ask(request))


def look(caller: Caller, *known: tuple[str, str]) -> Look:
    return shares.parse_look(caller.ask(shares.look(NAME, known, BALANCED)))


def payload_of(entry: bytes) -> str:
    return unpack_entry(entry).payload.decode()


def payloads(given: list[Given]) -> list[str]:
    return [payload_of(each.entry) for each in given]


def spread(given: list[Given]) -> Counter[str]:
    return Counter(shares.client_of(each.member) for each in given)


def letters(caller: Caller) -> list[bytes]:
    return [fields[b"reason"] for _, fields in caller.stream(keys.letters(caller.prefix, BUCKET))]


# Waiting and giving


def test_messages_wait_for_the_first_member(caller: Caller) -> None:
    assert share(caller, "one", "two") == ([], 0, [])
    had, given = join(caller, "a")
    assert had == []
    assert payloads(given) == ["one", "two"]
    assert {each.node for each in given} == {"node-1"}


def test_equal_members_get_equal_shares(caller: Caller) -> None:
    for client_id in ("a", "b", "c"):
        join(caller, client_id, window=100)
    _, _, given = share(caller, *(str(i) for i in range(30)))
    assert spread(given) == {"a": 10, "b": 10, "c": 10}


def test_one_by_one_they_take_turns(caller: Caller) -> None:
    for client_id in ("a", "b", "c"):
        join(caller, client_id)
    counts: Counter[str] = Counter()
    for i in range(30):
        _, _, given = share(caller, str(i))
        counts += spread(given)
        done(caller, *given)
    assert counts == {"a": 10, "b": 10, "c": 10}


def test_who_has_no_room_gets_nothing(caller: Caller) -> None:
    join(caller, "slow", window=1)
    join(caller, "fast", window=3)
    _, _, given = share(caller, *(str(i) for i in range(10)))
    assert spread(given) == {"slow": 1, "fast": 3}
    fast = [each for each in given if each.member == "s:fast"]
    more = done(caller, *fast)
    assert spread(more) == {"fast": 3}
    assert payloads(given + more) == ["0", "1", "2", "3", "4", "5", "6"]


def test_each_message_names_the_one_before(caller: Caller) -> None:
    join(caller, "a")
    _, _, given = share(caller, "one", "two")
    assert given[0].before == shares.NOTHING_GIVEN
    assert given[1].before == given[0].id
    _, _, more = share(caller, "three")
    assert more[0].before == given[1].id


@pytest.mark.parametrize("strategy", shares.STRATEGIES)
def test_every_strategy_gives_everything_away(caller: Caller, strategy: str) -> None:
    for client_id in ("a", "b", "c"):
        join(caller, client_id, window=100)
    policy = Policy(strategy, 60_000)
    counts: Counter[str] = Counter()
    for i in range(60):
        _, _, given = share(caller, str(i), topic=f"t/{i}", policy=policy)
        counts += spread(given)
    assert counts.total() == 60
    if strategy == "sticky":
        assert len(counts) == 1
    elif strategy == "hash_topic":
        assert len(counts) == 3
    else:
        assert set(counts.values()) == {20}


def test_by_hash_a_topic_stays_with_its_member(caller: Caller) -> None:
    for client_id in ("a", "b", "c"):
        join(caller, client_id, window=1)
    policy = Policy("hash_topic", 60_000)
    owners: dict[str, set[str]] = {}
    for i in range(60):
        topic = f"t/{i % 6}"
        _, _, given = share(caller, str(i), topic=topic, policy=policy)
        owners.setdefault(topic, set()).update(spread(given))
    assert all(len(who) == 1 for who in owners.values())


# Done


def test_what_is_done_leaves_the_group(caller: Caller) -> None:
    join(caller, "a")
    _, _, given = share(caller, "one", "two")
    assert done(caller, *given) == []
    assert look(caller).waiting == 0
    assert join(caller, "a")[0] == []


def test_a_message_in_a_queue_keeps_its_place_until_completed(caller: Caller) -> None:
    join(caller, "a", window=1)
    _, _, given = share(caller, "one", "two", qos=2)
    assert payloads(given) == ["one"]
    assert done(caller, *given, keeps=True) == []
    request = shares.done(NAME, given[0].member, [], False, 1, BALANCED)
    assert payloads(shares.parse_given(caller.ask(request))) == ["two"]


def test_done_twice_frees_one_place(caller: Caller) -> None:
    join(caller, "a", window=2)
    _, _, given = share(caller, "1", "2", "3", "4")
    assert payloads(done(caller, given[0])) == ["3"]
    assert done(caller, given[0]) == []


# Coming and going


def test_a_lost_member_leaves_its_work_to_others(caller: Caller) -> None:
    join(caller, "a")
    _, _, given = share(caller, "one", "two")
    assert spread(given) == {"a": 2}
    join(caller, "b")
    owed, moved = leave(caller, "a")
    assert owed == []
    assert spread(moved) == {"b": 2}
    assert payloads(moved) == ["one", "two"]
    assert done(caller, *given) == []  # too late: it is b's now
    assert look(caller, ("s:b", "")).pending == 2


def test_nobody_left_the_work_waits(caller: Caller) -> None:
    join(caller, "a")
    share(caller, "one")
    assert leave(caller, "a") == ([], [])
    assert look(caller).waiting == 1
    assert payloads(join(caller, "a", epoch=2)[1]) == ["one"]


def test_qos_2_stays_with_a_session_that_lives_on(caller: Caller) -> None:
    join(caller, "a")
    join(caller, "b")
    share(caller, "one", "two", qos=2)
    owed, moved = leave(caller, "a")
    assert owed == ["one"]
    assert moved == []


def test_qos_2_is_given_to_nobody_else_if_the_session_has_ended(caller: Caller) -> None:
    join(caller, "a")
    share(caller, "one", qos=2)
    join(caller, "b")
    assert leave(caller, "a", ended=True) == ([], [])
    assert letters(caller) == [b"shared_session_ended"]
    assert look(caller).waiting == 0


def test_a_direct_session_ends_with_its_connection(caller: Caller) -> None:
    join(caller, "a", direct=True)
    share(caller, "one", qos=2)
    assert leave(caller, "a", direct=True) == ([], [])
    assert letters(caller) == [b"shared_session_ended"]


def test_the_granted_qos_counts(caller: Caller) -> None:
    join(caller, "a", qos=1)
    share(caller, "one", qos=2)
    join(caller, "b")
    owed, moved = leave(caller, "a")
    assert owed == []
    assert spread(moved) == {"b": 1}


def test_the_next_connection_has_what_the_last_one_had(caller: Caller) -> None:
    join(caller, "a", window=2)
    share(caller, "1", "2", "3")
    had, given = join(caller.other(), "a", epoch=2, window=2)
    assert had == ["1", "2"]
    assert given == []
    assert leave(caller, "a", epoch=1) == ([], [])  # of the connection before: it means nothing now
    assert look(caller.other(), ("s:a", "9-9")).unknown == []


def test_an_older_connection_can_not_join(caller: Caller) -> None:
    join(caller, "a", epoch=2)
    assert caller.ask(shares.join(NAME, "s:a", 1, 10, 2, BALANCED)) is False


# Looking


def test_what_a_hint_should_have_said_is_found(caller: Caller) -> None:
    join(caller, "a")
    _, _, given = share(caller, "1", "2", "3")
    found = look(caller, ("s:a", given[0].id))
    assert [payload_of(entry) for _, _, entry in found.missed] == ["2", "3"]
    assert look(caller, ("s:a", given[2].id)).missed == []


def test_members_of_a_node_that_is_gone_are_removed(caller: Caller) -> None:
    dead = caller.other("dead-node")
    join(dead, "a")
    join(dead, "q", direct=True)
    share(caller, "1", "2", qos=1)
    share(caller, "3", "4", qos=2)
    join(caller, "b")
    assert look(caller, ("s:b", "")).given == []
    caller.redis.set(keys.tombstone(caller.prefix, BUCKET, "dead-node"), 1)
    found = look(caller, ("s:b", ""))
    assert sorted(payloads(found.given)) == ["1", "2"]
    assert spread(found.given) == {"b": 2}
    assert [(member, payload_of(entry)) for member, _, entry in found.owed] == [("s:a", "4")]
    assert letters(caller) == [b"shared_session_ended"]


def test_a_member_that_its_node_does_not_have_is_removed(caller: Caller) -> None:
    join(caller, "a")
    share(caller, "1")
    join(caller.other(), "b")
    found = look(caller)
    assert spread(found.given) == {"b": 1}
    join(caller, "a", epoch=2)
    assert look(caller, ("s:a", "")).unknown == []


def test_a_member_that_is_not_known_is_named(caller: Caller) -> None:
    assert look(caller, ("s:a", "0-0")).unknown == ["s:a"]
    join(caller, "a")
    assert look(caller, ("s:a", "0-0")).unknown == []
    assert look(caller.other(), ("s:a", "0-0")).unknown == ["s:a"]


# Bounds


def test_a_full_group_drops_the_new(caller: Caller) -> None:
    statuses, dropped, _ = share(caller, "1", "2", "3", limit=2)
    assert statuses == [0, 0, 3]
    assert dropped == 0
    assert payloads(join(caller, "a")[1]) == ["1", "2"]
    assert letters(caller) == [b"drop_new"]


def test_who_tells_of_what_is_dropped_learns_what_it_was(caller: Caller) -> None:
    share(caller, "1", "2", limit=2, topic="old")
    request = shares.share(NAME, 2, True, BALANCED, [pack_head(1, False, ()), 0, False, 0], tells=True)
    reply = caller.ask(request, [pack_body("new", b"", b"", 0)])
    assert shares.parse_share(reply) == ((), 1, [], [b"old", 1, b""])


def test_a_full_group_drops_the_oldest_that_nobody_has(caller: Caller) -> None:
    join(caller, "a", window=1)
    share(caller, "1", "2", limit=2)
    statuses, dropped, _ = share(caller, "3", limit=2, drop_oldest=True)
    assert (statuses, dropped) == ([], 1)
    assert letters(caller) == [b"drop_oldest"]
    owed, _ = leave(caller, "a")
    assert owed == []
    assert sorted(payloads(join(caller, "b")[1])) == ["1", "3"]


def test_a_token_is_taken_once(caller: Caller) -> None:
    share(caller, "1", token=b"token")
    assert share(caller, "1", token=b"token")[0] == [2]
    assert payloads(join(caller, "a")[1]) == ["1"]


def test_a_group_that_nobody_uses_ends(caller: Caller) -> None:
    share(caller, "1")
    for key in (keys.share(caller.prefix, BUCKET, NAME), keys.share_members(caller.prefix, BUCKET, NAME)):
        ttl = caller.redis.pttl(key)
        assert 0 < ttl <= 60_000
    forever = Policy("balanced", 4294967295000)
    share(caller, "2", policy=forever)
    assert caller.redis.pttl(keys.share(caller.prefix, BUCKET, NAME)) == -1


def test_names_tell_client_and_kind() -> None:
    assert shares.client_of(shares.member_name("a:b", 0)) == "a:b"
    assert shares.client_of(shares.member_name("a:b", 7)) == "a:b"
    assert shares.member_name("c", 0) != shares.member_name("c", 1)


def test_who_is_not_subscribed_any_more_gives_back_what_it_has_not_been_sent(caller: Caller) -> None:
    join(caller, "a", window=2)
    _, _, given = share(caller, "1", "2", qos=2)
    join(caller, "b")
    request = shares.give_back(NAME, "s:a", [given[0].id], BALANCED)
    moved = shares.parse_given(caller.ask(request))
    assert [(each.member, payload_of(each.entry)) for each in moved] == [("s:b", "1")]
    assert shares.parse_given(caller.ask(request)) == []  # sent again
    assert spread(share(caller, "3")[2]) == {"b": 1}
    assert shares.parse_given(caller.ask(shares.give_back("no/group", "s:a", ["1-0"], BALANCED))) == []
