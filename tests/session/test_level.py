"""Durability levels: what is stronger than what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.session import STORED, is_fsynced, level_name, make_level, replicas_of, stronger

LEVELS = st.builds(make_level, st.integers(0, 10), st.booleans())


@pytest.mark.parametrize(
    ("replicas", "fsynced", "name"),
    [
        (0, False, "stored"),
        (1, False, "replicated(1)"),
        (0, True, "fsynced"),
        (3, True, "fsynced+replicated(3)"),
    ],
)
def test_a_level_says_what_it_asks_for(replicas: int, fsynced: bool, name: str) -> None:
    level = make_level(replicas, fsynced)
    assert (replicas_of(level), is_fsynced(level), level_name(level)) == (replicas, fsynced, name)


def test_stored_is_the_least() -> None:
    assert make_level(0, False) == STORED


@given(LEVELS, LEVELS)
def test_the_stronger_of_two_asks_for_all_that_both_do(one: int, other: int) -> None:
    both = stronger(one, other)
    assert replicas_of(both) == max(replicas_of(one), replicas_of(other))
    assert is_fsynced(both) == (is_fsynced(one) or is_fsynced(other))
    assert stronger(both, one) == both == stronger(STORED, both)
