"""What is measured from a record."""

import pytest

from tests.cluster.tale import Tale, subscribed
from tests.cluster.timing import percentile, timings


def test_fail_over() -> None:
    """The clock of the tale moves by 0.1 s with each event."""
    tale = subscribed()
    tale.connect("far", node="b")
    tale.publish(1, 2)
    tale.began("kill the node", "a")
    tale.lose()
    tale.connect(present=True, node="b")
    tale.acknowledge(1)
    tale.deliver(1, 2)
    found = timings(tale.events)
    assert found.fail_over == [pytest.approx(0.5)]
    assert found.connack == [pytest.approx(0.1)]
    assert found.resumed == [pytest.approx(0.3)]
    assert found.takeover == []


def test_nothing_is_measured_without_a_kill() -> None:
    tale = subscribed()
    tale.publish(1)
    tale.began("slow Redis", "a")
    tale.lose()
    tale.connect(present=True)
    tale.deliver(1)
    assert timings(tale.events).fail_over == []


def test_a_message_that_was_not_waiting_is_not_measured() -> None:
    tale = subscribed()
    tale.began("kill the node", "a")
    tale.lose()
    tale.connect(present=True, node="b")
    tale.publish(1)
    tale.deliver(1)
    assert (timings(tale.events).fail_over, timings(tale.events).resumed) == ([], [])


@pytest.mark.parametrize("node", ["", "b"])
def test_what_is_struck_again_is_not_measured(node: str) -> None:
    """By Redis, or on the node that the client has gone to."""
    tale = subscribed()
    tale.publish(1)
    tale.began("kill the node", "a")
    tale.lose()
    tale.connect(present=True, node="b")
    tale.began("something", node)
    tale.deliver(1)
    assert timings(tale.events).fail_over == []


def test_who_loses_its_connection_again_is_not_measured() -> None:
    tale = subscribed()
    tale.publish(1)
    tale.began("kill the node", "a")
    for _ in range(2):
        tale.lose()
        tale.connect(present=True, node="b")
    tale.deliver(1)
    found = timings(tale.events)
    assert (found.fail_over, len(found.connack)) == ([], 1)


def test_takeover() -> None:
    tale = Tale()
    tale.connect()
    tale.lose()
    tale.connect(present=True, why="takeover")
    assert timings(tale.events).takeover == [pytest.approx(0.1)]


@pytest.mark.parametrize(("node", "count"), [("a", 0), ("", 0), ("b", 1)])
def test_a_takeover_that_meets_a_fault_is_not_measured(node: str, count: int) -> None:
    tale = Tale()
    tale.connect()
    tale.began("slow", node)
    tale.lose()
    tale.connect(present=True, why="takeover")
    assert len(timings(tale.events).takeover) == count
    tale.ended("slow", node)
    tale.lose()
    tale.connect(present=True, why="takeover")
    assert len(timings(tale.events).takeover) == count + 1


def test_percentile() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(number) for number in range(100)], 0.99) == 99.0
