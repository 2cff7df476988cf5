"""A batch that is taken apart and put together again, against servers made of a dict."""

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from cluster.store import inboxes, queues, retained, shares
from cluster.store.call import LARGE_BYTES, Call, Reply, Request
from cluster.store.errors import CallFailed, ItemError, RedisFull, SlotMoving
from cluster.store.keys import bucket_of
from cluster.store.lane import CallReplies, PartlyRefused
from cluster.store.splitting import FIRST, LAST, ROUNDS, ROUTED, AnyPiece, Plan

POLICY = shares.Policy("balanced", 1000)
LOST = 7
"""The epoch of a publisher that somebody else has."""


def ack(bucket: int, n: int = 1) -> list[object]:
    return queues.ack(bucket, "c", [1, n])


def enqueue(bucket: int, *bodies: int) -> list[object]:
    entries = [item for body in bodies for item in (False, b"head", body, False, 0)]
    return queues.enqueue(bucket, "c", 10, False, entries)


def carry_out(call: Call) -> list[Reply]:
    """As lua/dispatch.lua does: each request is answered by what it got."""
    answers: list[Reply] = []
    for place, request in enumerate(call.requests):
        assert request[0] != "fence" or place == 0 or call.function == "free"
        if request[0] != "fence":
            assert request[1] == call.slot, "in one slot only"
        answers.append(answer(call, request))
        if request[0] == "fence" and answers[-1] and len(call.requests) > 1 and call.function == "write":
            return [answers[0], *[False] * (len(call.requests) - 1)]
    return answers


def answer(call: Call, request: Request) -> Reply:
    if request[0] == "fence":
        publishers = request[2]
        assert isinstance(publishers, list)
        assert set(publishers[::3]) <= {call.slot}, "in one slot only"
        return [place for place, epoch in enumerate(publishers[2::3]) if epoch == LOST]
    if request[0] == "enqueue":
        entries = request[5]
        assert isinstance(entries, list)
        return [None if body < 0 else call.bodies[body] for body in entries[2::5]]
    return ["did", request[0], request[1]]


def run(
    plan: Plan, refuse: Callable[[AnyPiece], CallReplies | None] = lambda _: None
) -> list[list[AnyPiece]]:
    """One attempt, which ends with the round in which a piece is not answered; its pieces by rounds."""
    plan.begin()
    asked: list[list[AnyPiece]] = []
    for number in ROUNDS:
        pieces = plan.pieces(number)
        asked.append(pieces)
        is_complete = True
        for piece in pieces:
            replies = refuse(piece)
            if isinstance(replies, SlotMoving):
                is_complete = False
            else:
                plan.take(piece, carry_out(piece.call) if replies is None else replies)
        if not is_complete:
            break
    return asked


def requests_of(pieces: Sequence[AnyPiece]) -> list[tuple[object, list[object]]]:
    return [(piece.call.slot, [request[0] for request in piece.call.requests]) for piece in pieces]


def test_a_call_of_one_slot_goes_as_it_is() -> None:
    call = Call("write", [queues.fence([3, "p", 1]), enqueue(3, 0, 1, -1)], [b"zero", b"one"])
    plan = Plan([call])
    asked = run(plan)
    assert requests_of(asked[FIRST]) == [(3, ["fence", "enqueue"])]
    assert asked[ROUTED] == asked[LAST] == []
    assert plan.replies() == [[[], [b"zero", b"one", None]]]


def test_each_slot_gets_its_requests_in_order_and_the_bodies_that_they_name() -> None:
    call = Call(
        "write",
        [queues.fence([]), enqueue(1, 2), enqueue(2, 0), enqueue(1, 0, 2), inboxes.send("node", b"r")],
        [b"zero", b"one", b"two"],
    )
    plan = Plan([call])
    (pieces, *rest) = run(plan)
    assert rest == [[], []]
    assert [(piece.call.slot, piece.call.bodies) for piece in pieces] == [
        (1, [b"two", b"zero"]),
        (2, [b"zero"]),
        ("node", []),
    ]
    assert plan.replies() == [[[], [b"two"], [b"zero"], [b"zero", b"two"], ["did", "send", "node"]]]


def test_bodies_of_shared_subscriptions_are_found_too() -> None:
    name = "group/filter"
    call = Call(
        "write", [queues.fence([]), shares.share(name, 1, False, POLICY, [b"h", 1, False, 0])], [b"0", b"1"]
    )
    ((piece,), _, _) = run(Plan([call]))
    assert (piece.call.slot, piece.call.bodies) == (bucket_of(name), [b"1"])
    assert piece.call.requests[0][7] == [b"h", 0, False, 0]
    assert call.requests[1][7] == [b"h", 1, False, 0], "it may have to be asked again"


def test_large_records_of_inboxes_and_retained_messages_are_found_too() -> None:
    call = Call("write", [queues.fence([])])
    one, other = b"1" * LARGE_BYTES, b"2" * LARGE_BYTES
    call.requests += [inboxes.send("node", call.place(one)), inboxes.send("node", call.place(b"small"))]
    call.requests.append(retained.retain("t", call.place(other), 0, False, 0))
    (pieces, _, _) = run(Plan([call]))
    assert [(piece.call.slot, piece.call.bodies) for piece in pieces] == [
        ("node", [one]),
        (retained.bucket_of_topic("t"), [other]),
    ]
    assert [piece.call.requests[0][place] for piece, place in zip(pieces, (2, 3), strict=True)] == [[0], [0]]
    assert pieces[0].call.requests[1][2] == b"small"


def test_fences_go_first_and_those_of_a_bucket_together() -> None:
    calls = [
        Call("free", [ack(4)]),
        Call("write", [queues.fence([1, "p", 1, 2, "q", 1]), enqueue(4, -1)]),
        Call("write", [queues.fence([1, "r", 1]), enqueue(1, -1), enqueue(5, -1)]),
    ]
    plan = Plan(calls)
    asked = run(plan)
    assert requests_of(asked[FIRST]) == [
        (1, ["fence", "fence"]),
        (2, ["fence"]),
        (4, ["ack"]),
    ]
    assert requests_of(asked[ROUTED]) == [(4, ["enqueue"]), (1, ["enqueue"]), (5, ["enqueue"])]
    assert plan.version_round == ROUTED
    assert [len(replies) for replies in plan.replies() if isinstance(replies, list)] == [1, 2, 3]


def test_a_fence_that_finds_somebody_ends_its_call_and_no_other() -> None:
    publishers = [1, "p", 1, 2, "q", LOST, 1, "r", LOST]
    calls = [
        Call("write", [queues.fence(publishers), enqueue(4, -1), enqueue(5, -1)]),
        Call("write", [queues.fence([2, "s", 1]), enqueue(4, -1)]),
    ]
    plan = Plan(calls)
    asked = run(plan)
    assert requests_of(asked[ROUTED]) == [(4, ["enqueue"])]
    assert plan.replies() == [[[1, 2], False, False], [[], [None]]]


def test_a_call_that_a_fence_has_ended_is_sent_again_when_it_was_revised() -> None:
    other = Call("free", [ack(9)])
    fenced = Call("write", [queues.fence([1, "p", 1, 2, "q", LOST]), enqueue(4, -1)])
    plan = Plan([other, fenced])
    run(plan, lambda piece: SlotMoving("moving") if piece.call.slot == 9 else None)
    plan.pieces(ROUTED)
    plan.revise([other, Call("write", [queues.fence([1, "p", 1]), enqueue(4, -1)])])
    asked = run(plan)
    assert requests_of(asked[FIRST]) == [(1, ["fence"]), (9, ["ack"])]
    assert plan.replies() == [[["did", "ack", 9]], [[], [None]]]


def test_what_was_answered_is_not_sent_again_but_fences_are() -> None:
    call = Call("write", [queues.fence([1, "p", 1]), enqueue(4, -1), enqueue(5, -1), enqueue(4, -1)])
    plan = Plan([Call("free", [ack(1), ack(2)]), call])
    run(plan, lambda piece: SlotMoving("moving") if piece.call.slot == 5 else None)
    asked = run(plan)
    assert requests_of(asked[FIRST]) == [(1, ["fence"])]
    assert requests_of(asked[ROUTED]) == [(5, ["enqueue"])]
    assert run(plan) == [[], [], []]
    assert len(plan.replies()) == 2


def test_the_end_of_the_inbox_is_asked_for_last() -> None:
    plan = Plan([Call("write", [ack(1)]), Call("free", [ack(2), inboxes.inbox_tail("node")])])
    asked = run(plan)
    assert requests_of(asked[FIRST]) == [(1, ["ack"]), (2, ["ack"])]
    assert requests_of(asked[LAST]) == [("node", ["inbox_tail"])]
    alone = run(Plan([Call("free", [inboxes.inbox_tail("node")])]))
    assert requests_of(alone[FIRST]) == [("node", ["inbox_tail"])]


def test_the_version_is_read_when_retained_messages_are_there() -> None:
    retain = ["retain", 3, "t", b"", 0, False, 0, None]
    assert Plan([Call("write", [queues.fence([]), retain])]).version_round == LAST
    assert Plan([Call("write", [queues.fence([]), enqueue(1, -1)])]).version_round == FIRST
    assert Plan([]).version_round == FIRST


def test_a_call_that_nobody_had_room_for_is_refused() -> None:
    full = RedisFull("OOM")
    plan = Plan([Call("write", [queues.fence([1, "p", 1]), enqueue(4, -1), enqueue(5, -1)])])
    run(plan, lambda piece: full if piece.call.slot != 1 else None)
    assert plan.replies() == [full]


def test_a_call_that_some_had_no_room_for_says_which() -> None:
    full = RedisFull("OOM")
    plan = Plan([Call("write", [queues.fence([1, "p", 1]), enqueue(4, -1), enqueue(5, -1)])])
    run(plan, lambda piece: full if piece.call.slot == 4 else None)
    (replies,) = plan.replies()
    assert isinstance(replies, PartlyRefused)
    assert replies == [[], full, [None]]


def test_a_piece_that_is_refused_for_good_fails_its_call() -> None:
    failed = CallFailed("no")
    plan = Plan([Call("write", [ack(4), ack(5)]), Call("write", [ack(4)])])
    run(plan, lambda piece: failed if piece.call.slot == 5 else None)
    assert plan.replies() == [failed, [["did", "ack", 4]]]


def test_a_fence_that_can_not_be_read_finds_nobody() -> None:
    plan = Plan([Call("write", [queues.fence([1, "p", LOST]), enqueue(4, -1)])])
    run(plan, lambda piece: [ItemError("WRONGTYPE")] if piece.call.slot == 1 else None)
    assert plan.replies() == [[[], [None]]]


BUCKETS = st.integers(0, 3)
ROUTING = st.builds(
    lambda publishers, requests: Call(
        "write",
        [queues.fence([item for bucket in publishers for item in (bucket, "p", 1)]), *requests],
        [b"zero", b"one", b"two"],
    ),
    st.lists(BUCKETS, max_size=3),
    st.lists(st.builds(enqueue, BUCKETS, st.integers(-1, 2), st.integers(-1, 2)), min_size=1, max_size=6),
)
ASKED = st.builds(
    Call,
    st.sampled_from(["free", "write"]),
    st.lists(st.one_of(st.builds(ack, BUCKETS), st.just(inboxes.inbox_tail("node"))), min_size=1, max_size=6),
)


@given(
    st.lists(ASKED, max_size=3),
    st.lists(ROUTING, max_size=3),
    st.lists(st.sets(BUCKETS), max_size=4),
    st.booleans(),
)
def test_any_batch_is_answered_as_by_one_server(
    asked: list[Call], routing: list[Call], away: list[set[int]], is_revised: bool
) -> None:
    """However often some slots do not answer; each request is carried out once if it is."""
    calls = asked + routing
    plan = Plan(calls)
    done: list[tuple[int, int]] = []
    for slots in [*away, set[int]()]:
        plan.begin()
        for number in ROUNDS:
            pieces = plan.pieces(number)
            unreached = [piece for piece in pieces if piece.call.slot in slots]
            for piece in pieces:
                if piece not in unreached:
                    plan.take(piece, carry_out(piece.call))
                    done += [(number, place) for number, place in _places(piece)]
            if unreached:
                break
        if is_revised:
            plan.revise(calls)
    assert len(done) == len(set(done))
    expected = [
        [answer(call, request) if request[0] != "fence" else [] for request in call.requests]
        for call in calls
    ]
    assert plan.replies() == expected


def _places(piece: AnyPiece) -> list[tuple[int, int]]:
    number = getattr(piece, "number", None)
    return [] if number is None else [(number, place) for place in getattr(piece, "places", ())]
