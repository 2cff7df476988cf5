"""Claims and detaches: who owns a session, and what becomes of it."""

import pytest

from cluster.store import keys, queues, receive, sessions
from cluster.store.entry import unpack_entry
from cluster.store.reply import as_list
from tests.store.caller import BODY, HEAD, OPTIONS, Caller, claim_fields

BUCKET = keys.bucket_of("c")


def owned(caller: Caller) -> set[bytes]:
    return caller.members(keys.owned(caller.prefix, BUCKET, caller.incarnation))


def bell(caller: Caller) -> set[bytes]:
    return caller.members(keys.bell(caller.prefix, BUCKET, caller.incarnation))


def test_a_new_session_starts_empty(caller: Caller) -> None:
    claim = caller.claim(window=10)
    assert not claim.present
    assert (claim.n, claim.sent, claim.hi) == (0, 0, 10)
    assert claim.previous_owner is None
    assert claim.previous_epoch == 0
    assert (claim.subscriptions, claim.receiving, claim.released) == ([], [], [])
    assert (claim.wills, claim.ended_rows, claim.replays) == ([], [], [])
    assert caller.field("owner") == "node-1"
    assert caller.field("direct") is None
    assert owned(caller) == {b"c"}


def test_a_session_is_resumed_with_all_it_holds(caller: Caller) -> None:
    first = caller.claim()
    stamp = caller.subscribe(first, "f", "g/+")
    caller.subscribe(first, "r/#", replay=2)
    caller.enqueue(3)
    caller.ask(queues.release(BUCKET, "c", first.epoch, [first.gen, 2, first.gen, 1]))
    caller.ask(receive.receive(BUCKET, "c", first.epoch, [7, b"tok\x00:1", 9, b"tok2"], 10))
    caller.ask(receive.routed(BUCKET, "c", first.epoch, [9]))
    assert not caller.detach(first, sent=3).stale
    assert owned(caller) == set()

    again = caller.other().claim()
    assert again.present
    assert again.epoch > first.epoch
    assert (again.gen, again.n, again.sent) == (first.gen, 3, 3)
    assert again.previous_owner is None
    assert again.previous_epoch == first.epoch
    assert sorted(again.subscriptions)[:2] == [("f", OPTIONS, stamp), ("g/+", OPTIONS, stamp)]
    assert sorted(again.receiving) == [(7, b"tok\x00:1", False), (9, b"tok2", True)]
    assert again.released == [1, 2]
    assert again.replays == [("r/#", "")]
    assert owned(caller.other()) == {b"c"}


def test_a_repeated_claim_gets_the_same_answer(caller: Caller) -> None:
    caller.subscribed()
    caller.enqueue(2)
    first = caller.other().claim(nonce=b"12345678")
    assert first.present
    assert claim_fields(caller.other().claim(nonce=b"12345678")) == claim_fields(first)


def test_a_repeated_claim_names_the_ended_rows_again(caller: Caller) -> None:
    old = caller.claim()
    stamp = caller.subscribe(old, "f")
    first = caller.claim(nonce=b"12345678", clean_start=True)
    assert first.ended_rows == [("f", stamp)]
    assert claim_fields(caller.claim(nonce=b"12345678", clean_start=True)) == claim_fields(first)


def test_takeover_of_a_live_session_fences_its_owner(caller: Caller) -> None:
    first = caller.subscribed()
    taken = caller.other().claim()
    assert taken.present
    assert (taken.previous_owner, taken.previous_epoch) == ("node-1", first.epoch)
    assert owned(caller) == set()
    assert bell(caller) == {f"kick:{first.epoch}:c".encode()}
    detached = caller.detach(first)
    assert detached.stale
    assert detached.ended_rows == []
    assert caller.field("owner") == "node-2"


def test_takeover_on_the_same_node_needs_no_bell(caller: Caller) -> None:
    first = caller.claim()
    second = caller.claim()
    assert (second.previous_owner, second.previous_epoch) == ("node-1", first.epoch)
    assert owned(caller) == {b"c"}
    assert bell(caller) == set()


def test_clean_start_wipes_everything(caller: Caller) -> None:
    old = caller.claim()
    stamp = caller.subscribe(old, "f", "g")
    caller.enqueue(3)
    caller.ask(queues.release(BUCKET, "c", old.epoch, [old.gen, 1]))
    caller.ask(receive.receive(BUCKET, "c", old.epoch, [7, b"token"], 10))
    new = caller.claim(clean_start=True)
    assert not new.present
    assert new.gen > old.gen
    assert (new.n, new.sent) == (0, 0)
    assert (new.subscriptions, new.receiving, new.released) == ([], [], [])
    assert sorted(new.ended_rows) == [("f", stamp), ("g", stamp)]
    assert caller.session_keys() == {"s", "ended"}
    assert caller.enqueue(1)[3] == [1]  # the subscription is gone


def test_clean_start_of_a_detached_session_leaves_no_deadline(caller: Caller) -> None:
    caller.detach(caller.subscribed())
    assert caller.due_members() == ["s:c"]
    caller.claim(clean_start=True)
    assert caller.due_members() == []


@pytest.mark.parametrize("window", [1, 3, 5, 6])
def test_hi_of_a_claim_is_the_nth_entry_or_a_window_beyond(caller: Caller, window: int) -> None:
    claim = caller.subscribed(window=2)
    caller.enqueue(6)
    caller.ask(queues.ack(BUCKET, "c", [claim.gen, 1]))  # 2, 3, 4, 5, 6 are left
    caller.detach(claim, sent=2)
    again = caller.claim(window=window)
    assert again.sent == 2
    assert again.hi == max(2, {1: 2, 3: 4, 5: 6, 6: 12}[window])


def test_sent_is_bounded_by_what_was_queued(caller: Caller) -> None:
    caller.subscribed(window=10)  # hi is 10, n is 0
    caller.enqueue(4)
    taken = caller.other().claim()  # no detach: as if the node had died
    assert taken.sent == 4


def test_hi_is_never_below_sent(caller: Caller) -> None:
    claim = caller.subscribed(window=10)
    caller.enqueue(5)
    caller.detach(claim, sent=5)
    assert caller.claim(window=1).hi == 5


def test_detach_keeps_what_earlier_connections_sent(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(5)
    caller.detach(claim, sent=4)
    second = caller.claim()
    caller.detach(second, sent=0)
    assert caller.field("hi") == "4"
    assert caller.claim().sent == 4


def test_a_session_with_expiry_zero_ends_with_its_connection(caller: Caller) -> None:
    claim = caller.claim(expiry=0)
    assert caller.field("direct") == "1"
    detached = caller.detach(claim)
    assert not detached.stale
    assert caller.session_keys() == set()
    assert owned(caller) == set()
    assert caller.due_members() == []


def test_a_plain_session_ends_with_its_connection(caller: Caller) -> None:
    claim = caller.claim(expiry=0)
    assert not caller.detach(claim, is_plain=True).stale
    assert caller.session_keys() == set()
    assert owned(caller) == set()
    assert caller.detach(claim, is_plain=True).stale  # a repeat


def test_a_plain_session_that_was_taken_over_stays(caller: Caller) -> None:
    first = caller.claim(expiry=0)
    caller.other().claim(expiry=0)
    assert caller.detach(first, is_plain=True).stale
    assert caller.field("owner") == "node-2"
    assert owned(caller.other()) == {b"c"}


def test_a_brief_answer_says_what_a_whole_one_does(caller: Caller) -> None:
    def answer(client_id: str, **arguments: object) -> object:
        request = sessions.claim(
            client_id, nonce=b"12345678", clean_start=True, expiry_seconds=0, protocol=4, window=10,
            will=None, will_delay_seconds=0,
        )  # fmt: skip
        return caller.ask(request[:11] if arguments else request)

    brief = answer("c")
    assert brief == [False, int(caller.field("epoch") or 0)]
    whole = sessions.parse_claim(answer("c", is_repeated=True))
    # `hi` is of a queue, and a direct session has none.
    assert claim_fields(sessions.parse_claim(brief)) == claim_fields(whole) | {"hi": 0}


def test_a_direct_session_needs_no_numbers(caller: Caller) -> None:
    """Whoever meets it takes them for 0: a message by a row that is stale, its node's end."""
    claim = caller.claim(expiry=0)
    assert (caller.field("n"), caller.field("hi")) == (None, None)
    assert caller.ask(queues.enqueue(BUCKET, "c", 1, True, ["f", HEAD, 0, False, 0] * 2), [BODY]) == [
        claim.epoch, 0, b"node-1", [1, 1], 0,
    ]  # fmt: skip
    more, _, ended, damaged = as_list(caller.other().ask(["reap", BUCKET, "node-1", 10]))
    assert (more, ended, damaged) == (False, [b"c", []], [])
    assert caller.session_keys() == set()


def test_an_answer_is_whole_if_there_was_something_to_find(caller: Caller) -> None:
    first = caller.claim(expiry=0, will=b"will")
    assert caller.claim(expiry=0).previous_epoch == first.epoch
    second = caller.claim(expiry=0, will=b"will")
    caller.detach(second)
    third = caller.claim(expiry=0)
    assert third.previous_owner is None
    assert [will.record for will in third.wills] == [b"will", b"will"]


def test_a_session_with_expiry_zero_is_never_resumed(caller: Caller) -> None:
    first = caller.claim(expiry=0)
    second = caller.claim(expiry=0)
    assert not second.present
    assert second.gen > first.gen
    assert second.previous_owner == "node-1"


def test_a_persistent_session_resumed_with_expiry_zero_stays_until_detach(caller: Caller) -> None:
    first = caller.claim()
    stamp = caller.subscribe(first, "f")
    caller.detach(first)
    second = caller.claim(expiry=0)
    assert second.present
    assert caller.field("direct") is None
    assert caller.enqueue(1)[3] is False
    assert caller.detach(second).ended_rows == [("f", stamp)]
    assert caller.session_keys() == {"ended"}


def test_disconnect_may_change_the_expiry(caller: Caller) -> None:
    first = caller.claim(expiry=3600)
    stamp = caller.subscribe(first, "f")
    detached = caller.detach(first, expiry=0)
    assert detached.ended_rows == [("f", stamp)]
    repeated = caller.detach(first, expiry=0)
    assert not repeated.stale
    assert repeated.ended_rows == [("f", stamp)]


def test_detach_sets_the_deadline_and_a_claim_removes_it(caller: Caller) -> None:
    before = caller.now_ms()
    caller.detach(caller.claim(expiry=60))
    score = caller.redis.zscore(keys.due(caller.prefix, BUCKET), "s:c")
    assert score is not None
    assert 0 <= score - before - 60_000 < 5_000
    assert caller.field("deadline") == str(int(score))
    caller.claim()
    assert caller.due_members() == []
    assert caller.field("deadline") is None


def test_a_session_that_never_expires_has_no_deadline(caller: Caller) -> None:
    caller.detach(caller.claim(expiry=sessions.NEVER))
    assert caller.due_members() == []
    assert caller.claim().present


def test_an_expired_session_is_not_resumed(caller: Caller) -> None:
    first = caller.claim(expiry=60)
    stamp = caller.subscribe(first, "f")
    caller.detach(first)
    caller.pass_time(61_000)
    second = caller.claim()
    assert not second.present
    assert second.ended_rows == [("f", stamp)]
    assert caller.due_members() == []


def test_a_repeated_detach_changes_nothing(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(3)
    assert not caller.detach(claim, sent=2).stale
    assert not caller.detach(claim, sent=3).stale
    assert caller.field("hi") == "2"


def test_names_with_braces_stay_in_their_bucket(caller: Caller) -> None:
    name = "a{1}%:b"
    claim = caller.claim(name)
    key = keys.session(caller.prefix, keys.bucket_of(name), name)
    assert "%7B1%7D%25" in key
    assert caller.redis.exists(key)
    assert not caller.detach(claim, name).stale


def test_an_unknown_session_is_stale(caller: Caller) -> None:
    request = sessions.detach("nobody", 5, sent=0, expiry_seconds=None, fire_will=True)
    assert sessions.parse_detach(caller.ask(request)).stale


def test_entries_before_a_claim_are_read_from_the_head(caller: Caller) -> None:
    first = caller.subscribed()
    caller.enqueue(3)
    caller.detach(first, sent=2)
    second = caller.claim()
    status, _hi, n, flat, _ = caller.page(second, 0, 10)
    assert (status, n) == (1, 3)
    assert isinstance(flat, list)
    assert flat[1::3] == [1, 2, 3]  # DUP for n <= sent, i.e. the first two
    assert second.sent == 2
    assert unpack_entry(flat[2]).payload == b"payload"


# How many there are


def count(caller: Caller) -> object:
    return caller.ask(sessions.session_count(BUCKET))


def test_persistent_sessions_are_counted_until_they_end(caller: Caller) -> None:
    assert count(caller) == 0
    direct = caller.claim(expiry=0)
    assert count(caller) == 0
    caller.detach(direct)
    first = caller.claim(nonce=b"12345678")
    caller.claim(nonce=b"12345678")  # the same one, repeated
    assert count(caller) == 1
    caller.detach(first)
    caller.detach(first)
    caller.other().claim()
    assert count(caller) == 1
    fresh = caller.claim(clean_start=True)
    assert count(caller) == 1
    caller.detach(fresh, expiry=0)
    caller.detach(fresh, expiry=0)
    assert count(caller) == 0
    caller.detach(caller.claim(), expiry=1)
    assert count(caller) == 1
    caller.pass_time(2000)
    caller.due()
    assert count(caller) == 0
