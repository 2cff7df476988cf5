"""Topic Names, Topic Filters, Shared Subscriptions, and what matches what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import (
    InvalidTopicFilter,
    has_wildcards,
    is_exclusive,
    is_shared,
    is_valid_topic_filter,
    is_valid_topic_name,
    levels,
    matches,
    parse_filter,
    without_exclusive,
)
from broker.mqtt.topic import has_valid_wildcards


@pytest.mark.parametrize(
    "topic", ["a", "/", "a/b", "/a", "a/", "a//b", " ", "$SYS/x", "é", "\ufeff", "x" * 65_535]
)
def test_topic_names(topic: str) -> None:
    assert is_valid_topic_name(topic)


@pytest.mark.parametrize("topic", ["", "#", "a/+", "a+b", "a\0b", "x" * 65_536, "é" * 32_768])
def test_what_is_no_topic_name(topic: str) -> None:
    """[MQTT-4.7.3-1], [MQTT-4.7.0-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3]"""
    assert not is_valid_topic_name(topic)


def test_a_name_is_measured_in_bytes() -> None:
    assert is_valid_topic_name("é" * 32_767)
    assert not is_valid_topic_name("\U0001f600" * 16_384)


def test_maximum_levels() -> None:
    assert is_valid_topic_name("a/b/c", 3)
    assert not is_valid_topic_name("a/b/c", 2)
    assert is_valid_topic_filter("a/+/#", 3)
    assert is_valid_topic_filter("$share/g/a/b", 2)
    assert not is_valid_topic_filter("a/b/#", 2)


@pytest.mark.parametrize(
    "filter", ["#", "+", "a/#", "+/a", "a/+/b", "+/+", "/+", "/#", "+/#", "a", "/", "a//#", "$SYS/#"]
)
def test_topic_filters(filter: str) -> None:
    assert parse_filter(filter) == (None, filter)
    assert is_valid_topic_filter(filter)
    assert has_valid_wildcards(filter)


@pytest.mark.parametrize(
    "filter", ["", "a#", "#/a", "a/#/b", "##", "a/b#", "a+", "+a", "a/+b/c", "a/++", "#+"]
)
def test_wildcards_in_the_wrong_place(filter: str) -> None:
    """[MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1]"""
    assert not is_valid_topic_filter(filter)
    assert not has_valid_wildcards(filter)


@pytest.mark.parametrize("filter", ["a\0", "x" * 65_536])
def test_filters_that_no_packet_can_carry(filter: str) -> None:
    assert not is_valid_topic_filter(filter)


@pytest.mark.parametrize(
    ("filter", "group", "matched"),
    [
        ("$share/g/a", "g", "a"),
        ("$share/g/a/+/#", "g", "a/+/#"),
        ("$share/g//", "g", "/"),
        ("$share/ü/#", "ü", "#"),
        ("$share", None, "$share"),
        ("$shared/g/a", None, "$shared/g/a"),
    ],
)
def test_share_names(filter: str, group: str | None, matched: str) -> None:
    """[MQTT-4.8.2-1], [MQTT-4.8.2-2]"""
    assert parse_filter(filter) == (group, matched)


@pytest.mark.parametrize(
    "filter", ["$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/a#/b", "$share/g/a#"]
)
def test_invalid_shared_filters(filter: str) -> None:
    with pytest.raises(InvalidTopicFilter):
        parse_filter(filter)


def test_levels_and_wildcards() -> None:
    assert levels("/a//b") == ["", "a", "", "b"]
    assert has_wildcards("a/+")
    assert has_wildcards("#")
    assert not has_wildcards("a/b")


@pytest.mark.parametrize(
    ("filter", "topic"),
    [
        ("#", "a/b"),
        ("#", "/"),
        ("a/#", "a"),
        ("a/#", "a/b/c"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("a/+", "a/b"),
        ("a/+", "a/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("+", "finance"),
        ("a/+/c", "a/b/c"),
        ("a/+/#", "a/b"),
        ("$SYS/#", "$SYS/x"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("a/$b", "a/$b"),
        ("a/+", "a/$b"),
        ("a", "a"),
    ],
)
def test_matches(filter: str, topic: str) -> None:
    assert matches(filter, topic)


@pytest.mark.parametrize(
    ("filter", "topic"),
    [
        ("a", "A"),
        ("a", "a/"),
        ("a", "/a"),
        ("a/b", "a"),
        ("a", "a/b"),
        ("+", "/finance"),
        ("a/+", "a"),
        ("a/+", "a/b/c"),
        ("a/+/#", "a"),
        ("a/b/#", "a"),
        ("#", "$SYS/x"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("+/#", "$SYS/x"),
        ("#", "$share"),
    ],
)
def test_does_not_match(filter: str, topic: str) -> None:
    """[MQTT-4.7.2-1], [MQTT-4.7.3-4]"""
    assert not matches(filter, topic)


@given(st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=5), st.data())
def test_a_topic_matches_itself_with_levels_replaced(given_levels: list[str], data: st.DataObject) -> None:
    topic = "/".join(given_levels)
    if not topic:
        return
    wanted = [data.draw(st.sampled_from([level, "+"])) for level in given_levels]
    keep = data.draw(st.integers(0, len(wanted)))
    filter = "/".join(data.draw(st.sampled_from([wanted, [*wanted[:keep], "#"]])))
    assert is_valid_topic_filter(filter) or not filter
    assert matches(filter, topic) == (not topic.startswith("$") or filter[0] not in "+#")


def test_shared_filters_are_told_by_their_beginning() -> None:
    assert is_shared("$share/g/t")
    assert not is_shared("t/$share/g")


def test_exclusive_filters_are_told_by_their_beginning() -> None:
    assert is_exclusive("$exclusive/t/+")
    assert not is_exclusive("t/$exclusive/")
    assert without_exclusive("$exclusive/t/+") == "t/+"
    assert without_exclusive("t") == "t"
