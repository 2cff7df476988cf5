"""Topic Names and Topic Filters [4.7]."""

import pytest

from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow

LONGEST = 65_535
FILTERS = {
    "a/b": ["a/b"],
    "a/+": ["a/b", "a/", "a/$b"],
    "+/b": ["a/b", "/b", "A/b"],
    "a/#": ["a", "a/b", "a/b/c", "a/", "a//c", "a/$b"],
    "+": ["a"],
    "a/+/c": ["a/b/c", "a//c"],
    "+/+": ["a/b", "a/", "/b", "/", "a/$b", "A/b"],
    "#": ["a", "a/b", "a/b/c", "a/", "/b", "a//c", "/", "//", "a/$b", "A/b"],
    "/": ["/"],
    "/+": ["/b", "/"],
    "+/": ["a/", "/"],
    "+/#": ["a", "a/b", "a/b/c", "a/", "/b", "a//c", "/", "//", "a/$b", "A/b"],
    "A/b": ["A/b"],
}
TOPICS = ["a", "a/b", "a/b/c", "a/", "/b", "a//c", "/", "//", "a/$b", "A/b"]


@v5("4.7.1-1", "4.7.1-2", "4.7.3-4", "4.7.3-1", "3.3.2-3")
@v3("4.7.1-2", "4.7.1-3", "4.7.3-4", "4.7.3-1", "3.3.2-3")
def test_what_a_filter_matches(flow: Flow) -> None:
    """Below a first level of the test's own; levels may be empty, and case counts."""
    subscriber = flow.far("subscriber")
    publisher = flow.near("publisher")
    subscriber.subscribe(flow.name("mark"), qos=1)
    for filter, wanted in FILTERS.items():
        subscriber.subscribe(flow.name(filter), qos=1)
        for topic in TOPICS:
            publisher.publish(flow.name(topic), b"x", 1)
        got = [message.topic for message in flow.until_mark(publisher, subscriber)]
        assert got == [flow.name(topic) for topic in TOPICS if topic in wanted], filter
        subscriber.unsubscribe(flow.name(filter))


@v5("4.7.2-1")
@v3("4.7.2-1")
@pytest.mark.parametrize("filter", ["#", "+/{}", "+/#"])
def test_leading_wildcard_spares_topics_of_the_server(flow: Flow, filter: str) -> None:
    """Neither what is published nor what is retained; and a filter that names the first level gets it."""
    subscriber = flow.far("subscriber")
    name = flow.name().replace("{", "").replace("}", "")
    subscriber.subscribe(filter.format(name), qos=1)
    named = flow.far("named")
    named.subscribe(f"$app/{name}", qos=1)
    publisher = flow.near("publisher")
    publisher.publish(f"$app/{name}", b"hidden", 1)
    publisher.publish(f"app/{name}", b"shown", 1)
    assert named.message().payload == b"hidden"
    while (message := subscriber.message()).topic != f"app/{name}":
        assert not message.topic.startswith("$")
    assert message.payload == b"shown"


@v5("4.7.3-4")
@v3("4.7.3-4")
def test_nothing_is_normalized(flow: Flow) -> None:
    """A letter with an accent, in two forms that look the same; spaces; a character without a meaning."""
    forms = ["é", "e\u0301", " é", "é ", "\u2126", "\u03a9", "\U0001f980", "\ue000"]
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("mark"), qos=1)
    publisher = flow.near("publisher")
    for form in forms:
        subscriber.subscribe(flow.name(form), qos=1)
        for other in forms:
            publisher.publish(flow.name(other), b"x", 1)
        (message,) = flow.until_mark(publisher, subscriber)
        assert message.topic == flow.name(form)
        subscriber.unsubscribe(flow.name(form))


@v5("4.7.3-3")
@v3("4.7.3-3")
def test_longest_topic(flow: Flow) -> None:
    """65,535 bytes fit; there is no way to say more."""
    topic = f"{flow.name()}/ä".ljust(LONGEST - 1, "x")
    assert len(topic.encode()) == LONGEST
    subscriber = flow.far("subscriber")
    assert subscriber.subscribe(topic, flow.name("mark"), qos=1).reason_codes == [1, 1]
    publisher = flow.near("publisher")
    publisher.publish(topic, b"x", 1)
    publisher.publish(topic[:-1], b"shorter", 1)
    (message,) = flow.until_mark(publisher, subscriber)
    assert (message.topic == topic, message.payload) == (True, b"x")
