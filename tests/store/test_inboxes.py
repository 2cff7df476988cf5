"""Inboxes and bells: bounded, repeatable, gone with their node."""

from typing import cast

import pytest

from cluster.store import inboxes, keys, sessions
from cluster.store.call import LARGE_BYTES, Call
from cluster.store.inboxes import Rung
from tests.store.caller import Caller

NODE = "node-1"
OTHER = "12.123456789012"  # which Lua could take for a number
BUCKET = keys.bucket_of("c")


def opened(caller: Caller, incarnation: str = NODE) -> str:
    """The key of the inbox."""
    assert caller.ask(inboxes.open_inbox(incarnation)) == 1
    return keys.inbox(caller.prefix, incarnation)


def records(caller: Caller, inbox: str) -> list[bytes]:
    return [fields[b"p"] for _, fields in caller.stream(inbox)]


def size(caller: Caller, inbox: str) -> int:
    return int(cast(bytes, caller.redis.get(inbox + ":bytes") or b"0"))


@pytest.mark.parametrize("incarnation", [NODE, OTHER])
def test_records_come_in_order_and_are_trimmed(caller: Caller, incarnation: str) -> None:
    inbox = opened(caller, incarnation)
    assert [caller.ask(inboxes.send(incarnation, record)) for record in (b"one", b"two", b"three")] == [
        1,
        1,
        1,
    ]
    assert records(caller, inbox) == [b"one", b"two", b"three"]
    assert size(caller, inbox) == 11
    second = caller.stream(inbox)[1][0].decode()
    for _ in range(2):  # sent again, it does nothing
        assert caller.ask(inboxes.trim_inbox(incarnation, second, 6)) == 1
        assert records(caller, inbox) == [b"three"]
        assert size(caller, inbox) == 5
    assert caller.ask(inboxes.inbox_tail(incarnation)) == caller.stream(inbox)[-1][0]


def test_a_record_may_be_a_body_of_the_call(caller: Caller) -> None:
    inbox = opened(caller)
    call = Call("write")
    large = b"x" * LARGE_BYTES
    requests = [inboxes.send(NODE, call.place(record)) for record in (b"small", large, b"", large)]
    assert len(call.bodies) == 2
    assert caller.call(requests, call.bodies) == [1, 1, 1, 1]
    assert records(caller, inbox) == [b"small", large, b"", large]
    assert size(caller, inbox) == 5 + 2 * LARGE_BYTES


def test_opening_again_keeps_what_is_there(caller: Caller) -> None:
    inbox = opened(caller)
    caller.ask(inboxes.send(NODE, b"one"))
    opened(caller)
    assert records(caller, inbox) == [b"one"]


def test_an_empty_inbox_has_no_tail_but_takes_records(caller: Caller) -> None:
    opened(caller)
    assert caller.ask(inboxes.inbox_tail(NODE)) == b"0-0"
    assert caller.ask(inboxes.send(NODE, b"one")) == 1


def test_nothing_is_written_for_a_node_that_is_gone(caller: Caller) -> None:
    inbox = opened(caller)
    assert caller.ask(inboxes.close_inbox(NODE)) == 1
    assert caller.ask(inboxes.send(NODE, b"one")) == 0
    assert not caller.redis.exists(inbox, inbox + ":bytes")


def test_an_inbox_is_bounded_in_bytes(caller: Caller) -> None:
    inbox = opened(caller)
    caller.redis.set(inbox + ":bytes", 64 << 20)
    assert caller.ask(inboxes.send(NODE, b"one")) == -1
    caller.redis.set(inbox + ":bytes", (64 << 20) - 1)
    assert caller.ask(inboxes.send(NODE, b"one")) == 1


def test_an_inbox_is_bounded_in_entries(caller: Caller) -> None:
    opened(caller)
    answers: list[object] = []
    for _ in range(101):
        answers += caller.call([inboxes.send(NODE, b"")] * 100)
    assert answers == [1] * 10_000 + [-1] * 100


def test_a_stranger_with_a_number_for_a_name_is_refused_in_its_slot(caller: Caller) -> None:
    caller.redis.set(keys.tombstone(caller.prefix, OTHER, caller.incarnation), 1)
    with pytest.raises(Exception, match="NODEGONE"):
        caller.call([inboxes.inbox_tail(OTHER)], slot=OTHER)


# Bells


def bell(caller: Caller, is_done: bool) -> Rung:
    rung = inboxes.parse_bell(caller.ask(inboxes.take_bell(BUCKET, NODE, is_done)))
    return Rung(sorted(rung.sessions), sorted(rung.kicked))


def test_what_was_taken_stays_until_it_was_looked_at(caller: Caller) -> None:
    claim = caller.subscribed()
    caller.other().enqueue(1)
    assert bell(caller, True) == Rung([("c", 1)], [])
    caller.other().claim("c")
    assert bell(caller, False) == Rung([("c", 1)], [])
    assert bell(caller, True) == Rung([], [("c", claim.epoch)])
    assert bell(caller, True) == Rung([], [])


def test_a_kick_names_the_epoch_and_any_client_id(caller: Caller) -> None:
    name = next(f"a:{{%}}:{i}" for i in range(10_000) if keys.bucket_of(f"a:{{%}}:{i}") == BUCKET)
    claim = caller.claim(name)
    caller.other().claim(name)
    assert bell(caller, True) == Rung([], [(name, claim.epoch)])


def test_a_repeated_claim_only_asks(caller: Caller) -> None:
    """What a node asks that doesn't know what became of a claim, and whose client has gone."""

    def ask(caller: Caller, nonce: bytes) -> object:
        return caller.ask(
            sessions.claim(
                "c",
                nonce=nonce,
                clean_start=False,
                expiry_seconds=60,
                protocol=5,
                window=10,
                will=None,
                will_delay_seconds=0,
                is_repeat=True,
            )
        )

    assert ask(caller, b"first") is False
    assert caller.session_keys() == set()
    claim = caller.claim(nonce=b"first")
    assert sessions.parse_claim(ask(caller, b"first")).epoch == claim.epoch
    caller.other().claim(nonce=b"second")
    assert ask(caller, b"first") is False
    assert caller.field("owner") == "node-2"
