"""The index of persistent sessions: who is in there, in which order, and how it is cut into chunks."""

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.store import keys, membership, session_index, sessions, subscriptions
from cluster.store.records import pack_will
from tests.store.caller import Caller

BUCKET = keys.bucket_of("c")
WILL = pack_will("will", b"gone", 1, False, b"", None, "c")
CHUNK = 120


def ids_of_bucket(count: int, pattern: str = "c-{:06}") -> list[str]:
    """Of the bucket of `c`, in order."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        name = pattern.format(number)
        if keys.bucket_of(name) == BUCKET:
            found.append(name)
        number += 1
    return sorted(found)


IDS = ids_of_bucket(400)


def listed(caller: Caller, beginning: str = "", after: str | None = None, limit: int = 1000) -> list[str]:
    return session_index.parse_ids(
        caller.ask(session_index.session_ids(BUCKET, beginning, after, limit), function="free")
    )


def chunks(caller: Caller) -> dict[str, list[str]]:
    """By their firsts, in order."""
    firsts = caller.scores(keys.session_index(caller.prefix, BUCKET))
    return {first: list(caller.scores(keys.session_chunk(caller.prefix, BUCKET, first))) for first in firsts}


def count(caller: Caller) -> int:
    reply = caller.ask(sessions.session_count(BUCKET))
    assert isinstance(reply, int)
    return reply


def end(caller: Caller, client_id: str) -> session_index.EndedByHand | None:
    return session_index.parse_end(caller.ask(session_index.session_end(client_id), function="free"))


def brief(caller: Caller, client_id: str = "c") -> session_index.Brief | None:
    return session_index.parse_brief(
        client_id, caller.ask(session_index.session_brief(client_id), function="free")
    )


def check_chunks(caller: Caller, expected: list[str]) -> None:
    """They hold all ids in order, and each what belongs there."""
    found = chunks(caller)
    assert [each for ids in found.values() for each in ids] == expected
    firsts = list(found)
    assert firsts[:1] == ([""] if expected else [])
    for place, (first, ids) in enumerate(found.items()):
        assert len(ids) <= CHUNK
        assert all(each >= first for each in ids)
        assert place + 1 == len(firsts) or all(each < firsts[place + 1] for each in ids)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(0, 399), st.integers(1, 150), st.booleans()), max_size=12
    )
)
def test_the_index_is_the_set_of_persistent_sessions(
    caller: Caller, steps: list[tuple[bool, int, int, bool]]
) -> None:
    caller = Caller.with_new_prefix(caller.redis)
    there: set[str] = set()
    for adds, start, length, backwards in steps:
        names = IDS[start : start + length]
        if backwards:
            names.reverse()
        if adds:
            caller.call([_claim(name) for name in names])
            there.update(names)
        else:
            caller.call([session_index.session_end(name) for name in names])
            there.difference_update(names)
        check_chunks(caller, sorted(there))
        assert count(caller) == len(there)
    middle = IDS[200]
    assert listed(caller, after=middle, limit=50) == [each for each in sorted(there) if each > middle][:50]
    assert listed(caller, beginning=middle[:5]) == [
        each for each in sorted(there) if each.startswith(middle[:5])
    ]


def _claim(client_id: str, expiry: int = 600) -> list[object]:
    return sessions.claim(
        client_id, nonce=b"n", clean_start=False, expiry_seconds=expiry, protocol=5, window=10, will=None,
        will_delay_seconds=0,
    )  # fmt: skip


def test_ids_that_come_in_order_leave_full_chunks(caller: Caller) -> None:
    caller.call([_claim(name) for name in IDS])
    assert [len(ids) for ids in chunks(caller).values()] == [120, 120, 120, 40]


def test_an_index_that_is_empty_again_leaves_no_key(caller: Caller) -> None:
    for names in (IDS, list(reversed(IDS))):
        caller.call([_claim(name) for name in names])
        caller.call([session_index.session_end(name) for name in names])
        left = {name.partition("}:")[2] for name in caller.key_names()}
        assert not [name for name in left if name.startswith(("ids", "s:"))]


def test_ids_are_in_the_order_of_their_code_points(caller: Caller) -> None:
    names = ids_of_bucket(5, "é-{}") + ids_of_bucket(5, "Z{{{}}}%") + ids_of_bucket(5, "a/{}")
    caller.call([_claim(name) for name in names])
    assert listed(caller) == sorted(names)
    assert listed(caller, beginning="Z{") == ids_of_bucket(5, "Z{{{}}}%")
    assert listed(caller, beginning="Z{", after="é") == []


def test_a_direct_session_is_not_in_the_index(caller: Caller) -> None:
    claim = caller.claim(expiry=0)
    assert listed(caller) == []
    found = brief(caller)
    assert found is not None
    assert found.is_direct
    caller.detach(claim, is_plain=True)
    assert brief(caller) is None


def test_a_session_leaves_the_index_however_it_ends(caller: Caller) -> None:
    claim = caller.claim(expiry=600)
    assert listed(caller) == ["c"]
    caller.detach(claim, expiry=0)
    assert listed(caller) == []

    caller.detach(caller.claim(expiry=600))
    caller.pass_time(601_000)
    caller.due()
    assert listed(caller) == []

    caller.claim(expiry=600)
    caller.claim(clean_start=True, expiry=0)  # a direct one in its place
    assert listed(caller) == []
    assert count(caller) == 0


def test_a_session_stays_in_the_index_over_its_connections(caller: Caller) -> None:
    caller.detach(caller.claim())
    caller.claim()
    caller.claim(clean_start=True)
    assert listed(caller) == ["c"]
    assert count(caller) == 1
    assert caller.field("counted") is None


def test_a_session_of_an_older_library_enters_with_its_next_claim(caller: Caller) -> None:
    first = caller.claim()
    _make_older(caller)
    assert listed(caller) == []
    caller.detach(first)
    caller.claim()
    assert listed(caller) == ["c"]
    assert count(caller) == 1
    assert caller.field("counted") is None


def test_a_session_of_an_older_library_that_is_taken_over_enters(caller: Caller) -> None:
    caller.claim()
    _make_older(caller)
    caller.other().claim()
    assert listed(caller) == ["c"]
    assert count(caller) == 1


def test_a_session_that_is_there_is_not_looked_for_again(caller: Caller) -> None:
    """A claim takes it for granted that this library has put it into the index."""
    caller.detach(caller.claim())
    caller.redis.delete(keys.session_chunk(caller.prefix, BUCKET, ""))
    caller.detach(caller.claim())
    assert listed(caller) == []
    caller.other().claim()
    caller.other("node-3").claim()  # a take-over may be one of a session that an older library has claimed
    assert listed(caller) == ["c"]


def test_a_session_that_nobody_has_counted_enters_with_its_next_claim(caller: Caller) -> None:
    """Of a library before they were counted."""
    claim = caller.claim()
    _make_older(caller)
    caller.redis.hdel(keys.session(caller.prefix, BUCKET, "c"), "counted")
    caller.redis.delete(keys.sessions(caller.prefix, BUCKET))
    caller.detach(claim)
    assert count(caller) == 0
    caller.claim()
    assert count(caller) == 1


def test_a_session_of_an_older_library_that_ends_is_not_counted_any_more(caller: Caller) -> None:
    first = caller.claim()
    _make_older(caller)
    caller.detach(first, expiry=0)
    assert count(caller) == 0


def test_the_scrub_lets_sessions_of_an_older_library_in(caller: Caller) -> None:
    caller.subscribed()
    _make_older(caller)
    assert caller.ask(subscriptions.missing(BUCKET, ["c", "f", "c", "other", "nobody", "f"])) == [1, 2]
    assert listed(caller) == ["c"]
    assert count(caller) == 1


def _make_older(caller: Caller) -> None:
    """As if the library before the index had made the session `c`, which is connected."""
    session = keys.session(caller.prefix, BUCKET, "c")
    claim = msgpack.unpackb(caller.hash(session)[b"claim"], raw=True)
    caller.redis.hset(session, mapping={"counted": 1, "claim": msgpack.packb(claim[:5], use_bin_type=False)})
    caller.redis.delete(keys.session_index(caller.prefix, BUCKET))
    caller.redis.delete(keys.session_chunk(caller.prefix, BUCKET, ""))


def test_an_id_without_a_session_leaves_the_index_when_it_is_met(caller: Caller) -> None:
    caller.claim()
    caller.redis.delete(keys.session(caller.prefix, BUCKET, "c"))  # as an older library would
    assert listed(caller) == ["c"]
    assert brief(caller) is None
    assert listed(caller) == []
    assert count(caller) == 0


def test_what_there_is_to_know_of_a_session(caller: Caller) -> None:
    claim = caller.claim(expiry=600, window=7, will=WILL, will_delay=5)
    caller.subscribe(claim, "f", "g")
    caller.enqueue(3)
    found = brief(caller)
    assert found is not None
    assert (found.owner, found.epoch, found.expiry_seconds) == ("node-1", claim.epoch, 600)
    assert (found.deadline_ms, found.protocol, found.n, found.hi) == (None, 5, 3, 7)
    assert (found.subscriptions, found.queued, found.has_will, found.is_direct) == (2, 3, True, False)
    assert found.queued_bytes > 3 * len(b"payload")
    assert (found.released, found.receiving, found.delayed) == (0, 0, 0)
    caller.detach(claim, fire_will=False)
    found = brief(caller)
    assert found is not None
    assert (found.owner, found.protocol) == (None, None)
    assert found.deadline_ms == pytest.approx(caller.now_ms() + 600_000, abs=2000)
    assert not found.has_will


def test_a_session_that_nobody_owns_ends_by_hand_with_all_it_has(caller: Caller) -> None:
    claim = caller.claim()
    stamp = caller.subscribe(claim, "f")
    caller.enqueue(3)
    caller.detach(claim)
    ended = end(caller, "c")
    assert ended == session_index.EndedByHand(claim.epoch, [("f", stamp)])
    assert caller.session_keys() <= {"ended"}
    assert caller.due_members() == []
    assert end(caller, "c") is None
    assert not caller.claim().present


def test_whoever_owns_a_session_that_ends_by_hand_is_told(caller: Caller) -> None:
    claim = caller.claim(will=WILL, will_delay=60)
    assert end(caller.other(), "c") is not None
    bell = keys.bell(caller.prefix, BUCKET, "node-1")
    assert caller.members(bell) == {f"kick:{claim.epoch}:c".encode()}
    assert caller.detach(claim).stale is False  # its will is still to be published
    due = caller.due()
    assert [will.record for will in due.wills] == [WILL]
    assert caller.due().wills == []  # leased


def test_a_session_of_a_dead_node_ends_by_hand(caller: Caller) -> None:
    caller.claim(will=WILL)
    assert end(caller.other(), "c") is not None
    caller.other().call([membership.bury(BUCKET, "node-1")])
    (reply,) = caller.other().call([membership.reap(BUCKET, "node-1", 10)])
    reaped = membership.parse_reap(reply)
    assert (reaped.more, reaped.ended, reaped.damaged) == (False, [], [])


def test_who_is_connected(caller: Caller) -> None:
    claims = {name: caller.claim(name) for name in IDS[:130]}  # two chunks
    for name in IDS[:130:2]:
        caller.detach(claims[name], name)
    request = session_index.sessions_connected(BUCKET, "", IDS[0], 125)
    found = session_index.parse_connected(caller.ask(request, function="free"))
    assert found == [(name, name in IDS[1:130:2]) for name in IDS[1:126]]
