"""How a primary is known again."""

import pytest

from cluster.store.identity import Identities, Identity

NONE = "0" * 40


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (Identity("run", "x", "old"), True),
        (Identity("run", "y", NONE), True),  # its first replica has come
        (Identity("run", "y", "x"), False),  # it was a replica meanwhile
        (Identity("other", "y", NONE), False),  # it was started again
        (Identity("other", "y", "x"), False),  # it was promoted
        (Identity("", "y", NONE), False),  # it does not say
    ],
)
def test_a_primary_is_known_by_its_process_or_its_replication(other: Identity, is_same: bool) -> None:
    known = Identity("run", "x", NONE)
    assert known.is_same(other) is is_same


def test_all_ids_of_one_process_are_remembered() -> None:
    known = Identity("run", "x", NONE)
    assert known.is_still("y", NONE, run_id="run")
    assert known.is_still("y", "whatever")
    assert repr(known) == "Identity(run, ['x', 'y'])"


def test_of_several_primaries_those_who_are_new_add_to_what_is_known() -> None:
    first, second = Identity("run", "x", NONE), Identity("other", "y", NONE)
    known = Identities()
    assert known.of([1, 2, "m"]) == []
    assert known.joined({1: first, 2: first}) is known
    assert known.joined({1: Identity("run", "x", NONE), "m": second}) is known
    assert known.of([1, 2, 3]) == [first]
    assert known.of(["m", 1]) == [second, first]


@pytest.mark.parametrize("found", [Identity("new", "z", "x"), Identity("other", "y", NONE)])
def test_of_several_primaries_another_one_is_told_by_another_object(found: Identity) -> None:
    """Promoted, or one that has got the slot."""
    first, second = Identity("run", "x", NONE), Identity("other", "y", NONE)
    known = Identities({1: first, 2: second, 3: first})
    after = known.joined({1: found, 2: Identity("other", "y", NONE)})
    assert after is not known
    assert known.of([1]) == [first]
    assert (after.of([1]), after.of([2]), after.of([3])) == ([found], [second], [first])
