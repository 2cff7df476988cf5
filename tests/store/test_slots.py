"""Hash slots against what Redis' own documentation and redis-cli say, and answers of CLUSTER SLOTS."""

import pytest

from cluster.store.errors import StoreUnavailable
from cluster.store.slots import SLOTS, hash_slot, moved_to, parse_slots

# From CLUSTER KEYSLOT of Redis 7.0.
KNOWN = (
    ("123456789", 12739),
    ("foo", 12182),
    ("somekey", 11058),
    ("foo{hash_tag}", 2515),
    ("bar{hash_tag}", 2515),
    ("{user1000}.following", 3443),
    ("foo{}{bar}", 8363),
    ("foo{{bar}}zap", 4015),
    ("foo{bar}{zap}", 5061),
    ("mq:{0}:ctr", 13907),
    ("mq:{63}:q:client", 10499),
    ("mq:{m}:ver", 15627),
    ("", 0),
    ("{", 4092),
)
ASKED = ("seed", 7000)


@pytest.mark.parametrize(("key", "slot"), KNOWN)
def test_the_slot_of_a_key(key: str, slot: int) -> None:
    assert hash_slot(key) == hash_slot(key.encode()) == slot


def test_who_serves_what() -> None:
    reply = [
        [0, 100, [b"10.0.0.1", 7001, b"id", []], [b"10.0.0.4", 7004, b"id", []]],
        [101, 101, [b"10.0.0.2", 7002, b"id"]],
        [102, SLOTS - 1, [b"10.0.0.1", 7001, b"id"]],
    ]
    view = parse_slots(reply, ASKED)
    assert view.primaries == [("10.0.0.1", 7001), ("10.0.0.2", 7002)]
    assert view.nodes == (("10.0.0.1", 7001), ("10.0.0.4", 7004), ("10.0.0.2", 7002))
    by_slot = view.by_slot()
    assert len(by_slot) == SLOTS
    assert by_slot[101] == ("10.0.0.2", 7002)
    assert by_slot[100] == by_slot[102] == ("10.0.0.1", 7001)


@pytest.mark.parametrize("host", [None, b""], ids=["NULL", "empty"])
def test_a_node_that_does_not_say_where_it_is_was_the_one_asked(host: bytes | None) -> None:
    assert parse_slots([[0, 5, [host, 7001, b"id"]]], ASKED).primaries == [("seed", 7001)]


def test_a_node_that_nobody_knows_the_name_of_serves_nothing() -> None:
    reply = [[0, 5, [b"?", 7001, b"id"], [b"10.0.0.4", 7004, b"id"]], [6, 7, [b"h", 7002, b"id"]]]
    view = parse_slots(reply, ASKED)
    assert view.primaries == [("h", 7002)]
    assert 5 not in view.by_slot()


@pytest.mark.parametrize(
    "reply",
    [
        b"OK",
        [b"x"],
        [[0]],
        [[0, b"x", [b"h", 1, b"id"]]],
        [[0, SLOTS, [b"h", 1, b"id"]]],
        [[5, 4, [b"h", 1]]],
    ],
)
def test_what_is_no_such_answer(reply: object) -> None:
    with pytest.raises(StoreUnavailable):
        parse_slots(reply, ASKED)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("MOVED 3999 127.0.0.1:6381", (3999, ("127.0.0.1", 6381))),
        ("MOVED 3999 redis-2.example:6381", (3999, ("redis-2.example", 6381))),
        ("MOVED 3999 :6381", (3999, ("seed", 6381))),
        ("MOVED 3999 [::1]:6381", (3999, ("::1", 6381))),
        ("MOVED 3999 ::1:6381", (3999, ("::1", 6381))),
        ("MOVED x 127.0.0.1:6381", None),
        ("MOVED 3999", None),
        ("MOVED 3999 127.0.0.1:x", None),
    ],
)
def test_where_a_slot_has_gone(error: str, found: object) -> None:
    assert moved_to(error, ASKED) == found
