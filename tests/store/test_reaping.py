"""Reaping: what a dead node owned is given back once, in steps that anybody may repeat."""

import pytest
import redis

from cluster.store import deadlines, inboxes, keys, membership, subscriptions
from cluster.store.membership import Reaped
from cluster.store.sessions import NEVER
from tests.store.caller import LEASE_MS, Caller

BUCKET = keys.bucket_of("c")
DAY_SECONDS = 86_400
DEAD = "node-1"


@pytest.fixture
def dead(caller: Caller) -> Caller:
    """A member that will show no further life sign."""
    caller.ask(membership.join(DEAD))
    return caller


@pytest.fixture
def reaper(dead: Caller) -> Caller:
    """Another member."""
    reaper = dead.other("node-2")
    reaper.ask(membership.join(reaper.incarnation))
    return reaper


def beat(caller: Caller) -> None:
    caller.ask(membership.beat(caller.incarnation), function="free")


def tick(caller: Caller, times: int = 5) -> None:
    """Beats of one node over so many seconds."""
    for _ in range(times):
        caller.redis.delete(keys.tick(caller.prefix) + ":pace")  # a second later
        beat(caller)


def dead_nodes(caller: Caller, limit: int = 100) -> list[str]:
    return membership.parse_dead_nodes(caller.ask(membership.dead_nodes(limit), function="free"))


def bury(caller: Caller, slot: int | str = "m") -> bool:
    return caller.ask(membership.bury(slot, DEAD), function="free") is True


def reap(caller: Caller, limit: int = 100, bucket: int = BUCKET) -> Reaped:
    return membership.parse_reap(caller.ask(membership.reap(bucket, DEAD, limit), function="free"))


def forget(caller: Caller) -> None:
    caller.ask(inboxes.close_inbox(DEAD), function="free")
    caller.ask(membership.leave(DEAD), function="free")


def owned(caller: Caller, bucket: int = BUCKET) -> set[bytes]:
    return caller.members(keys.owned(caller.prefix, bucket, DEAD))


def names_of_bucket(count: int) -> list[str]:
    """Client ids that share the bucket of "c"."""
    names = (f"c{i}" for i in range(100_000))
    return [next(name for name in names if keys.bucket_of(name) == BUCKET) for _ in range(count)]


# Who is dead


def test_a_node_is_dead_five_ticks_behind(reaper: Caller) -> None:
    tick(reaper, 4)
    assert dead_nodes(reaper) == []
    assert not bury(reaper)
    tick(reaper, 1)
    assert dead_nodes(reaper) == [DEAD]
    assert bury(reaper)


def test_nobody_grows_older_without_beats(reaper: Caller) -> None:
    """Redis was away, or every node stood still: who beats first finds no dead."""
    tick(reaper, 4)
    for _ in range(10):  # all within the same second
        beat(reaper)
    assert dead_nodes(reaper) == []


def test_who_asks_is_alive(dead: Caller, reaper: Caller) -> None:
    tick(reaper)
    assert dead_nodes(dead) == []
    assert dead_nodes(dead.other("node-3")) == [DEAD]


def test_at_most_so_many_dead_are_named(reaper: Caller) -> None:
    reaper.ask(membership.join("node-3"))
    tick(reaper)
    assert len(dead_nodes(reaper, limit=1)) == 1
    assert sorted(dead_nodes(reaper)) == [DEAD, "node-3"]


def test_a_cluster_that_has_never_beaten_has_no_dead(caller: Caller) -> None:
    assert dead_nodes(caller) == []


# Tombstones


def test_a_beat_before_the_burial_saves_the_node(dead: Caller, reaper: Caller) -> None:
    tick(reaper)
    assert dead_nodes(reaper) == [DEAD]
    beat(dead)
    assert not bury(reaper)
    assert not reaper.redis.exists(keys.tombstone(reaper.prefix, "m", DEAD))
    beat(dead)


def test_after_the_burial_nothing_of_the_node_is_accepted(dead: Caller, reaper: Caller) -> None:
    tick(reaper)
    assert bury(reaper)
    with pytest.raises(redis.ResponseError, match=r"^NODEGONE "):
        beat(dead)
    with pytest.raises(redis.ResponseError, match=r"^NODEGONE "):
        dead.claim()


@pytest.mark.parametrize("slot", ["m", BUCKET])
def test_a_tombstone_lasts_a_day_from_the_last_burial(reaper: Caller, slot: int | str) -> None:
    tick(reaper)
    assert bury(reaper, slot)
    key = keys.tombstone(reaper.prefix, slot, DEAD)
    assert DAY_SECONDS - 5 < reaper.redis.ttl(key) <= DAY_SECONDS
    reaper.redis.expire(key, 10)
    assert bury(reaper.other("node-3"), slot)
    assert reaper.redis.ttl(key) > DAY_SECONDS - 5


def test_who_was_buried_is_found_until_forgotten(reaper: Caller) -> None:
    """Whoever buried it may have died; the next reaper goes on."""
    tick(reaper)
    bury(reaper)
    assert dead_nodes(reaper.other("node-3")) == [DEAD]
    forget(reaper)
    assert dead_nodes(reaper.other("node-3")) == []
    assert not bury(reaper)  # another reaper has done it all


# Sessions


def test_a_session_is_given_back(caller: Caller, reaper: Caller) -> None:
    caller.claim(expiry=60)
    before = caller.now_ms()
    assert reap(reaper) == Reaped(False, [], [], [])
    assert owned(caller) == set()
    assert (caller.field("owner"), caller.field("claim")) == (None, None)
    deadline = int(caller.field("deadline") or 0)
    assert 0 <= deadline - before - 60_000 < 5_000
    assert caller.scores(keys.due(caller.prefix, BUCKET)) == {"s:c": deadline}


def test_a_session_that_never_expires_is_given_back(caller: Caller, reaper: Caller) -> None:
    caller.claim(expiry=NEVER)
    assert reap(reaper).ended == []
    assert caller.field("owner") is None
    assert caller.due_members() == []


@pytest.mark.parametrize(("queued", "hi"), [(0, 0), (4, 4), (10, 10), (12, 10)])
def test_nothing_was_sent_that_was_not_queued(caller: Caller, reaper: Caller, queued: int, hi: int) -> None:
    caller.subscribed(window=10)  # hi is 10
    if queued:
        caller.enqueue(queued)
    reap(reaper)
    assert caller.field("hi") == str(hi)
    assert reaper.claim().sent == hi


def test_what_a_session_holds_outlives_its_node(caller: Caller, reaper: Caller) -> None:
    first = caller.subscribed()
    caller.enqueue(3)
    reap(reaper)
    again = reaper.claim()
    assert again.present
    assert again.previous_owner is None
    assert (again.gen, again.n) == (first.gen, 3)
    assert [name for name, _, _ in again.subscriptions] == ["f"]
    assert caller.ids() == [1, 2, 3]


def test_a_reaped_session_expires(caller: Caller, reaper: Caller) -> None:
    caller.subscribed(expiry=60)
    reap(reaper)
    caller.pass_time(61_000)
    assert [ended.client_id for ended in reaper.due().ended] == ["c"]
    assert caller.session_keys() == {"ended"}


def test_a_session_of_expiry_zero_ends_at_once(caller: Caller, reaper: Caller) -> None:
    caller.claim(expiry=0)
    assert reap(reaper).ended == [deadlines.EndedSession("c", [])]
    assert caller.session_keys() == set()
    assert caller.due_members() == []
    assert reap(reaper).ended == []


def test_the_rows_of_an_ended_session_are_named(caller: Caller, reaper: Caller) -> None:
    first = caller.claim()
    stamp = caller.subscribe(first, "f")
    caller.detach(first)
    caller.claim(expiry=0)  # resumed, and to end with this connection
    assert reap(reaper).ended == [deadlines.EndedSession("c", [("f", stamp)])]
    assert caller.session_keys() == {"ended"}


def test_what_another_node_has_claimed_is_left_alone(caller: Caller, reaper: Caller) -> None:
    caller.claim()
    reaper.claim(will=b"new")
    caller.redis.sadd(keys.owned(caller.prefix, BUCKET, DEAD), "c")  # as if the claim had not removed it
    assert reap(reaper) == Reaped(False, [], [], [])
    assert caller.field("owner") == "node-2"
    assert caller.field("will_delay") == "0"
    assert owned(caller) == set()
    assert caller.members(keys.owned(caller.prefix, BUCKET, "node-2")) == {b"c"}


def test_a_member_without_a_session_is_removed(caller: Caller, reaper: Caller) -> None:
    caller.redis.sadd(keys.owned(caller.prefix, BUCKET, DEAD), "nobody")
    assert reap(reaper) == Reaped(False, [], [], [])
    assert caller.key_names() == {
        keys.nodes(caller.prefix),
        keys.tick(caller.prefix),
        keys.version(caller.prefix),
    }


def test_a_detached_session_keeps_its_own_deadline(caller: Caller, reaper: Caller) -> None:
    caller.detach(caller.claim(expiry=60))
    caller.pass_time(10_000)
    deadline = caller.field("deadline")
    reap(reaper)
    assert caller.field("deadline") == deadline


def test_the_bell_is_deleted_with_the_last_session(caller: Caller, reaper: Caller) -> None:
    names = names_of_bucket(3)
    for name in names:
        caller.claim(name)
    reaper.claim(names[0])
    bell = keys.bell(caller.prefix, BUCKET, DEAD)
    assert len(caller.members(bell)) == 1  # the kick
    assert reap(reaper, limit=1).more
    assert caller.redis.exists(bell)
    assert not reap(reaper, limit=1).more
    assert not caller.redis.exists(bell)
    assert not caller.redis.exists(keys.owned(caller.prefix, BUCKET, DEAD))


def test_two_reapers_share_the_work(caller: Caller, reaper: Caller) -> None:
    names = names_of_bucket(7)
    for name in names:
        caller.claim(name, will=name.encode(), expiry=0)
    reapers = [reaper, reaper.other("node-3")]
    found: list[bytes] = []
    ended: list[str] = []
    steps = 0
    more = True
    while more:
        reaped = reap(reapers[steps % 2], limit=2)
        assert len(reaped.wills) <= 2
        found += [will.record for will in reaped.wills]
        ended += [each.client_id for each in reaped.ended]
        more = reaped.more
        steps += 1
    assert steps == 4
    assert sorted(found) == sorted(name.encode() for name in names)
    assert sorted(ended) == sorted(names)
    assert all(reap(each) == Reaped(False, [], [], []) for each in reapers)


def test_a_damaged_session_stalls_no_other(caller: Caller, reaper: Caller) -> None:
    bad, good = names_of_bucket(2)
    for name in (bad, good):
        caller.claim(name, expiry=0)
    caller.redis.set(keys.session(caller.prefix, BUCKET, bad), "no hash")
    reaped = reap(reaper)
    assert [ended.client_id for ended in reaped.ended] == [good]
    ((client_id, problem),) = reaped.damaged
    assert client_id == bad
    assert "WRONGTYPE" in problem
    assert not reaped.more
    assert reap(reaper).damaged == []


def test_reaping_needs_no_memory(caller: Caller, reaper: Caller) -> None:
    caller.claim(will=b"w")
    tick(reaper)
    caller.redis.config_set("maxmemory", 1)
    assert bury(reaper)
    assert bury(reaper, BUCKET)
    assert len(reap(reaper).wills) == 1
    forget(reaper)
    caller.redis.config_set("maxmemory", 0)


# Wills


def test_a_will_without_delay_is_due_and_leased(caller: Caller, reaper: Caller) -> None:
    claim = caller.claim(will=b"record")
    (will,) = reap(reaper).wills
    assert (will.token, will.record) == (f"will-{BUCKET}-{claim.epoch}".encode(), b"record")
    assert reaper.due().wills == []
    assert reap(reaper.other("node-3")).wills == []
    reaper.ask(deadlines.done(BUCKET, [will.member]))
    assert caller.due_members() == ["s:c"]
    assert caller.session_keys() == {"s"}


def test_a_will_outlives_the_reaper_that_had_it(caller: Caller, reaper: Caller) -> None:
    caller.claim(will=b"record")
    (will,) = reap(reaper).wills
    caller.pass_time(LEASE_MS)
    assert reaper.other("node-3").due().wills == [will]


def test_a_claim_names_a_will_that_a_reaper_has_leased(caller: Caller, reaper: Caller) -> None:
    caller.claim(will=b"record")
    (will,) = reap(reaper).wills
    assert reaper.other("node-3").claim().wills == [will]


def test_a_delayed_will_waits_from_now_on(caller: Caller, reaper: Caller) -> None:
    claim = caller.claim(will=b"record", will_delay=30)
    before = caller.now_ms()
    assert reap(reaper).wills == []
    at = caller.scores(keys.due(caller.prefix, BUCKET))[f"w:c:{claim.epoch}"]
    assert 0 <= at - before - 30_000 < 5_000
    caller.pass_time(31_000)
    assert [will.record for will in reaper.due().wills] == [b"record"]


def test_a_new_connection_cancels_the_delayed_will_of_a_dead_node(caller: Caller, reaper: Caller) -> None:
    caller.claim(will=b"record", will_delay=30)
    reap(reaper)
    assert reaper.claim().wills == []
    assert caller.session_keys() == {"s"}


def test_a_will_waits_no_longer_than_its_session(caller: Caller, reaper: Caller) -> None:
    caller.claim(will=b"record", will_delay=30, expiry=0)
    reaped = reap(reaper)
    assert [ended.client_id for ended in reaped.ended] == ["c"]
    assert [will.record for will in reaped.wills] == [b"record"]


def test_a_claim_before_the_reaper_decides_the_will(caller: Caller, reaper: Caller) -> None:
    first = caller.claim(will=b"offline")
    second = reaper.claim(will=b"new")
    assert second.present
    assert (second.previous_owner, second.previous_epoch) == (DEAD, first.epoch)
    assert [will.record for will in second.wills] == [b"offline"]
    assert reap(reaper) == Reaped(False, [], [], [])


# The end of the membership


def test_forgetting_takes_interest_and_inbox_away(dead: Caller, reaper: Caller) -> None:
    dead.ask(inboxes.open_inbox(DEAD))
    reaper.ask(inboxes.send(DEAD, b"record"))
    version = subscriptions.parse_version(dead.ask(subscriptions.interest(DEAD, ["1:a", "0:b"], [])))
    tick(reaper)
    bury(reaper)
    forget(reaper)
    assert not reaper.redis.exists(keys.interest(dead.prefix, DEAD), keys.inbox(dead.prefix, DEAD))
    assert reaper.redis.zscore(keys.nodes(dead.prefix), DEAD) is None
    assert reaper.ask(inboxes.send(DEAD, b"too late")) == 0
    log = subscriptions.parse_log(reaper.ask(subscriptions.log_since(version)))
    assert log is not None
    assert [(each.kind, each.who) for each in log.changes] == [("gone", DEAD)]


def test_forgetting_again_changes_nothing(reaper: Caller) -> None:
    tick(reaper)
    bury(reaper)
    forget(reaper)
    version = reaper.redis.get(keys.version(reaper.prefix))
    forget(reaper.other("node-3"))
    assert reaper.redis.get(keys.version(reaper.prefix)) == version
