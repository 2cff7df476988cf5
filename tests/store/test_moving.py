"""A session is taken out of one cluster and made in another: here with two prefixes of one server."""

from dataclasses import replace

import pytest

from cluster.store import deadlines, keys, moving, queues, receive, records, retained, sessions
from cluster.store.moving import ExportPage, Imported, Outcome, Receiving, State, Waiting
from cluster.store.reply import as_list
from cluster.store.sessions import NEVER
from tests.store.caller import BODY, HEAD, OPTIONS, Caller

IMPORT = b"import-1"
WILL = records.pack_will("w", b"gone", 1, False, b"", None, "c")


@pytest.fixture
def target(caller: Caller) -> Caller:
    return Caller.with_new_prefix(caller.redis)


def page(
    caller: Caller, behind: int = 0, size_bytes: int = 1 << 20, *, with_queue: bool = True
) -> ExportPage:
    found = moving.parse_export(caller.ask(moving.export("c", behind, size_bytes, with_queue=with_queue)))
    assert found is not None
    return found


def state_of(caller: Caller) -> State:
    state = page(caller).state
    assert state is not None
    return state


def put_aside(
    target: Caller,
    entries: list[tuple[int, bytes]],
    *,
    is_first: bool = True,
    hi: int = 0,
    limit: int = 1000,
    drop_oldest: bool = True,
    replaces: bool = False,
) -> object:
    return target.ask(
        moving.import_entries(
            "c",
            IMPORT,
            entries,
            replaces=replaces,
            is_first=is_first,
            hi=hi,
            limit=limit,
            drop_oldest=drop_oldest,
        )
    )


def make(
    target: Caller, state: State, *, has_entries: bool = True, replaces: bool = False, name: bytes = IMPORT
) -> Imported:
    request = moving.import_session("c", name, state, replaces=replaces, has_entries=has_entries)
    return moving.parse_import(target.ask(request))


def moved(caller: Caller, target: Caller) -> Imported:
    """All of it, on one page."""
    found = page(caller)
    assert found.state is not None
    if found.entries:
        assert put_aside(target, list(found.entries), hi=found.hi) == 0
    return make(target, found.state, has_entries=bool(found.entries))


def test_all_numbers_stay(caller: Caller, target: Caller) -> None:
    claim = caller.subscribed(window=3)
    caller.enqueue(8)
    caller.page(claim, 0, 3)
    bucket = keys.bucket_of("c")
    caller.ask(queues.release(bucket, "c", claim.epoch, [claim.gen, 2]))
    caller.detach(claim, sent=3)
    assert moved(caller, target).outcome == Outcome.MADE
    assert target.ids() == [1, 3, 4, 5, 6, 7, 8]
    again = target.claim(window=3)
    assert (again.present, again.n, again.sent, again.released) == (True, 8, 3, [2])
    assert [(name, options) for name, options, _ in again.subscriptions] == [("f", OPTIONS)]
    assert target.enqueue(1)[1] == 8  # the ninth comes behind them


def test_it_is_found_and_ends_like_any_other(caller: Caller, target: Caller) -> None:
    caller.detach(caller.subscribed(expiry=100))
    caller.pass_time(60_000)
    moved(caller, target)
    bucket = keys.bucket_of("c")
    assert target.ask(["session_ids", bucket, "[c", "c", 10]) == [b"c"]
    assert target.ask(sessions.session_count(bucket)) == 1
    lives_ms = target.scores(keys.due(target.prefix, bucket))["s:c"] - target.now_ms()
    assert 35_000 < lives_ms <= 40_000
    target.pass_time(40_001)
    assert [each.client_id for each in target.due().ended] == ["c"]
    assert target.session_keys() <= {"ended"}
    assert target.ask(sessions.session_count(bucket)) == 0


def test_one_whose_client_is_connected_is_as_after_the_death_of_its_node(
    caller: Caller, target: Caller
) -> None:
    caller.subscribed(window=10)
    caller.enqueue(3)
    state = state_of(caller)
    assert (state.is_connected, state.hi, state.lives_ms) == (True, 10, None)
    moved(caller, target)
    claim = target.claim()
    assert (claim.n, claim.sent) == (3, 3)
    assert target.field("deadline") is None


def test_one_that_never_ends(caller: Caller, target: Caller) -> None:
    caller.detach(caller.claim(expiry=NEVER))
    moved(caller, target)
    assert target.due_members() == []
    assert target.claim(expiry=NEVER).present


@pytest.mark.parametrize("expiry", [0, 1])
def test_what_nobody_can_resume_is_left(caller: Caller, expiry: int) -> None:
    claim = caller.claim(expiry=expiry)
    if expiry:
        caller.detach(claim)
        caller.pass_time(1001)
    assert caller.ask(moving.export("c", 0, 1000, with_queue=True)) is False
    assert caller.ask(moving.export("nobody", 0, 1000, with_queue=True)) is False


def test_a_long_queue_comes_in_pages(caller: Caller, target: Caller) -> None:
    caller.detach(caller.subscribed())
    caller.enqueue(100)
    size_bytes = 40 * len(HEAD + BODY)
    first = page(caller, 0, size_bytes)
    assert (len(first.entries), first.state) == (40, None)
    second = page(caller, 40, size_bytes)
    third = page(caller, 80, size_bytes)
    assert third.state is not None
    for part in (first, second, second, third):  # one of them twice
        assert put_aside(target, list(part.entries), is_first=part is first) == 0
    assert target.session_keys() == {"aside"}
    make(target, third.state)
    assert target.ids() == list(range(1, 101))
    assert target.session_keys() == {"s", "q"}
    queue = keys.queue(target.prefix, keys.bucket_of("c"), "c")
    assert target.redis.ttl(queue) == -1


def test_what_was_released_between_pages_is_in_one_place(caller: Caller, target: Caller) -> None:
    claim = caller.subscribed(window=100)
    caller.enqueue(4)
    first = page(caller, 0, len(HEAD + BODY))
    assert [n for n, _ in first.entries] == [1]
    caller.ask(queues.release(keys.bucket_of("c"), "c", claim.epoch, [claim.gen, 1, claim.gen, 2]))
    rest = page(caller, 1)
    assert rest.state is not None
    put_aside(target, [*first.entries, *rest.entries])
    make(target, rest.state)
    assert target.ids() == [3, 4]
    assert target.claim().released == [1, 2]


def test_all_of_a_queue_may_have_been_released_meanwhile(caller: Caller, target: Caller) -> None:
    claim = caller.subscribed()
    caller.enqueue(1)
    entries = page(caller).entries
    caller.ask(queues.release(keys.bucket_of("c"), "c", claim.epoch, [claim.gen, 1]))
    put_aside(target, list(entries))
    assert make(target, state_of(caller)).outcome == Outcome.MADE
    assert target.session_keys() == {"s", "rel"}


def test_without_its_queue(caller: Caller) -> None:
    caller.subscribed()
    caller.enqueue(3)
    found = page(caller, with_queue=False)
    assert found.entries == []
    assert found.state is not None


def test_inbound_exchanges_and_who_has_their_messages(caller: Caller, target: Caller) -> None:
    claim = caller.subscribed()
    caller.ask(receive.receive(keys.bucket_of("c"), "c", claim.epoch, [7, b"one", 8, b"two"], 10))
    caller.ask(["routed", keys.bucket_of("c"), "c", claim.epoch, [8]])
    caller.enqueue(1, token=b"one")
    caller.detach(claim)
    state = state_of(caller)
    assert [(each.packet_id, each.is_routed, each.token) for each in state.receiving] == [
        (7, False, b"one"),
        (8, True, b"two"),
    ]
    bucket = keys.bucket_of("c")
    answer = caller.ask(moving.once_members(bucket, [b"one", b"two"]))
    assert answer == [[b"s:c"], []]
    moved(caller, target)
    target.ask(moving.import_token(bucket, b"one", [b"s:c"], 60_000))
    assert target.claim().receiving == [(7, b"one", False), (8, b"two", True)]
    assert as_list(target.enqueue(1, token=b"one"))[3] == [2]  # it had that before
    assert 0 < int(str(target.redis.pttl(keys.once(target.prefix, bucket, b"one")))) <= 60_000


def test_the_age_of_an_exchange_goes_on(caller: Caller, target: Caller) -> None:
    state = State(False, 0, 0, 100, None, [], [], [], [Receiving(1, False, 5000, b"t")], [], None)
    make(target, state, has_entries=False)
    (value,) = target.hash(keys.receiving(target.prefix, keys.bucket_of("c"), "c")).values()
    assert 5000 <= target.now_ms() - int(value.split(b":")[0][1:]) < 6000


def test_delayed_messages(caller: Caller, target: Caller) -> None:
    claim = caller.subscribed()
    caller.ask(
        deadlines.delay(
            "c",
            claim.epoch,
            "ab",
            delay_ms=5000,
            record=WILL,
            limit=9,
            packet_id=None,
            receive_limit=9,
            repeat_ms=0,
        )
    )
    caller.detach(claim)
    moved(caller, target)
    (delayed,) = state_of(target).delayed
    assert (delayed.id, delayed.record) == ("ab", WILL)
    assert 4000 < delayed.due_ms <= 5000
    target.pass_time(5001)
    assert [each.record for each in target.due().wills] == [WILL]


def test_a_will_that_waits(caller: Caller, target: Caller) -> None:
    caller.detach(caller.claim(will=WILL, will_delay=50))
    moved(caller, target)
    target.pass_time(50_001)
    assert [each.record for each in target.due().wills] == [WILL]


def test_a_will_that_is_cancelled_by_its_client(caller: Caller, target: Caller) -> None:
    caller.detach(caller.claim(will=WILL, will_delay=50))
    moved(caller, target)
    assert target.claim().wills == []
    target.pass_time(50_001)
    assert target.due().wills == []


def test_a_will_that_is_due_stays(caller: Caller) -> None:
    caller.detach(caller.claim(will=WILL, will_delay=0))
    assert state_of(caller).will is None
    claim = caller.claim(will=WILL, will_delay=50)
    assert state_of(caller).will is None  # that of a connection
    caller.detach(claim)
    assert state_of(caller).will is not None


def test_replays_go_on(caller: Caller, target: Caller) -> None:
    claim = caller.claim()
    caller.subscribe(claim, "f", replay=1)
    caller.detach(claim)
    moved(caller, target)
    assert target.claim().replays == [("f", "")]


def test_one_that_is_there_stays(caller: Caller, target: Caller) -> None:
    caller.detach(caller.subscribed())
    caller.enqueue(1)
    found = page(caller)
    assert found.state is not None
    claim = target.claim()
    target.subscribe(claim, "g")
    assert put_aside(target, list(found.entries)) == -1
    assert make(target, found.state).outcome == Outcome.CONNECTED
    target.detach(claim)
    done = make(target, found.state)
    assert done.outcome == Outcome.THERE
    assert [name for name, _, _ in done.subscriptions] == ["g"]  # its rows may be missing
    assert target.field("n") == "0"


def test_a_direct_one_is_connected(caller: Caller, target: Caller) -> None:
    caller.detach(caller.subscribed())
    target.claim(expiry=0)
    assert make(target, state_of(caller), has_entries=False).outcome == Outcome.CONNECTED


def test_one_that_has_ended_makes_way(caller: Caller, target: Caller) -> None:
    caller.detach(caller.subscribed())
    target.detach(target.subscribed(expiry=1))
    target.pass_time(1001)
    assert make(target, state_of(caller), has_entries=False).outcome == Outcome.REPLACED
    assert target.ask(sessions.session_count(keys.bucket_of("c"))) == 1


def test_one_is_replaced_and_its_owner_told(caller: Caller, target: Caller) -> None:
    caller.detach(caller.subscribed())
    caller.enqueue(2)
    found = page(caller)
    assert found.state is not None
    claim = target.subscribed()
    target.enqueue(5)
    assert put_aside(target, list(found.entries), replaces=True) == 0
    done = make(target, found.state, replaces=True)
    assert (done.outcome, [name for name, _ in done.ended_rows]) == (Outcome.REPLACED, ["f"])
    assert target.ids() == [1, 2]
    assert target.page(claim, 0, 10) == [0]  # fenced
    bell = keys.bell(target.prefix, keys.bucket_of("c"), target.incarnation)
    assert target.members(bell) == {b"kick:%d:c" % claim.epoch}
    assert target.ask(sessions.session_count(keys.bucket_of("c"))) == 1


def test_a_call_that_is_sent_again_changes_nothing(caller: Caller, target: Caller) -> None:
    caller.detach(caller.subscribed())
    caller.enqueue(2)
    found = page(caller)
    assert found.state is not None
    put_aside(target, list(found.entries))
    first = make(target, found.state, replaces=True)
    assert make(target, found.state, replaces=True) == first
    assert put_aside(target, list(found.entries), replaces=True) == -1
    assert target.ids() == [1, 2]
    # Another import replaces it; once its client has come, so does the same.
    assert (
        make(target, found.state, has_entries=False, replaces=True, name=b"other").outcome == Outcome.REPLACED
    )
    target.claim()
    assert make(target, found.state, has_entries=False, replaces=True).outcome == Outcome.REPLACED


def test_entries_that_are_lost_make_no_session(caller: Caller, target: Caller) -> None:
    caller.detach(caller.subscribed())
    caller.enqueue(2)
    found = page(caller)
    assert found.state is not None
    assert put_aside(target, list(found.entries), is_first=False) == -2
    claim = target.claim()
    assert make(target, found.state, replaces=True).outcome == Outcome.LOST
    assert target.field("epoch") == str(claim.epoch)  # that one was not ended for it


def test_entries_of_another_time_are_none_of_it(caller: Caller, target: Caller) -> None:
    caller.detach(caller.subscribed())
    caller.enqueue(2)
    found = page(caller)
    put_aside(target, list(found.entries))
    put_aside(target, [(9, HEAD + BODY)])
    assert found.state is not None
    make(target, replace(found.state, n=9))
    assert target.ids() == [9]


@pytest.mark.parametrize(
    ("drop_oldest", "hi", "kept"),
    [(True, 0, [3, 4, 5]), (True, 2, [1, 2, 5]), (True, 9, [1, 2, 3]), (False, 0, [1, 2, 3])],
)
def test_the_limit_of_a_queue_holds(
    caller: Caller, target: Caller, drop_oldest: bool, hi: int, kept: list[int]
) -> None:
    caller.detach(caller.subscribed())
    caller.enqueue(5)
    found = page(caller)
    assert found.state is not None
    assert put_aside(target, list(found.entries), hi=hi, limit=3, drop_oldest=drop_oldest) == 2
    make(target, found.state)
    assert target.ids() == kept
    assert len(target.stream(keys.letters(target.prefix, keys.bucket_of("c")))) == 2


def test_retained_messages(target: Caller) -> None:
    def put(
        topic: str,
        payload: bytes,
        deadline_ms: int = 0,
        maximum: int | None = None,
        *,
        replaces: bool = False,
    ) -> object:
        record = records.pack_retained(payload, 1, b"", deadline_ms)
        return target.ask(
            moving.import_retained(topic, record, deadline_ms, replaces=replaces, maximum=maximum)
        )

    assert put("t/1", b"old") == Outcome.MADE
    assert put("t/1", b"new") == Outcome.THERE
    assert put("t/1", b"new", replaces=True) == Outcome.MADE
    assert put("t/2", b"x", maximum=1) == moving.NO_ROOM
    assert put("t/2", b"x", target.now_ms() - 1, maximum=2) == Outcome.MADE
    assert put("t/2", b"y", maximum=2) == Outcome.MADE  # the first has expired
    reply = target.ask(retained.retained_page(keys.bucket_of("t"), "t/#", None, 10, 100))
    found = retained.parse_page(reply).items
    assert [(topic, records.unpack_retained(record).payload) for topic, record in found] == [
        ("t/1", b"new"),
        ("t/2", b"y"),
    ]


def test_more_of_it_than_lua_unpacks_at_once(target: Caller) -> None:
    """All that a session may have many of."""
    many = range(1, 5001)
    state = State(
        False, 9000, 9000, 100, None,
        [(f"f/{n}", OPTIONS) for n in many],
        [(f"f/{n}", "") for n in many],
        list(many),
        [Receiving(n, True, 0, b"%d" % n) for n in many],
        [Waiting(f"{n:x}", 1000, WILL) for n in range(10)],
        None,
    )  # fmt: skip
    done = make(target, state, has_entries=False)
    assert len(done.subscriptions) == 5000
    again = state_of(target)
    assert sorted(again.subscriptions) == sorted(state.subscriptions)
    assert (again.released, len(again.receiving), len(again.replays)) == (state.released, 5000, 5000)
