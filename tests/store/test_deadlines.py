"""Wills and expiry: each will is published exactly once, or cancelled before it is due."""

from cluster.store import deadlines, keys, retained
from cluster.store.sessions import Claim
from tests.store.caller import LEASE_MS, Caller, claim_fields

BUCKET = keys.bucket_of("c")


def will_keys(caller: Caller) -> set[str]:
    return caller.session_keys() & {"will", "wills"}


def token(claim: Claim) -> bytes:
    return f"will-{BUCKET}-{claim.epoch}".encode()


def member(claim: Claim, client_id: str = "c") -> bytes:
    return f"w:{client_id}:{claim.epoch}".encode()


def done(caller: Caller, *members: bytes) -> None:
    caller.ask(deadlines.done(BUCKET, members), function="free")


def test_a_will_without_delay_is_due_at_detach(caller: Caller) -> None:
    claim = caller.claim(will=b"record")
    detached = caller.detach(claim)
    assert detached.will == deadlines.DueWill(member(claim), token(claim), b"record")
    assert caller.due().wills == []  # leased to the one who detached
    assert caller.detach(claim).will == detached.will  # sent again
    done(caller, member(claim))
    assert will_keys(caller) == set()
    assert caller.due_members() == ["s:c"]
    assert caller.detach(claim).will is None


def test_a_will_is_deleted_at_an_orderly_disconnect(caller: Caller) -> None:
    claim = caller.claim(will=b"record", will_delay=5)
    assert caller.detach(claim, fire_will=False).will is None
    assert will_keys(caller) == set()
    assert caller.due_members() == ["s:c"]
    assert caller.claim().wills == []


def test_the_lease_ends_with_the_node_that_had_it(caller: Caller) -> None:
    claim = caller.claim(will=b"record")
    detached = caller.detach(claim)
    caller.pass_time(LEASE_MS)
    found = caller.other().due()
    assert found.wills == [detached.will]  # the same token: no subscriber takes it twice
    assert caller.other().due().wills == []


def test_a_delayed_will_is_due_after_its_delay(caller: Caller) -> None:
    claim = caller.claim(will=b"record", will_delay=30)
    assert caller.detach(claim).will is None
    assert caller.due().wills == []
    caller.pass_time(31_000)
    (will,) = caller.due().wills
    assert (will.token, will.record) == (token(claim), b"record")
    done(caller, will.member)
    assert will_keys(caller) == set()


def test_a_new_connection_cancels_a_delayed_will(caller: Caller) -> None:  # [MQTT-3.1.3-9]
    claim = caller.claim(will=b"record", will_delay=30)
    caller.detach(claim)
    assert caller.claim().wills == []
    assert will_keys(caller) == set()
    assert caller.due_members() == []


def test_a_delayed_will_whose_time_has_come_is_not_cancelled(caller: Caller) -> None:
    claim = caller.claim(will=b"record", will_delay=30)
    caller.detach(claim)
    caller.pass_time(31_000)  # but nobody has looked yet
    again = caller.claim()
    assert again.present
    assert [will.token for will in again.wills] == [token(claim)]


def test_a_leased_will_is_named_by_every_claim_until_done(caller: Caller) -> None:
    claim = caller.claim(will=b"record", will_delay=1)
    caller.detach(claim)
    caller.pass_time(2_000)
    assert len(caller.other().due().wills) == 1  # and that node dies now
    again = caller.claim(nonce=b"12345678")
    assert [will.token for will in again.wills] == [token(claim)]
    assert claim_fields(caller.claim(nonce=b"12345678")) == claim_fields(again)
    done(caller, member(claim))
    assert caller.claim().wills == []


def test_a_takeover_publishes_a_will_without_delay(caller: Caller) -> None:
    first = caller.claim(will=b"old")
    second = caller.other().claim(will=b"new")
    assert second.present
    assert [(will.token, will.record) for will in second.wills] == [(token(first), b"old")]
    assert caller.detach(first).stale
    third = caller.claim()
    assert [will.record for will in third.wills] == [b"old", b"new"]  # oldest first


def test_a_takeover_cancels_a_will_with_delay(caller: Caller) -> None:
    caller.claim(will=b"old", will_delay=5)
    assert caller.claim().wills == []
    assert will_keys(caller) == set()


def test_the_end_of_the_session_publishes_a_delayed_will(caller: Caller) -> None:
    first = caller.claim(will=b"old", will_delay=50)
    second = caller.claim(clean_start=True)
    assert [will.token for will in second.wills] == [token(first)]


def test_clean_start_publishes_a_waiting_will(caller: Caller) -> None:
    first = caller.claim(will=b"old", will_delay=50)
    caller.detach(first)
    second = caller.claim(clean_start=True)
    assert [will.token for will in second.wills] == [token(first)]


def test_a_will_waits_no_longer_than_its_session(caller: Caller) -> None:
    first = caller.claim(will=b"old", will_delay=500, expiry=60)
    caller.detach(first)
    caller.pass_time(61_000)
    found = caller.due()
    assert [ended.client_id for ended in found.ended] == ["c"]
    assert [will.token for will in found.wills] == [token(first)]
    assert caller.due_members() == [member(first).decode()]


def test_a_session_of_expiry_zero_publishes_its_will_at_detach(caller: Caller) -> None:
    claim = caller.claim(will=b"record", will_delay=50, expiry=0)
    detached = caller.detach(claim)
    assert detached.will is not None
    repeated = caller.detach(claim)
    assert not repeated.stale
    assert repeated.will == detached.will


def test_a_new_will_is_apart_from_the_one_that_is_due(caller: Caller) -> None:
    first = caller.claim(will=b"first")
    caller.detach(first)
    second = caller.claim(will=b"second")
    assert [will.record for will in second.wills] == [b"first"]
    done(caller, member(first))
    detached = caller.detach(second)
    assert detached.will is not None
    assert detached.will.record == b"second"


def test_an_expired_session_is_ended_and_its_rows_are_named(caller: Caller) -> None:
    claim = caller.claim(expiry=60)
    stamp = caller.subscribe(claim, "f")
    caller.enqueue(3)
    caller.detach(claim)
    assert caller.due().ended == []
    caller.pass_time(61_000)
    found = caller.due()
    assert found.ended == [deadlines.EndedSession("c", [("f", stamp)])]
    assert not found.more
    assert caller.session_keys() == {"ended"}
    assert caller.due_members() == []
    assert caller.due().ended == []


def test_a_session_that_is_connected_does_not_expire(caller: Caller) -> None:
    caller.claim(expiry=60)
    due = keys.due(caller.prefix, BUCKET)
    caller.redis.zadd(due, {"s:c": 1})  # as if what the claim removes had come back
    caller.redis.hset(keys.session(caller.prefix, BUCKET, "c"), "deadline", 1)
    assert caller.due().ended == []
    assert caller.due_members() == []
    assert caller.field("owner") == "node-1"


def test_a_stale_deadline_is_corrected(caller: Caller) -> None:
    caller.detach(caller.claim(expiry=60))
    caller.redis.zadd(keys.due(caller.prefix, BUCKET), {"s:c": 1})
    assert caller.due().ended == []
    score = caller.redis.zscore(keys.due(caller.prefix, BUCKET), "s:c")
    assert str(int(score or 0)) == caller.field("deadline")


def test_more_than_the_limit_is_found_in_steps(caller: Caller) -> None:
    due = keys.due(caller.prefix, BUCKET)
    caller.redis.zadd(due, {f"s:{i}": i for i in range(5)})
    assert caller.due(limit=4).more
    assert not caller.due(limit=4).more
    assert caller.due_members() == []


def test_a_member_of_a_newer_version_is_left_and_does_not_block(caller: Caller) -> None:
    due = keys.due(caller.prefix, BUCKET)
    caller.redis.zadd(due, {"z:what": 1})
    assert not caller.due(limit=1).wills
    assert caller.due_members() == ["z:what"]
    assert (caller.redis.zscore(due, "z:what") or 0) > caller.now_ms()


def test_a_will_without_record_is_forgotten(caller: Caller) -> None:
    caller.redis.zadd(keys.due(caller.prefix, BUCKET), {"w:c:5": 1})
    assert caller.due().wills == []
    assert caller.due_members() == []


def test_client_ids_may_hold_colons(caller: Caller) -> None:
    name = "a:1"
    claim = caller.claim(name, will=b"record")
    detached = caller.detach(claim, name)
    assert detached.will is not None
    assert detached.will.member == member(claim, name)
    caller.ask(deadlines.done(keys.bucket_of(name), [detached.will.member]))
    assert caller.redis.keys(f"{caller.prefix}*will*") == []


def test_an_expired_retained_message_is_removed(caller: Caller) -> None:
    bucket = keys.bucket_of_topic("a/b")
    caller.ask(retained.retain("a/b", b"record", caller.now_ms() - 1, False, 0))
    caller.ask(retained.retain("a/c", b"record", 0, False, 0))
    due = deadlines.parse_due(caller.ask(deadlines.due(bucket, 10, LEASE_MS)))
    assert due.retained == 1
    caller.ask(retained.retain("a/c", None, 0, False, 0))
    due = deadlines.parse_due(caller.ask(deadlines.due(bucket, 10, LEASE_MS)))
    assert due.retained == 0
    assert not caller.redis.exists(keys.retained(caller.prefix, bucket))
    assert not caller.redis.exists(keys.due(caller.prefix, bucket))


def test_a_retained_message_that_was_replaced_keeps_its_own_deadline(caller: Caller) -> None:
    bucket = keys.bucket_of_topic("a")
    later = caller.now_ms() + 60_000
    caller.ask(retained.retain("a", b"old", caller.now_ms() + 10, False, 0))
    caller.ask(retained.retain("a", b"new", later, False, 0))
    caller.redis.zadd(keys.due(caller.prefix, bucket), {"r:a": 1})
    caller.ask(deadlines.due(bucket, 10, LEASE_MS))
    assert caller.redis.zscore(keys.due(caller.prefix, bucket), "r:a") == later
    caller.ask(retained.retain("a", b"stays", 0, False, 0))
    caller.redis.zadd(keys.due(caller.prefix, bucket), {"r:a": 1})
    caller.ask(deadlines.due(bucket, 10, LEASE_MS))
    assert caller.redis.zcard(keys.due(caller.prefix, bucket)) == 0
    assert caller.redis.hget(keys.retained(caller.prefix, bucket), "a") == b"0:stays"
