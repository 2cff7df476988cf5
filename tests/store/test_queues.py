"""Queues: numbers, bounds, policies, and what may have been sent."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.store import keys, queues, records, subscriptions
from cluster.store.entry import pack_body, pack_entry, pack_head, unpack_entry
from cluster.store.errors import ItemError
from cluster.store.reply import as_text, in_triples
from tests.store.caller import BODY, HEAD, OPTIONS, Caller, fields_of

BUCKET = keys.bucket_of("c")
OTHER = records.pack_options(2, False, False, 0, 7)


def letters(caller: Caller) -> list[tuple[bytes, bytes, bytes]]:
    found = caller.stream(keys.letters(caller.prefix, BUCKET))
    return [(fields[b"client"], fields[b"topic"], fields[b"reason"]) for _, fields in found]


def test_entries_get_consecutive_numbers(caller: Caller) -> None:
    claim = caller.subscribed()
    assert caller.enqueue(2) == [claim.gen, 0, b"node-1", False, 0]
    assert caller.enqueue(3) == [claim.gen, 2, b"node-1", False, 0]
    assert caller.ids() == [1, 2, 3, 4, 5]
    assert caller.field("n") == "5"


@pytest.mark.parametrize("before", [0, 95, 199, 999_998])
def test_numbers_are_consecutive_from_one_hundred_to_the_next(caller: Caller, before: int) -> None:
    caller.subscribed()
    caller.redis.hset(keys.session(caller.prefix, BUCKET, "c"), "n", before)
    caller.enqueue(3)
    caller.enqueue(250, limit=10_000_000)
    assert caller.ids() == list(range(before + 1, before + 254))


def test_an_entry_is_head_and_body_in_one(caller: Caller) -> None:
    claim = caller.subscribed()
    payload = bytes(range(256)) * 2
    bodies = [pack_body("a/b", b"", b"", 0), pack_body("ä/b", payload, b"\x01\x01", 1_700_000_000_123)]
    entries = ["f", pack_head(2, True, (5, 300)), 1, False, 0, "f", HEAD, 0, False, 0]
    caller.ask(queues.enqueue(BUCKET, "c", 100, True, entries), bodies)
    flat = caller.page(claim, 0, 10)[3]
    assert isinstance(flat, list)
    assert flat[0::3] == [claim.gen, claim.gen]
    whole = (2, True, (5, 300), "ä/b", payload, b"\x01\x01", 1_700_000_000_123, False)
    assert fields_of(unpack_entry(flat[2])) == whole
    assert fields_of(unpack_entry(flat[5])) == (1, False, (), "a/b", b"", b"", 0, False)


def test_a_large_entry_is_a_body_without_a_head(caller: Caller) -> None:
    """Beside one whose body has a head, in a call whose bodies are arguments."""
    claim = caller.subscribed()
    payload = bytes(range(256)) * 64
    large = pack_entry(pack_head(2, False, (7,)), "ä/b", payload, b"", 0)
    bodies = [large, pack_body("a/b", payload, b"", 0)]
    entries = ["f", queues.NO_HEAD, 0, False, 0, "f", HEAD, 1, False, 0]
    reply = caller.ask(queues.enqueue(BUCKET, "c", 100, True, entries, byte_limit=1 << 20), bodies)
    assert reply == [claim.gen, 0, b"node-1", False, 0]
    flat = caller.page(claim, 0, 10)[3]
    assert isinstance(flat, list)
    assert fields_of(unpack_entry(flat[2])) == (2, False, (7,), "ä/b", payload, b"", 0, False)
    assert fields_of(unpack_entry(flat[5])) == (1, False, (), "a/b", payload, b"", 0, False)


def test_a_large_entry_that_finds_no_room_is_a_dead_letter(caller: Caller) -> None:
    claim = caller.subscribed()
    large = pack_entry(HEAD, "ä/b", bytes(1000), b"", 0)
    entries = ["f", queues.NO_HEAD, 0, False, 0] * 2
    reply = caller.ask(queues.enqueue(BUCKET, "c", 1, False, entries), [large])
    assert reply == [claim.gen, 0, b"node-1", [0, 3], 0]
    assert letters(caller) == [(b"c", "ä/b".encode(), b"drop_new")]


def test_a_session_that_does_not_exist_refuses(caller: Caller) -> None:
    assert caller.enqueue(2) == [0, 0, False, [1, 1], 0]
    assert caller.session_keys() == set()


def test_entries_without_a_subscription_are_refused_one_by_one(caller: Caller) -> None:
    claim = caller.subscribed()
    body = [pack_body("t", b"", b"", 0)]
    entries: list[object] = []
    for name in ("f", "gone", "f", "gone"):
        entries += [name, HEAD, 0, False, 0]
    reply = caller.ask(queues.enqueue(BUCKET, "c", 100, True, entries), body)
    assert reply == [claim.gen, 0, b"node-1", [0, 1, 0, 1], 0]
    assert caller.ids() == [1, 2]


def test_what_was_matched_by_what_is_known_names_no_filter(caller: Caller) -> None:
    claim = caller.claim()
    stamp = caller.subscribe(claim, "f", "g")
    assert caller.enqueue(2, known=stamp) == [claim.gen, 0, b"node-1", False, 0]
    assert caller.enqueue(1, known=stamp + 1) == [claim.gen, 2, b"node-1", False, 0]
    assert caller.enqueue(3, known=stamp, limit=5, drop_oldest=False)[3] == [0, 0, 3]


@pytest.mark.parametrize("change", ["add", "replace", "unsubscribe"])
def test_a_change_of_the_subscriptions_is_told_to_who_does_not_know_it(caller: Caller, change: str) -> None:
    claim = caller.subscribed()
    known = caller.subscribe(claim, "g")
    if change == "unsubscribe":
        request = subscriptions.unsubscribe("c", claim.epoch, ["g", "none"])
        answer = subscriptions.parse_unsubscribe(caller.ask(request))
        assert answer is not None
        stamp = answer.stamp
    else:
        stamp = caller.subscribe(claim, "g" if change == "replace" else "h", options=OTHER)
    gen, n, owner, statuses, dropped, told_stamp, told = caller.enqueue(2, known=known, token=b"t")
    assert (gen, n, owner, statuses, dropped, told_stamp) == (claim.gen, 0, b"node-1", True, 0, stamp)
    expected = {"f": (OPTIONS, known - 1), "g": (OPTIONS, known)}
    expected |= {"add": {"h": (OTHER, stamp)}, "replace": {"g": (OTHER, stamp)}}.get(change, {})
    if change == "unsubscribe":
        del expected["g"]
    assert {as_text(name): (options, of) for name, options, of in in_triples(told)} == expected
    assert caller.ids() == []
    assert caller.enqueue(1, known=stamp, token=b"t")[3] is False  # the token was not taken


def test_what_changes_nothing_outdates_nobody(caller: Caller) -> None:
    claim = caller.subscribed()
    known = caller.subscribe(claim, "g")
    caller.subscribe(claim, "f", "g")
    caller.ask(subscriptions.unsubscribe("c", claim.epoch, ["none"]))
    assert caller.enqueue(1, known=known)[3:] == [False, 0]


def test_a_session_that_was_made_anew_is_not_the_one_that_is_known(caller: Caller) -> None:
    claim = caller.claim()
    known = caller.subscribe(claim, "f")
    caller.claim(clean_start=True)
    first = caller.enqueue(1, known=known)
    assert first[3:5] + first[6:] == [True, 0, []]
    assert caller.enqueue(1, known=known) == first  # a call that is sent again
    stamp = first[5]
    assert isinstance(stamp, int)
    assert stamp > known


def test_of_a_session_that_does_not_exist_nothing_is_known(caller: Caller) -> None:
    assert caller.enqueue(2, known=7) == [0, 0, False, True, 0, 0, []]
    known = caller.subscribe(caller.claim(), "f")
    ended = caller.claim(clean_start=True)
    caller.detach(ended, expiry=0)
    assert caller.enqueue(1, known=known) == [0, 0, False, True, 0, ended.epoch, []]  # no row can be newer
    assert caller.session_keys() <= {"ended"}


def test_a_session_of_an_older_release_is_told_once(caller: Caller) -> None:
    """It has no stamp: what rows there are of it may be more than it has."""
    claim = caller.claim()
    known = caller.subscribe(claim, "f")
    caller.redis.hdel(keys.session(caller.prefix, BUCKET, "c"), "stamp")
    outdated = caller.enqueue(1, known=known)
    assert outdated[6] == [b"f", OPTIONS, known]
    stamp = outdated[5]
    assert isinstance(stamp, int)
    assert caller.enqueue(1, known=stamp)[3] is False


def test_a_token_is_taken_once(caller: Caller) -> None:
    claim = caller.subscribed()
    assert caller.enqueue(1, token=b"\x00{tok}") == [claim.gen, 0, b"node-1", False, 0]
    assert caller.enqueue(1, token=b"\x00{tok}") == [claim.gen, 1, b"node-1", [2], 0]
    assert caller.enqueue(1, token=b"other")[3] is False
    assert caller.ids() == [1, 2]
    key = keys.once(caller.prefix, BUCKET, b"\x00{tok}")
    assert caller.redis.smembers(key) == {b"s:c"}
    assert 50_000 < caller.redis.pttl(key) <= 60_000


def test_a_token_is_taken_by_each_session(caller: Caller) -> None:
    other = next(f"d{i}" for i in range(1000) if keys.bucket_of(f"d{i}") == BUCKET)
    caller.subscribed()
    caller.subscribed(other)
    assert caller.enqueue(1, token=b"t")[3] is False
    assert caller.enqueue(1, other, token=b"t")[3] is False


def test_a_late_repeat_does_not_prolong_a_token(caller: Caller) -> None:
    other = next(f"d{i}" for i in range(1000) if keys.bucket_of(f"d{i}") == BUCKET)
    caller.subscribed()
    caller.subscribed(other)
    caller.enqueue(1, token=b"t")
    key = keys.once(caller.prefix, BUCKET, b"t")
    caller.redis.pexpire(key, 1000)
    assert caller.enqueue(1, token=b"t")[3] == [2]
    assert caller.enqueue(1, other, token=b"t")[3] is False
    assert caller.redis.pttl(key) <= 1000


def test_the_owner_elsewhere_finds_its_bell_rung(caller: Caller) -> None:
    caller.other().subscribed()
    assert caller.enqueue(1)[2] == b"node-2"
    bell = keys.bell(caller.prefix, BUCKET, "node-2")
    assert caller.redis.smembers(bell) == {b"s:c"}
    caller.redis.delete(bell)
    caller.other().enqueue(1)
    assert not caller.redis.exists(bell)


def test_a_detached_session_has_no_owner(caller: Caller) -> None:
    caller.detach(caller.subscribed())
    assert caller.enqueue(1)[2] is False


def test_acknowledged_entries_go_and_the_empty_stream_too(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(3)
    assert caller.ask(queues.ack(BUCKET, "c", [claim.gen, 2, claim.gen, 1])) == 2
    assert caller.ids() == [3]
    assert caller.ask(queues.ack(BUCKET, "c", [claim.gen, 2, claim.gen, 3])) == 1
    assert caller.session_keys() == {"s"}
    assert caller.enqueue(1)[1] == 3  # numbers go on
    assert caller.ids() == [4]


def test_an_ack_with_another_gen_means_another_entry(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(1)
    assert caller.ask(queues.ack(BUCKET, "c", [claim.gen - 1, 1])) == 0
    assert caller.ids() == [1]


def test_a_run_of_acks_spares_what_is_queued_before_it(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(12)
    run = [value for n in range(3, 9) for value in (claim.gen, n)]
    assert caller.ask(queues.ack(BUCKET, "c", run)) == 6
    assert caller.ids() == [1, 2, 9, 10, 11, 12]


def test_a_run_of_acks_at_the_head(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(12)
    run = [value for n in range(1, 9) for value in (claim.gen, n)]
    assert caller.ask(queues.ack(BUCKET, "c", run)) == 8
    assert caller.ask(queues.ack(BUCKET, "c", run)) == 0  # sent again
    assert caller.ids() == [9, 10, 11, 12]
    rest = [value for n in (9, 12, 11, 10) for value in (claim.gen, n)]
    assert caller.ask(queues.ack(BUCKET, "c", rest)) == 4
    assert caller.session_keys() == {"s"}


def test_a_run_over_two_gens_is_none(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(4)
    caller.redis.hset(keys.session(caller.prefix, BUCKET, "c"), mapping={"gen": claim.gen + 5, "n": 4})
    caller.enqueue(4)
    entries = [claim.gen, 3, claim.gen, 4, claim.gen + 5, 5, claim.gen + 5, 6]
    assert caller.ask(queues.ack(BUCKET, "c", entries)) == 4
    assert caller.ids() == [1, 2, 7, 8]


def test_many_acks_in_one_request(caller: Caller) -> None:
    claim = caller.subscribed()
    for _ in range(10):
        caller.enqueue(1000, limit=100_000)
    ids = [number for n in range(1, 10_001) for number in (claim.gen, n)]
    assert caller.ask(queues.ack(BUCKET, "c", ids)) == 10_000


def test_pubrec_moves_entries_to_released_and_pubcomp_ends_them(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(3)
    release = queues.release(BUCKET, "c", claim.epoch, [claim.gen, 3, claim.gen, 1])
    assert caller.ask(release) == 1
    assert caller.ask(release) == 1  # sent again
    assert caller.ids() == [2]
    assert caller.redis.zrange(keys.released(caller.prefix, BUCKET, "c"), 0, -1) == [b"1", b"3"]
    complete = queues.complete(BUCKET, "c", claim.epoch, [1, 3])
    assert caller.ask(complete) == 1
    assert caller.ask(complete) == 1
    assert caller.session_keys() == {"s", "q"}


def test_a_stale_owner_changes_nothing(caller: Caller) -> None:
    stale = caller.subscribed()
    caller.enqueue(2)
    claim = caller.other().claim()
    hi = caller.field("hi")
    assert caller.ask(queues.release(BUCKET, "c", stale.epoch, [claim.gen, 1])) == 0
    assert caller.ask(queues.complete(BUCKET, "c", stale.epoch, [1])) == 0
    assert caller.ask(queues.raise_hi(BUCKET, "c", stale.epoch, 500)) == [0]
    assert caller.page(stale, 0, 500) == [0]
    assert caller.field("hi") == hi
    assert caller.ids() == [1, 2]


def test_hi_is_raised_a_window_beyond_the_last_number(caller: Caller) -> None:
    claim = caller.subscribed(window=4)
    caller.enqueue(3)
    assert caller.ask(queues.raise_hi(BUCKET, "c", claim.epoch, 4)) == [1, 7]
    assert caller.field("hi") == "7"
    assert caller.ask(queues.raise_hi(BUCKET, "c", claim.epoch, 2)) == [1, 7]  # never lowered


def test_hi_is_not_raised_over_entries_that_nobody_has_read(caller: Caller) -> None:
    claim = caller.subscribed(window=4)
    caller.enqueue(6)
    assert caller.ask(queues.raise_hi(BUCKET, "c", claim.epoch, 4)) == [2, 4, 6]
    assert caller.field("hi") == "4"


def test_a_page_promises_what_it_lists(caller: Caller) -> None:
    claim = caller.subscribed(window=2)
    caller.enqueue(5)
    caller.ask(queues.ack(BUCKET, "c", [claim.gen, 2]))
    status, hi, n, flat, _ = caller.page(claim, 1, 2)
    assert (status, hi, n) == (1, 4, 5)
    assert isinstance(flat, list)
    assert flat[1::3] == [3, 4]
    assert caller.field("hi") == "4"


def test_a_page_at_the_tail_promises_a_window(caller: Caller) -> None:
    claim = caller.subscribed(window=2)
    caller.enqueue(5)
    status, hi, n, flat, _ = caller.page(claim, 3, 3)
    assert (status, hi, n) == (1, 8, 5)
    assert isinstance(flat, list)
    assert flat[1::3] == [4, 5]
    assert caller.page(claim, 5, 3) == [1, 8, 5, [], False]


def test_a_small_page_keeps_hi_over_what_was_sent(caller: Caller) -> None:
    """The next owner would else send again without DUP what the last connection but one has sent."""
    caller.subscribed(window=8)
    caller.enqueue(6)
    claim = caller.claim(window=1)
    assert claim.sent == 6
    assert caller.page(claim, 0, 1)[1] == 6
    assert caller.field("hi") == "6"


def test_a_page_is_cut_when_it_is_large(caller: Caller) -> None:
    """A window of large messages would be a reply of any size."""
    claim = caller.subscribed(window=100)
    caller.enqueue(60, body=pack_body("t", b"x" * 50_000, b"", 0))
    seen: list[int] = []
    for _ in range(10):
        after = seen[-1] if seen else 0
        status, hi, n, flat, more = caller.page(claim, after, 100)
        assert isinstance(flat, list)
        numbers = flat[1::3]
        assert (status, n, numbers[0]) == (1, 60, after + 1)
        assert hi == (100 if more else 160)  # a page never takes back what the claim allowed
        assert sum(map(len, flat[2::3])) < 2 * 1_048_576
        seen += numbers
        if not more:
            break
    assert seen == list(range(1, 61))


def test_a_page_reads_over_a_change_of_gen(caller: Caller) -> None:
    claim = caller.subscribed(window=2)
    caller.enqueue(3)
    gen = claim.gen + 5  # what the first enqueue after a fail-over does
    session = keys.session(caller.prefix, BUCKET, "c")
    caller.redis.hset(session, mapping={"gen": gen, "n": 1000})
    caller.enqueue(3)
    for after, expected in ((0, [1, 2, 3, 1001]), (2, [3, 1001, 1002, 1003]), (3, [1001, 1002, 1003])):
        flat = caller.page(claim, after, 4)[3]
        assert isinstance(flat, list)
        assert flat[1::3] == expected
    flat = caller.page(claim, 1002, 4)[3]
    assert isinstance(flat, list)
    assert flat[:2] == [gen, 1003]


# Bounds and policies


def test_drop_oldest_makes_room_beyond_hi(caller: Caller) -> None:
    claim = caller.subscribed(window=2)
    caller.detach(claim, sent=0)  # hi is 0: nothing was sent
    caller.enqueue(5, limit=5, body=pack_body("old", b"", b"", 0))
    reply = caller.enqueue(3, limit=5)
    assert reply[3:] == [False, 3]
    assert caller.ids() == [4, 5, 6, 7, 8]
    assert letters(caller) == [(b"c", b"old", b"drop_oldest")] * 3


@pytest.mark.parametrize("is_known", [False, True])
def test_who_tells_of_what_is_dropped_learns_what_it_was(caller: Caller, is_known: bool) -> None:
    claim = caller.subscribed(window=2)
    caller.detach(claim, sent=0)
    known = int(caller.field("stamp") or 0) if is_known else None
    old = pack_body("old", b"payload", b"\x09\x00\x01c", 0)
    assert caller.enqueue(5, limit=5, body=old, known=known, tells=True)[5:] == []
    assert caller.enqueue(2, limit=5, known=known, tells=True)[3:] == [
        False, 2, [b"old", 1, b"\x09\x00\x01c"] * 2,
    ]  # fmt: skip


def test_of_many_or_large_ones_that_are_dropped_only_the_first_are_told(caller: Caller) -> None:
    caller.detach(caller.subscribed(), sent=0)
    large = pack_body("old", b"", b"p" * 30_000, 0)
    caller.enqueue(3, body=large)
    caller.enqueue(500, body=pack_body("old", b"", b"", 0))
    *_, dropped, told = caller.enqueue(1, limit=250, tells=True)
    assert dropped == 250
    assert isinstance(told, list)
    assert [len(properties) for properties in told[2::3]] == [30_000, 30_000, *[0] * 198]


def test_drop_oldest_never_touches_what_may_have_been_sent(caller: Caller) -> None:
    caller.subscribed(window=3)  # hi is 3
    caller.enqueue(5, limit=5)
    reply = caller.enqueue(4, limit=5)
    assert reply[4] == 2  # 4 and 5 went; 1, 2, 3 may have been sent
    assert reply[3] == [3, 3, 0, 0]  # of the new ones, too, the oldest go
    assert caller.ids() == [1, 2, 3, 6, 7]


def test_new_entries_that_may_be_sent_at_once_go_from_the_newest(caller: Caller) -> None:
    claim = caller.subscribed(window=10)  # hi is 10
    caller.enqueue(2, limit=3)
    assert caller.enqueue(3, limit=3) == [claim.gen, 2, b"node-1", [0, 3, 3], 0]
    assert caller.ids() == [1, 2, 3]


@pytest.mark.parametrize("drop_oldest", [True, False])
def test_with_nothing_to_drop_the_new_ones_are_dropped(caller: Caller, drop_oldest: bool) -> None:
    claim = caller.subscribed(window=5)
    caller.enqueue(5, limit=5)
    reply = caller.enqueue(2, limit=5, drop_oldest=drop_oldest, body=pack_body("new", b"", b"", 0))
    assert reply == [claim.gen, 5, b"node-1", [3, 3], 0]
    assert caller.ids() == [1, 2, 3, 4, 5]
    assert caller.field("n") == "5"
    assert letters(caller) == [(b"c", b"new", b"drop_new")] * 2


def test_drop_new_keeps_what_still_fits(caller: Caller) -> None:
    caller.detach(caller.subscribed())
    caller.enqueue(3, limit=5, drop_oldest=False)
    assert caller.enqueue(4, limit=5, drop_oldest=False)[3] == [0, 0, 3, 3]
    assert caller.ids() == [1, 2, 3, 4, 5]


def test_of_a_batch_longer_than_the_queue_the_newest_stay(caller: Caller) -> None:
    caller.detach(caller.subscribed(), sent=0)
    caller.enqueue(1, limit=3)
    reply = caller.enqueue(5, limit=3)
    assert reply[3:] == [[3, 3, 0, 0, 0], 1]
    assert caller.ids() == [2, 3, 4]


def test_what_is_refused_takes_no_room(caller: Caller) -> None:
    caller.detach(caller.subscribed(), sent=0)
    caller.enqueue(3, limit=3)
    entries: list[object] = ["gone", HEAD, 0, False, 0] * 5
    reply = caller.ask(queues.enqueue(BUCKET, "c", 3, True, entries), [pack_body("t", b"", b"", 0)])
    assert isinstance(reply, list)
    assert reply[3:] == [[1] * 5, 0]
    assert caller.ids() == [1, 2, 3]


def test_a_dropped_entry_counts_as_had_by_its_token(caller: Caller) -> None:
    caller.subscribed(window=2)
    caller.enqueue(2, limit=2)
    assert caller.enqueue(1, limit=2, token=b"t")[3] == [3]
    assert caller.enqueue(1, limit=9, token=b"t")[3] == [2]


def test_acknowledged_entries_leave_room(caller: Caller) -> None:
    claim = caller.subscribed(window=3)
    for n in range(1, 20):
        assert caller.enqueue(1, limit=3, drop_oldest=False)[3] is False
        caller.ask(queues.ack(BUCKET, "c", [claim.gen, n]))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), st.integers(1, 7)),
        st.tuples(st.just("ack"), st.integers(0, 2**16)),
        st.tuples(st.just("raise"), st.integers(1, 6)),
        st.tuples(st.just("page"), st.integers(1, 6)),
        st.tuples(st.just("reconnect"), st.integers(1, 6)),
        st.tuples(st.just("fail over"), st.integers(1, 50)),
    ),
    max_size=25,
)


class _Watcher:
    """Knows what must hold after each step, whatever the steps."""

    def __init__(self, caller: Caller, limit: int, drop_oldest: bool) -> None:
        self.caller = caller
        self.limit = limit
        self.drop_oldest = drop_oldest
        self.claim = caller.subscribed(window=3)

    def enqueue(self, amount: int) -> None:
        before, hi = self.caller.ids(), int(self.caller.field("hi") or 0)
        _, n, _, statuses, dropped = self.caller.enqueue(
            amount, limit=self.limit, drop_oldest=self.drop_oldest
        )
        assert isinstance(n, int)
        appended = statuses.count(0) if isinstance(statuses, list) else amount
        after = self.caller.ids()
        kept = [number for number in after if number <= n]
        assert after[len(kept) :] == list(range(n + 1, n + 1 + appended))
        assert self.caller.field("n") == str(n + appended)
        gone = [number for number in before if number not in kept]
        assert len(gone) == dropped
        assert gone == [number for number in before if number > hi][: len(gone)]  # the oldest beyond hi
        assert self.drop_oldest or not gone
        assert len(after) <= max(self.limit, len(before))
        if appended < amount:  # full, with nothing older to drop
            assert len(after) >= self.limit
            assert not self.drop_oldest or not [number for number in kept if number > hi]

    def ack(self, choice: int) -> None:
        entries = [entry_id.decode().split("-") for entry_id, _ in self.caller.stream(self.queue)]
        chosen = [entry for i, entry in enumerate(entries) if choice >> i & 1]
        flat = [int(part) for entry in chosen for part in entry]
        if flat:
            assert self.caller.ask(queues.ack(BUCKET, "c", flat)) == len(chosen)
        assert self.caller.ids() == [int(entry[1]) for entry in entries if entry not in chosen]

    @property
    def queue(self) -> str:
        return keys.queue(self.caller.prefix, BUCKET, "c")

    def page(self, window: int) -> None:
        ids = self.caller.ids()
        after = ids[len(ids) // 2] if ids else 0
        before = int(self.caller.field("hi") or 0)
        status, hi, n, flat, _ = self.caller.page(self.claim, after, window)
        assert isinstance(flat, list)
        assert isinstance(n, int)
        expected = [number for number in ids if number > after][:window]
        assert (status, flat[1::3]) == (1, expected)
        assert hi == max(before, expected[-1] if len(expected) == window else n + window)

    def raise_hi(self, window: int) -> None:
        hi, n = int(self.caller.field("hi") or 0), int(self.caller.field("n") or 0)
        reply = self.caller.ask(queues.raise_hi(BUCKET, "c", self.claim.epoch, window))
        assert reply == ([1, max(hi, n + window)] if n <= hi else [2, hi, n])

    def reconnect(self, window: int) -> None:
        ids, sent = self.caller.ids(), int(self.caller.field("n") or 0) // 2
        self.caller.detach(self.claim, sent=sent)
        sent = max(sent, self.claim.sent)
        self.claim = self.caller.claim(window=window)
        tail = ids[window - 1] if len(ids) >= window else self.claim.n + window
        assert (self.claim.sent, self.claim.hi) == (sent, max(sent, tail))

    def fail_over(self, jump: int) -> None:
        """What the first enqueue at a new primary will do: another gen, higher numbers."""
        session = keys.session(self.caller.prefix, BUCKET, "c")
        self.caller.redis.hincrby(session, "gen", 1)
        self.caller.redis.hincrby(session, "n", jump)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, limit=st.integers(1, 9), drop_oldest=st.booleans())
def test_whatever_happens_the_queue_keeps_its_promises(
    caller: Caller, steps: list[tuple[str, int]], limit: int, drop_oldest: bool
) -> None:
    watcher = _Watcher(Caller.with_new_prefix(caller.redis), limit, drop_oldest)
    actions = {
        "enqueue": watcher.enqueue,
        "ack": watcher.ack,
        "raise": watcher.raise_hi,
        "page": watcher.page,
        "reconnect": watcher.reconnect,
        "fail over": watcher.fail_over,
    }
    for action, value in steps:
        actions[action](value)


def test_a_damaged_queue_harms_only_its_session(caller: Caller) -> None:
    caller.subscribed()
    caller.subscribed("d")
    caller.redis.set(keys.queue(caller.prefix, BUCKET, "c"), "no stream")
    entries = ["f", HEAD, 0, False, 0]
    replies = caller.call(
        [
            queues.enqueue(BUCKET, "c", 10, True, entries),
            queues.enqueue(keys.bucket_of("d"), "d", 10, True, entries),
        ],
        [pack_body("t", b"", b"", 0)],
    )
    assert isinstance(replies[0], ItemError)
    assert "WRONGTYPE" in str(replies[0])
    assert isinstance(replies[1], list)
    assert replies[1][3] is False
    assert caller.ids("d") == [1]


# The fence


def fenced(caller: Caller, *publishers: tuple[str, int]) -> list[object]:
    """A call that is fenced for these clients and epochs, and enqueues for "c"."""
    flat = [part for name, epoch in publishers for part in (keys.bucket_of(name), name, epoch)]
    enqueue = queues.enqueue(keys.bucket_of("c"), "c", 1000, True, ["f", HEAD, 0, False, 0])
    return caller.call([queues.fence(flat), enqueue], [BODY])


def test_a_call_is_carried_out_for_owners_and_for_those_that_have_ended(caller: Caller) -> None:
    caller.subscribed()
    publisher = caller.claim("p")
    gone = caller.claim("gone", expiry=0)
    caller.detach(gone, "gone")
    found = fenced(caller, ("p", publisher.epoch), ("gone", gone.epoch), ("never", 1))
    assert found[0] == []
    assert caller.ids() == [1]
    caller.detach(publisher, "p")  # nobody else has it
    assert fenced(caller, ("p", publisher.epoch))[0] == []
    assert caller.ids() == [1, 2]


def test_a_call_does_nothing_for_who_has_lost_a_publisher(caller: Caller) -> None:
    caller.subscribed()
    kept, lost = caller.claim("kept"), caller.claim("lost")
    caller.other().claim("lost")
    assert fenced(caller, ("kept", kept.epoch), ("lost", lost.epoch)) == [[1], False]
    assert caller.ids() == []
