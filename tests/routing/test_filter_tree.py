"""The tree of filters against the reference matcher."""

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.mqtt import is_valid_topic_filter, matches
from broker.routing.filter_tree import FilterTree

LEVELS = st.sampled_from(["a", "b", "", "$x", "ab"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)
FILTERS = (
    st.lists(st.one_of(LEVELS, st.sampled_from(["+", "+", "#"])), min_size=1, max_size=5)
    .map("/".join)
    .filter(is_valid_topic_filter)
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), FILTERS), max_size=30), st.lists(TOPICS, min_size=1, max_size=8))
def test_it_finds_the_filters_that_match(changes: list[tuple[bool, str]], topics: list[str]) -> None:
    tree = FilterTree()
    held: set[str] = set()
    for is_added, filter in changes:
        if is_added:
            tree.add(filter)
            held.add(filter)
        elif filter in held:
            tree.remove(filter)
            held.remove(filter)
        for topic in topics:
            found = tree.matching(topic)
            assert set(found) == {each for each in held if matches(each, topic)}
            assert len(found) == len(set(found))
    for filter in held:
        tree.remove(filter)
    assert tree.is_empty()
