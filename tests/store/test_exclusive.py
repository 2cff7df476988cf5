"""Exclusive subscriptions: one has it, whoever asks in whatever order."""

from cluster.store import exclusive, keys
from cluster.store.exclusive import Holder
from tests.store.caller import Caller

FILTER = "$exclusive/f"


def take(caller: Caller, client_id: str, epoch: int, beaten: Holder | None = None) -> Holder | None:
    name = beaten.name if beaten is not None else None
    return exclusive.parse_take(caller.ask(exclusive.take("f", client_id, epoch, name)))


def free(caller: Caller, client_id: str, epoch: int) -> None:
    caller.call(exclusive.free(["f"], client_id, epoch), function="free")


def holder(caller: Caller) -> bytes | None:
    return caller.hash(keys.exclusive(caller.prefix, keys.bucket_of("f"))).get(b"f")


def test_the_first_one_has_it_until_it_is_freed(caller: Caller) -> None:
    assert take(caller, "a:b", 1) is None
    assert take(caller, "c", 7) == Holder(1, "a:b", b"1:a:b")
    free(caller, "c", 9)
    assert holder(caller) == b"1:a:b"
    free(caller, "a:b", 1)
    assert holder(caller) is None
    assert take(caller, "c", 7) is None


def test_the_same_client_takes_it_again(caller: Caller) -> None:
    take(caller, "a", 1)
    assert take(caller, "a", 2) is None
    free(caller, "a", 1)  # of the connection before: late
    assert holder(caller) == b"2:a"


def test_only_the_one_that_was_looked_at_is_beaten(caller: Caller) -> None:
    take(caller, "a", 1)
    beaten = take(caller, "b", 5)
    assert beaten is not None
    assert take(caller, "c", 6, beaten) is None
    assert take(caller, "b", 5, beaten) == Holder(6, "c", b"6:c")
    assert take(caller, "c", 6, beaten) is None  # the call once more


def test_who_still_has_it(caller: Caller) -> None:
    claim = caller.claim("a")
    mine = Holder(claim.epoch, "a", b"")

    def holds() -> object:
        return bool(caller.ask(exclusive.holds(mine, FILTER)))

    assert holds()  # it may be about to write it
    caller.detach(claim, "a")
    assert not holds()
    again = caller.claim("a")
    assert not holds()
    caller.subscribe(again, FILTER, client_id="a")
    assert holds()
    caller.detach(again, "a")
    assert holds()  # it may come back
    caller.claim("a", clean_start=True)
    assert not holds()
    assert not caller.ask(exclusive.holds(Holder(1, "nobody", b""), FILTER))
