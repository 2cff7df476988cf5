"""How a primary is known again."""

import pytest

from cluster.store.identity import Identity

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
