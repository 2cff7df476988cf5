"""Delayed messages: stored once, found once when their time has come, whoever asks how often."""

from cluster.store import deadlines, keys
from cluster.store.call import Reply
from cluster.store.deadlines import DueWill
from cluster.store.sessions import Claim
from tests.store.caller import LEASE_MS, Caller

BUCKET = keys.bucket_of("c")
FIRST, SECOND = "00aa", "00ab"


def delay(
    caller: Caller,
    claim: Claim,
    id: str = FIRST,
    *,
    limit: int = 10,
    packet_id: int | None = None,
    receive_limit: int = 10,
    repeat_ms: int = 0,
) -> Reply:
    return caller.ask(
        deadlines.delay(
            "c",
            claim.epoch,
            id,
            delay_ms=5_000,
            record=b"record " + id.encode(),
            limit=limit,
            packet_id=packet_id,
            receive_limit=receive_limit,
            repeat_ms=repeat_ms,
        )
    )


def message(id: str) -> DueWill:
    return DueWill(f"d:{id}:c".encode(), f"delayed-{BUCKET}-{id}".encode(), b"record " + id.encode())


def waiting(caller: Caller) -> set[bytes]:
    return set(caller.hash(keys.delayed(caller.prefix, BUCKET, "c")))


def test_it_is_due_after_its_delay_and_leased_to_one(caller: Caller) -> None:
    claim = caller.claim()
    assert delay(caller, claim) == 1
    assert caller.due().wills == []
    caller.pass_time(5_001)
    assert caller.due().wills == [message(FIRST)]
    assert caller.other().due().wills == []
    caller.pass_time(LEASE_MS)
    assert caller.other().due().wills == [message(FIRST)]  # the same token: nobody takes it twice
    caller.ask(deadlines.done(BUCKET, [message(FIRST).member]), function="free")
    assert waiting(caller) == set()
    assert "d:00aa:c" not in caller.due_members()
    caller.pass_time(10 * LEASE_MS)
    assert caller.due().wills == []


def test_messages_of_one_deadline_come_in_order(caller: Caller) -> None:
    claim = caller.claim()
    requests = [
        deadlines.delay(
            "c", claim.epoch, id, delay_ms=1000, record=b"record " + id.encode(), limit=10,
            packet_id=None, receive_limit=1, repeat_ms=0,
        )
        for id in (SECOND, FIRST)
    ]  # fmt: skip
    assert caller.call(requests) == [1, 1]  # at the same time of Redis
    caller.pass_time(1_001)
    assert caller.due().wills == [message(FIRST), message(SECOND)]


def test_it_outlives_the_session(caller: Caller) -> None:
    claim = caller.claim(expiry=0)
    delay(caller, claim)
    caller.detach(claim)
    caller.pass_time(5_001)
    assert caller.due().wills == [message(FIRST)]


def test_a_repeated_call_keeps_one(caller: Caller) -> None:
    claim = caller.claim()
    assert [delay(caller, claim) for _ in range(2)] == [1, 1]
    assert waiting(caller) == {FIRST.encode()}


def test_a_stale_owner_is_refused(caller: Caller) -> None:
    claim = caller.claim()
    caller.other().claim()
    assert delay(caller, claim) == 0
    assert waiting(caller) == set()


def test_the_limit_of_a_client(caller: Caller) -> None:
    claim = caller.claim()
    assert delay(caller, claim, limit=1) == 1
    for _ in range(2):
        assert (
            delay(caller, claim, SECOND, limit=1, packet_id=7, repeat_ms=60_000) == deadlines.TOO_MANY_DELAYED
        )
    assert delay(caller, claim, limit=1) == 1  # a repeat
    assert caller.claim().receiving == []


def test_a_stored_exchange_makes_one_message(caller: Caller) -> None:
    """The connection is lost before PUBREC: the PUBLISH that comes again, under another id, is only
    acknowledged, also when the message has been published meanwhile."""
    claim = caller.claim()
    assert delay(caller, claim, packet_id=7) == 1
    again = caller.claim()
    assert [(packet_id, routed) for packet_id, _, routed in again.receiving] == [(7, True)]
    caller.pass_time(5_001)
    caller.ask(deadlines.done(BUCKET, [message(FIRST).member]), function="free")
    assert delay(caller, again, SECOND, packet_id=7) == 1
    assert waiting(caller) == set()


def test_too_many_exchanges(caller: Caller) -> None:
    claim = caller.claim()
    assert delay(caller, claim, packet_id=1, receive_limit=1) == 1
    assert delay(caller, claim, SECOND, packet_id=2, receive_limit=1) == deadlines.TOO_MANY_EXCHANGES
    assert waiting(caller) == {FIRST.encode()}


def test_a_call_that_comes_again_after_it_was_published(caller: Caller) -> None:
    """At QoS 2 from a direct session, of which nothing is in `rx`."""
    claim = caller.claim(expiry=0)
    assert delay(caller, claim, repeat_ms=60_000) == 1
    caller.pass_time(5_001)
    caller.ask(deadlines.done(BUCKET, [caller.due().wills[0].member]), function="free")
    assert delay(caller, claim, repeat_ms=60_000) == 1
    assert waiting(caller) == set()


def test_a_deadline_without_its_message_is_dropped(caller: Caller) -> None:
    delay(caller, caller.claim())
    caller.redis.delete(keys.delayed(caller.prefix, BUCKET, "c"))
    caller.pass_time(5_001)
    assert caller.due().wills == []
    assert caller.due_members() == []
