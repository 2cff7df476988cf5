"""Another primary: terms, leaps of what counts, and what a node says again of its sessions."""

from dataclasses import replace

import pytest

from cluster.store import (
    deadlines,
    keys,
    primaries,
    queues,
    receive,
    reclaims,
    records,
    retained,
    sessions,
    subscriptions,
)
from cluster.store.call import Slot
from cluster.store.primaries import Primary
from cluster.store.reclaims import KEPT, LOST, MADE_AGAIN, Held, Reclaimed
from tests.store.caller import OPTIONS, Caller, claim_fields

BUCKET = keys.bucket_of("c")
JUMP = 40503 + 255 * 65535
LEAP = 1 << 24


def adopt(caller: Caller, met: dict[Slot, Primary] | None = None) -> dict[Slot, Primary]:
    return primaries.parse_adopt(caller.call(primaries.adopt(met or {}), function="free"))


def another(caller: Caller) -> dict[Slot, Primary]:
    """As if all had been written on another server."""
    for slot in primaries.SLOTS:
        caller.redis.hset(keys.primary(caller.prefix, slot), "id", "f" * 40)
    return adopt(caller)


def held(caller: Caller, claim: sessions.Claim, **changes: object) -> Held:
    """Of a session with the filter `f` that has sent nothing."""
    stamp = int(caller.field("stamp") or 0)
    state = Held(
        "c", claim.epoch, False, 5, 3600, gen=claim.gen, first_gen=0, n=claim.n, next_n=claim.n + 1,
        hi=claim.hi, stamp=stamp, subscriptions=[("f", OPTIONS, stamp)] if stamp else [],
    )  # fmt: skip
    return replace(state, **changes)  # type: ignore[arg-type]  # what the tests name are fields of it


def reclaim(caller: Caller, state: Held, cursor: str | None = None) -> Reclaimed:
    return reclaims.parse_reclaim(caller.ask(reclaims.reclaim(state, cursor), function="free"))


def all_keys(caller: Caller) -> dict[str, bytes]:
    """Everything that there is, in a form that says whether two are equal."""
    return {name: caller.redis.dump(name) for name in caller.key_names()}  # type: ignore[misc]  # never awaited


# Terms


def test_the_first_that_looks_finds_term_0_and_changes_nothing_else(caller: Caller) -> None:
    session = caller.subscribed()
    counter = caller.redis.get(keys.counter(caller.prefix, BUCKET))
    found = adopt(caller)
    assert {primary.term for primary in found.values()} == {0}
    assert len({primary.replication_id for primary in found.values()}) == 1
    assert adopt(caller) == found
    assert caller.redis.get(keys.counter(caller.prefix, BUCKET)) == counter
    caller.enqueue(1)
    assert (caller.field("gen"), caller.field("n")) == (str(session.gen), "1")


def test_with_another_one_all_that_counts_makes_a_leap_once(caller: Caller) -> None:
    caller.subscribed()
    caller.ask(subscriptions.rows([("c", "f", OPTIONS, 1)], []))
    for name in ("users:ver", "bans:ver"):
        caller.redis.set(f"{caller.prefix}{{m}}:{name}", 5)
    caller.redis.hset(keys.rules(caller.prefix), "version", "7")
    adopt(caller)
    before = int(caller.redis.get(keys.counter(caller.prefix, BUCKET)) or 0)
    now_ms = caller.now_ms()
    found = another(caller)
    assert {primary.term for primary in found.values()} == {1}
    assert adopt(caller) == found
    assert int(caller.redis.get(keys.counter(caller.prefix, BUCKET)) or 0) == before + LEAP
    version = caller.redis.get(keys.version(caller.prefix))
    assert isinstance(version, bytes)
    term, _, n = version.decode().partition(".")
    assert (int(term) >= now_ms, n) == (True, "0")
    assert subscriptions.parse_log(caller.ask(subscriptions.log_since("1.1"))) is None
    assert caller.redis.get(keys.users_version(caller.prefix)) == b"%d" % (5 + LEAP)
    assert caller.redis.get(keys.ban_version(caller.prefix)) == b"%d" % (5 + LEAP)
    assert caller.redis.hget(keys.rules(caller.prefix), "version") == b"%d" % (7 + LEAP)
    caller.ask(subscriptions.rows([("c", "g", OPTIONS, 2)], []))
    log = subscriptions.parse_log(caller.ask(subscriptions.log_since(version.decode())))
    assert log is not None
    assert [change.filter for change in log.changes] == ["g"]


def test_who_has_met_another_one_says_so_where_nothing_is_known(caller: Caller) -> None:
    """The replica fell behind before anybody had looked."""
    caller.subscribed()
    found = adopt(caller, {slot: Primary("f" * 40, 0) for slot in primaries.SLOTS})
    assert {primary.term for primary in found.values()} == {1}


def test_slots_that_another_one_serves() -> None:
    before: dict[Slot, Primary] = {1: Primary("a", 1), 2: Primary("a", 1)}
    assert primaries.changed(before, {1: Primary("a", 1), 2: Primary("b", 1), 3: Primary("b", 1)}) == [2]


def test_a_message_goes_on_under_another_gen_far_ahead(caller: Caller) -> None:
    first = caller.subscribed(window=1)
    caller.enqueue(3)
    another_one = caller.other()
    adopt(caller)
    another(caller)
    answer = another_one.enqueue(2)
    gen = int(caller.field("gen") or 0)
    assert gen > first.gen + LEAP - 1
    assert answer[:2] == [gen, 3 + JUMP]
    assert caller.ids() == [1, 2, 3, 4 + JUMP, 5 + JUMP]
    assert another_one.enqueue(1)[:2] == [gen, 5 + JUMP]

    again = caller.claim()  # nobody knows what was sent of the first three
    assert (again.sent, again.n, again.unsure) == (3, 6 + JUMP, 6)
    assert caller.field("unsure") is None
    entries = caller.page(again, 0, 10)[3]
    assert isinstance(entries, list)
    assert entries[1::3] == [1, 2, 3, 4 + JUMP, 5 + JUMP, 6 + JUMP]


def test_a_claim_goes_on_under_another_gen_far_ahead(caller: Caller) -> None:
    first = caller.subscribed()
    caller.enqueue(2)
    caller.detach(first, sent=1)
    adopt(caller)
    another(caller)
    claim = caller.claim(nonce=b"12345678")
    assert claim.epoch > first.epoch + LEAP - 1
    assert claim.gen > first.gen + LEAP - 1
    assert (claim.n, claim.sent, claim.unsure) == (2 + JUMP, 2, 2)
    assert claim_fields(caller.claim(nonce=b"12345678")) == claim_fields(claim) | {"unsure": 0}
    assert caller.claim().unsure == 0
    assert caller.enqueue(1)[:2] == [claim.gen, 2 + JUMP]


def test_a_new_session_does_not_jump(caller: Caller) -> None:
    adopt(caller)
    another(caller)
    claim = caller.subscribed()
    assert caller.enqueue(1)[:2] == [claim.gen, 0]


def test_retained_messages_go_on_under_another_gen_far_ahead(caller: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "f", replay=2)
    adopt(caller)
    another(caller)
    entries: list[object] = ["f", b"", b"entry"]
    answer = retained.parse_replay(
        caller.ask(retained.replay(BUCKET, "c", claim.epoch, "f", 0, None, entries))
    )
    assert answer is not None
    assert answer.gen > claim.gen
    assert caller.ids() == [1 + JUMP]


# What a node says again


def test_a_session_that_was_there_is_kept(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(5)
    state = held(caller, claim, n=5, next_n=4, hi=20, in_flight=[claim.gen, 2, claim.gen, 3])
    adopt(caller)
    another(caller)
    answer = reclaim(caller, state)
    assert (answer.status, answer.n, answer.settled, answer.kept) == (KEPT, 5 + JUMP, 1, 2)
    assert answer.gen > claim.gen
    assert caller.ids() == [2, 3, 4, 5]
    assert (caller.field("epoch"), caller.field("owner")) == (str(claim.epoch), "node-1")
    assert caller.field("hi") == "20"
    before = all_keys(caller)
    again = reclaim(caller, state)
    assert (again.status, again.gen, again.n, again.settled) == (KEPT, answer.gen, answer.n, 0)
    assert all_keys(caller) == before
    assert caller.enqueue(1)[:2] == [answer.gen, answer.n]


def test_what_others_have_queued_since_stays(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(5)
    state = held(caller, claim, n=100, next_n=101)
    adopt(caller)
    another(caller)
    caller.enqueue(1)
    answer = reclaim(caller, state)
    assert (answer.settled, answer.n) == (5, 6 + JUMP)
    assert caller.ids() == [6 + JUMP]


def test_a_long_queue_is_looked_at_in_steps(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(250)
    state = held(caller, claim, n=250, next_n=241, in_flight=[claim.gen, 7, claim.gen, 230])
    settled = kept = calls = 0
    cursor = None
    while calls == 0 or cursor is not None:
        answer = reclaim(caller, state, cursor)
        cursor = answer.cursor
        settled, kept, calls = settled + answer.settled, kept + answer.kept, calls + 1
    assert (settled, kept, calls) == (238, 2, 3)
    assert caller.ids() == [7, 230, *range(241, 251)]


def test_a_session_that_is_missing_is_made_again(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.subscribe(claim, "g", options=OPTIONS)
    state = held(
        caller, claim, n=7, next_n=8, will=b"will", will_delay_seconds=3,
        in_flight=[claim.gen, 7], released=[5],
        receiving=[(1, b"token", False), (2, b"", True), (3, b"", False)],
        subscriptions=[("f", OPTIONS, 2), ("g", OPTIONS, 3)],
    )  # fmt: skip
    caller.redis.delete(*(name for name in caller.key_names()))
    adopt(caller)
    answer = reclaim(caller, state)
    assert (answer.status, answer.kept, answer.differing) == (MADE_AGAIN, 0, 3)
    assert answer.n == 7 + JUMP
    assert caller.members(keys.owned(caller.prefix, BUCKET, "node-1")) == {b"c"}
    assert caller.redis.get(keys.will(caller.prefix, BUCKET, "c", claim.epoch)) == b"will"
    assert caller.redis.get(keys.sessions(caller.prefix, BUCKET)) == b"1"
    before = all_keys(caller)
    assert reclaim(caller, state).status == KEPT
    assert all_keys(caller) == before
    caller.detach(claim, sent=7)
    claim = caller.claim()
    assert claim.present
    assert claim.released == [5]
    assert sorted(claim.receiving) == [(1, b"token", False), (2, b"", True)]
    assert sorted(name for name, _, _ in claim.subscriptions) == ["f", "g"]


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_direct_session(caller: Caller, is_gone: bool) -> None:
    claim = caller.claim(expiry=0, will=b"will")
    if is_gone:
        caller.redis.delete(*(name for name in caller.key_names()))
    adopt(caller)
    state = Held("c", claim.epoch, True, 5, 0, b"will", 0, claim.epoch, claim.epoch)
    assert reclaim(caller, state).status == (MADE_AGAIN if is_gone else KEPT)
    assert reclaim(caller, state).status == KEPT
    detached = caller.detach(claim)
    assert not detached.stale
    assert detached.will is not None
    assert caller.session_keys() & {"s", "q", "rel", "rx"} == set()


def test_who_was_claimed_since_is_lost(caller: Caller) -> None:
    state = held(caller, caller.subscribed())
    caller.other().claim()
    before = all_keys(caller)
    assert reclaim(caller, state).status == LOST
    assert all_keys(caller) == before


def test_an_older_owner_is_told(caller: Caller) -> None:
    """It has renewed itself first, as its later loss is not known here."""
    older = caller.subscribed()
    other = caller.other()
    state = held(caller, older, epoch=older.epoch + 50)
    assert reclaim(other, state).status == KEPT
    assert caller.field("owner") == "node-2"
    assert caller.members(keys.bell(caller.prefix, BUCKET, "node-1")) == {b"kick:%d:c" % older.epoch}
    assert caller.members(keys.owned(caller.prefix, BUCKET, "node-1")) == set()


def test_one_that_was_given_back_is_ours_again(caller: Caller) -> None:
    claim = caller.subscribed()
    state = held(caller, claim)
    caller.detach(claim, sent=0)
    assert reclaim(caller, state).status == KEPT
    assert (caller.field("owner"), caller.field("deadline")) == ("node-1", None)
    assert caller.due_members() == []


def test_what_is_here_of_an_older_life_goes(caller: Caller) -> None:
    """Clean Start is in what was lost. Its will was decided there, too."""
    old = caller.claim(will=b"old", will_delay=0)
    caller.subscribe(old, "f")
    caller.enqueue(5)
    epoch = old.epoch + 50
    state = Held("c", epoch, False, 5, 3600, gen=epoch, first_gen=epoch, next_n=1, hi=10)
    assert reclaim(caller, state).status == MADE_AGAIN
    assert caller.ids() == []
    assert caller.field("f:f") is None
    assert caller.redis.get(keys.will(caller.prefix, BUCKET, "c", old.epoch)) is None
    assert caller.due().wills == []


def test_one_that_has_become_a_direct_one(caller: Caller) -> None:
    old = caller.subscribed()
    epoch = old.epoch + 50
    assert reclaim(caller, Held("c", epoch, True, 5, 0, None, 0, epoch, epoch)).status == MADE_AGAIN
    assert caller.field("direct") == "1"
    assert caller.redis.get(keys.sessions(caller.prefix, BUCKET)) == b"0"


def test_subscriptions_are_those_that_its_node_knows(caller: Caller) -> None:
    claim = caller.claim()
    first = caller.subscribe(claim, "gone", "same")
    stamp = caller.subscribe(claim, "changed")
    newer = caller.subscribe(claim, "newer")
    other = records.pack_options(2, False, False, 0, 0)
    known = [("same", OPTIONS, first), ("changed", other, stamp + 1), ("new", OPTIONS, stamp + 1)]
    caller.redis.hset(keys.session(caller.prefix, BUCKET, "c"), "f:newer", b"%d:" % (newer + 9) + OPTIONS)
    reclaim(caller, held(caller, claim, stamp=newer + 1, subscriptions=known))
    again = caller.claim()
    assert sorted(again.subscriptions) == [
        ("changed", other, stamp + 1),
        ("new", OPTIONS, stamp + 1),
        ("newer", OPTIONS, newer + 9),
        ("same", OPTIONS, first),
    ]


def test_exchanges_are_those_that_its_node_knows(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(4)
    caller.ask(queues.release(BUCKET, "c", claim.epoch, [claim.gen, 1, claim.gen, 2]))
    tokens = [1, b"one", 2, b"two", 3, b"three", 4, b"four"]
    caller.ask(receive.receive(BUCKET, "c", claim.epoch, tokens, 10))
    state = held(
        caller, claim, n=4, next_n=5, in_flight=[claim.gen, 4], released=[3], releasing=[2],
        receiving=[(1, b"one", False), (2, b"two", True), (4, b"", False), (5, b"five", False)],
    )  # fmt: skip
    answer = reclaim(caller, state)
    assert (answer.differing, answer.settled, answer.kept) == (5, 1, 1)
    assert reclaim(caller, state).differing == 0
    again = caller.claim()
    assert again.released == [2, 3]
    assert sorted(again.receiving) == [
        (1, b"one", False),
        (2, b"two", True),
        (4, b"four", False),
        (5, b"five", False),
    ]


# What this node owns there and has no connection of


def test_another_message_under_an_identifier_has_its_own_token_again(caller: Caller) -> None:
    """That the earlier one was released is lost."""
    claim = caller.subscribed()
    caller.ask(receive.receive(BUCKET, "c", claim.epoch, [1, b"old", 2, b"old"], 10))
    caller.ask(receive.routed(BUCKET, "c", claim.epoch, [1, 2]))
    another(caller)
    state = held(caller, claim, receiving=[(1, b"new", True), (2, b"new", False)])
    assert reclaim(caller, state).differing == 2
    assert reclaim(caller, state).differing == 0
    again = caller.claim()
    assert (sorted(again.receiving), list(again.doubted)) == ([(1, b"new", True), (2, b"new", False)], [])


def test_identifiers_of_who_comes_back_are_in_doubt_until_they_are_used(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.ask(receive.receive(BUCKET, "c", claim.epoch, [1, b"1", 2, b"2", 3, b"3"], 3))
    caller.ask(receive.routed(BUCKET, "c", claim.epoch, [2]))
    another(caller)
    exchanges = [(1, b"1", False), (2, b"2", True), (3, b"3", False)]
    for nonce in (b"nonce", b"nonce", b"another"):  # answered again, and the next connection
        claim = caller.claim(nonce=nonce)
        assert (sorted(claim.receiving), sorted(claim.doubted)) == (exchanges, [1, 2, 3])
    replaced = receive.receive(BUCKET, "c", claim.epoch, [1, b"new", 4, b"4"], 3)
    assert caller.ask(replaced) == [0, -1]
    assert caller.ask(replaced) == [[b"new", False], -1]
    caller.ask(receive.routed(BUCKET, "c", claim.epoch, [3]))  # it was sent again
    again = caller.claim()
    assert sorted(again.receiving) == [(1, b"new", False), (2, b"2", True), (3, b"3", True)]
    assert again.doubted == [2]
    another(caller)
    assert reclaim(caller, held(caller, again, receiving=[(2, b"", True)])).differing == 2
    assert caller.claim().doubted == [2]
    release = receive.release_received(BUCKET, "c", caller.claim().epoch, [2])
    assert caller.ask(release, function="free") == [b"2"]


def test_replays_are_those_that_its_node_knows(caller: Caller) -> None:
    """But for those of a SUBSCRIBE that it does not know of yet."""
    claim = caller.claim()
    stamp = caller.subscribe(claim, "over", "lost", "on", replay=2)
    newer = caller.subscribe(claim, "newer", replay=2)
    session = keys.session(caller.prefix, BUCKET, "c")
    caller.redis.hset(session, "r:on", "7:old")
    caller.redis.hdel(session, "f:lost", "r:lost")
    filters = [(each, OPTIONS, stamp) for each in ("over", "lost", "on")]
    replays = [("lost", ""), ("on", "7:topic"), ("newer", "8:"), ("unsubscribed", "")]
    state = held(caller, claim, stamp=stamp, subscriptions=filters, replays=replays)
    for _ in range(2):
        reclaim(caller, state)
        assert sorted(caller.claim(nonce=b"same").replays) == [("lost", ""), ("newer", ""), ("on", "7:topic")]
        state = replace(state, epoch=caller.claim(nonce=b"same").epoch)
    assert newer > stamp


@pytest.mark.parametrize("cursor", ["3:x\0y", None], ids=["page", "last"])
def test_a_page_that_is_asked_for_again_after_all_comes_once(caller: Caller, cursor: str | None) -> None:
    """The answer got lost with the primary, and this one has the page: its node holds what was before it."""
    claim = caller.claim()
    stamp = caller.subscribe(claim, "f", replay=2)
    entries: list[object] = ["a", b"", b"entry", "b", b"", b"entry"]
    request = retained.replay(BUCKET, "c", claim.epoch, "f", 0, cursor, entries)
    first = caller.ask(request)
    another(caller)
    before = held(caller, claim, stamp=stamp, subscriptions=[("f", OPTIONS, stamp)], replays=[("f", "")])
    for _ in range(2):  # and once more
        reclaim(caller, before)
        assert caller.redis.hget(keys.session(caller.prefix, BUCKET, "c"), "r:f") == b""
        assert caller.ask(request) == first
        assert caller.ids() == [1, 2]
        left = caller.redis.hget(keys.session(caller.prefix, BUCKET, "c"), "r:f")
        assert left == (None if cursor is None else cursor.encode())
    assert caller.enqueue(1)[1] == 2 + JUMP
    assert caller.ids() == [1, 2, 3 + JUMP]


def test_a_page_that_it_lacks_comes_under_another_gen(caller: Caller) -> None:
    claim = caller.claim()
    stamp = caller.subscribe(claim, "f", replay=2)
    another(caller)
    reclaim(
        caller,
        held(caller, claim, stamp=stamp, subscriptions=[("f", OPTIONS, stamp)], replays=[("f", "")]),
    )
    request = retained.replay(BUCKET, "c", claim.epoch, "f", 0, None, ["a", b"", b"entry"])
    first = retained.parse_replay(caller.ask(request))
    assert first is not None
    assert (first.gen > claim.gen, first.n, first.appended) == (True, JUMP, [0])
    assert retained.parse_replay(caller.ask(request)) == first
    assert caller.ids() == [1 + JUMP]


def test_orphans_are_found_and_given_back(caller: Caller) -> None:
    claim = caller.claim(will=b"will", will_delay=0)
    caller.subscribe(claim, "f")
    caller.enqueue(2)
    cursor, found = reclaims.parse_owned(caller.ask(reclaims.owned(BUCKET, "0")))
    assert (cursor, found) == ("0", ["c"])
    rows, will = reclaims.parse_give_back(caller.ask(reclaims.give_back("c"), function="free"))
    assert rows == []
    assert will is not None
    assert not deadlines.is_delayed(will)
    assert caller.field("owner") is None
    assert caller.field("hi") == "2"
    assert reclaims.parse_give_back(caller.ask(reclaims.give_back("c"), function="free")) == ([], None)
    assert reclaims.parse_owned(caller.ask(reclaims.owned(BUCKET, "0")))[1] == []
