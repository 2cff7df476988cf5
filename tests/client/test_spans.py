"""Which messages have spans: those with a context that can be read and is sampled."""

import pytest

from broker.client.spans import Context, context_of, new_span_id
from broker.mqtt import Properties, Publish

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def publish(*pairs: tuple[str, str]) -> Publish:
    return Publish("t", b"", 0, False, False, 0, Properties(user_property=pairs))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-02",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f" {GOOD}",
        f"{GOOD}\n",
    ],
)
def test_what_is_ignored(value: str) -> None:
    assert context_of(publish(("traceparent", value))) is None


def test_what_counts() -> None:
    assert context_of(publish(("traceparent", GOOD))) == Context(TRACE, SPAN, "")
    assert context_of(publish(("traceparent", f"cc-{TRACE}-{SPAN}-09-more"))) == Context(TRACE, SPAN, "")
    with_state = publish(("a", "b"), ("tracestate", "x=1"), ("traceparent", GOOD), ("tracestate", "y=2"))
    assert context_of(with_state) == Context(TRACE, SPAN, "x=1,y=2")
    assert context_of(publish(("traceparent", GOOD), ("tracestate", "x" * 513))) == Context(TRACE, SPAN, "")


def test_there_is_one_or_none() -> None:
    assert context_of(Publish("t", b"", 0, False, False, 0)) is None
    assert context_of(Publish("t", b"", 0, False, False, 0, Properties())) is None
    assert context_of(publish(("Traceparent", GOOD))) is None
    assert context_of(publish(("traceparent", GOOD), ("traceparent", GOOD))) is None


def test_ids_are_as_they_should_be() -> None:
    ids = {new_span_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 16 and int(each, 16) for each in ids)
