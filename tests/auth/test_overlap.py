"""Which filter comes first, against a search through all short topics."""

from collections.abc import Sequence
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.auth.overlap import NONE, TooManyStates, first_matches
from broker.mqtt import is_valid_topic_filter, matches

NAMES = ("", "a", "b", "$s", "c", "$t")  # filters name the first four; the others stand for all the rest
DEPTH = 4
TOPICS = [
    topic
    for depth in range(1, DEPTH + 1)
    for names in product(NAMES, repeat=depth)
    if (topic := "/".join(names))
]
LEVEL = st.sampled_from(["", "a", "b", "$s", "+", "+"])


def overlaps(first: str, second: str) -> bool:
    """Whether some topic is matched by both."""
    return 0 in first_matches(first, [second])


def contains(outer: str, inner: str) -> bool:
    """Whether `outer` matches every topic that `inner` does."""
    return NONE not in first_matches(inner, [outer])


@st.composite
def filters(draw: st.DrawFn) -> str:
    """Of at most three levels: what sets two of them apart shows in a topic of four."""
    levels = draw(st.lists(LEVEL, min_size=0, max_size=3))
    if not levels or (len(levels) < 3 and draw(st.booleans())):
        levels.append("#")
    filter = "/".join(levels)
    return filter if is_valid_topic_filter(filter) else "#"


@cache
def _topics(filter: str) -> frozenset[str]:
    return frozenset(topic for topic in TOPICS if matches(filter, topic))


def _by_force(filter: str, others: Sequence[str]) -> set[int]:
    return {
        next((number for number, other in enumerate(others) if topic in _topics(other)), NONE)
        for topic in _topics(filter)
    }


@given(filters(), st.lists(filters(), max_size=5))
@settings(max_examples=250, deadline=None)
def test_as_a_search_by_force_finds_it(filter: str, others: list[str]) -> None:
    assert set(first_matches(filter, others)) == _by_force(filter, others)


@given(filters(), filters())
@settings(max_examples=100, deadline=None)
def test_overlap_and_containment_by_force(first: str, second: str) -> None:
    assert overlaps(first, second) == bool(_topics(first) & _topics(second))
    assert contains(first, second) == (_topics(second) <= _topics(first))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a/+/c", "+/b/+", True),
        ("a/#", "a", True),
        ("#", "$SYS/#", False),
        ("+/b", "$SYS/b", False),
        ("$SYS/#", "$SYS/broker/+", True),
        ("a/+", "a", False),
        ("a/+/#", "a", False),
        ("+", "/", False),
        ("+/+", "/", True),
    ],
)
def test_overlaps(first: str, second: str, expected: bool) -> None:
    assert overlaps(first, second) is expected
    assert overlaps(second, first) is expected


def test_several_together_contain_what_none_does_alone() -> None:
    """`+` and `+/#` are all of `#`, but for nothing that begins with `$`, which `#` doesn't match either."""
    assert set(first_matches("#", ["+", "+/#"])) == {0, 1}
    assert set(first_matches("a/#", ["a", "a/+", "a/+/#"])) == {0, 1, 2}
    assert NONE in set(first_matches("a/#", ["a", "a/+", "a/b/#"]))


def test_a_thousand_rules_are_looked_through() -> None:
    others = [f"tenant/{number}/+/state" for number in range(1000)]
    assert set(first_matches("tenant/+/+/+", others)) == {NONE, *range(1000)}
    assert set(first_matches("tenant/7/#", [*others, "#"])) == {7, 1000}


def test_too_entangled_filters_are_given_up() -> None:
    depth = 24
    others = ["/".join("x" if level == number else "+" for level in range(depth)) for number in range(depth)]
    with pytest.raises(TooManyStates):
        list(first_matches("#", ["/".join("+" * depth) + "/y/#", *others]))
