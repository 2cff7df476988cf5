"""Every kind of violation is found, and what a broker may do is none."""

import pytest

from tests.cluster.checker import KINDS, check, excerpt, undelivered
from tests.cluster.record import Broken, Subscribing, message_of
from tests.cluster.tale import TOPIC, Tale, subscribed

EACH_QOS = pytest.mark.parametrize("qos", [1, 2])


def kinds(tale: Tale) -> list[str]:
    """What is wrong with it, in order."""
    return [violation.kind for violation in check(tale.events).found]


# Good histories


@EACH_QOS
def test_in_order(qos: int) -> None:
    tale = subscribed(qos)
    tale.done(range(1, 6))
    tale.drain()
    assert kinds(tale) == []


@EACH_QOS
def test_published_before_the_suback_is_not_owed(qos: int) -> None:
    tale = Tale(qos)
    tale.connect()
    tale.record.add(Subscribing(tale.now(), "s", TOPIC, 2))
    tale.publish(1)
    tale.subscribe()
    tale.acknowledge(1)
    tale.drain()
    assert kinds(tale) == []
    tale.deliver(1)
    assert kinds(tale) == []


def test_never_acknowledged_is_not_owed() -> None:
    tale = subscribed()
    tale.publish(1)
    tale.drain()
    assert kinds(tale) == []


def test_not_drained_is_not_owed() -> None:
    tale = subscribed()
    tale.drain()
    tale.publish(1)
    tale.acknowledge(1)
    assert kinds(tale) == []
    assert undelivered(tale.events) == [("s", tale.message(1))]


def test_acknowledged_after_unsubscribe_is_not_owed() -> None:
    tale = subscribed()
    tale.publish(1)
    tale.unsubscribe()
    tale.acknowledge(1)
    tale.drain()
    assert kinds(tale) == []


def test_a_direct_session_ends_with_its_connection() -> None:
    tale = subscribed(persistent=False)
    tale.publish(1)
    tale.acknowledge(1)
    tale.lose()
    tale.connect(persistent=False)
    tale.subscribe()
    tale.drain()
    assert kinds(tale) == []


def test_a_direct_session_that_is_new_may_get_a_message_again() -> None:
    tale = subscribed(2, persistent=False)
    tale.publish(1)
    tale.deliver(1)
    tale.lose()
    tale.connect(persistent=False)
    tale.subscribe()
    tale.publish(1, dup=True)
    tale.deliver(1)
    tale.acknowledge(1)
    tale.drain()
    assert kinds(tale) == []


def test_the_publisher_sends_again() -> None:
    tale = subscribed()
    tale.publish(1, 2, 3, 4)
    tale.publish(2, 3, 4, dup=True)
    tale.acknowledge(1, 2, 3, 4)
    tale.publish(5)
    tale.acknowledge(5)
    tale.deliver(1, 2, 3, 4, 2, 3, 4, 5)
    tale.drain()
    assert kinds(tale) == []


def test_the_broker_sends_again() -> None:
    tale = subscribed()
    tale.publish(1, 2, 3, 4)
    tale.acknowledge(1, 2, 3, 4)
    tale.deliver(1, 2, 3)
    tale.lose()
    tale.connect(present=True)
    tale.deliver(2, 3, dup=True)
    tale.deliver(4)
    tale.drain()
    assert kinds(tale) == []


def test_both_send_again() -> None:
    """The queue is 1 2 3 1 2 3 4; all but the first two is not acknowledged when the connection is lost."""
    tale = subscribed()
    tale.publish(1, 2, 3)
    tale.publish(1, 2, 3, dup=True)
    tale.acknowledge(1, 2, 3)
    tale.publish(4)
    tale.acknowledge(4)
    tale.deliver(1, 2, 3, 1, 2)
    tale.lose()
    tale.connect(present=True)
    tale.deliver(3, 1, 2, 3, 4)
    tale.drain()
    assert kinds(tale) == []


@EACH_QOS
def test_who_comes_between_two_messages_gets_the_first_one_when_it_is_sent_again(qos: int) -> None:
    tale = Tale(qos)
    tale.connect()
    tale.publish(1, 2)
    tale.subscribe()
    tale.publish(3)
    tale.deliver(3)
    tale.publish(1, 2, 3, dup=True)
    tale.deliver(1, 2)
    if qos == 1:
        tale.deliver(3, dup=True)
    tale.publish(4)
    tale.acknowledge(1, 2, 3, 4)
    tale.deliver(4)
    tale.drain()
    assert kinds(tale) == []


def test_an_attempt_without_an_answer_may_have_made_the_session() -> None:
    for present in (False, True):
        tale = Tale()
        tale.attempt()
        tale.connect(present=present)
        assert kinds(tale) == []


def test_qos0_is_owed_to_nobody() -> None:
    tale = Tale()
    tale.connect()
    tale.subscribe(qos=0)
    tale.publish(1, 2)
    tale.acknowledge(1, 2)
    tale.deliver(2, 2, qos=0)
    tale.drain()
    assert kinds(tale) == []


# Violations


@EACH_QOS
def test_lost(qos: int) -> None:
    tale = subscribed(qos)
    tale.done([1])
    tale.publish(2)
    tale.acknowledge(2)
    tale.done([3])
    tale.drain()
    assert kinds(tale) == ["lost"]
    (violation,) = check(tale.events).found
    assert violation.message == tale.message(2)
    assert check(tale.events).count("lost") == 1


def test_lost_over_a_resume() -> None:
    tale = subscribed()
    tale.lose()
    tale.publish(1)
    tale.acknowledge(1)
    tale.connect(present=True)
    tale.drain()
    assert kinds(tale) == ["lost"]


def test_lost_by_unsubscribe() -> None:
    tale = subscribed()
    tale.publish(1)
    tale.acknowledge(1)
    tale.unsubscribe()
    tale.drain()
    assert kinds(tale) == ["lost"]


def test_lost_by_a_direct_session_that_stays() -> None:
    tale = subscribed(persistent=False)
    tale.publish(1)
    tale.acknowledge(1)
    tale.drain()
    assert kinds(tale) == ["lost"]


def test_duplicate() -> None:
    tale = subscribed(2)
    tale.done([1, 2])
    tale.lose()
    tale.connect(present=True)
    tale.deliver(2)
    assert kinds(tale) == ["duplicate"]


@EACH_QOS
def test_reordered(qos: int) -> None:
    tale = subscribed(qos)
    tale.publish(1, 2, 3)
    tale.acknowledge(1, 2, 3)
    tale.deliver(1, 3, 2)
    tale.drain()
    assert kinds(tale) == ["reordered"]


@EACH_QOS
def test_reordered_though_sent_again(qos: int) -> None:
    """The subscriber was there all the time, so 1 had to come before 2."""
    tale = subscribed(qos)
    tale.publish(1, 2)
    tale.deliver(2)
    tale.publish(1, 2, dup=True)
    tale.deliver(1)
    assert kinds(tale) == ["reordered"]


@EACH_QOS
@pytest.mark.parametrize("is_sent_again", [False, True])
def test_reordered_for_who_comes_between(qos: int, is_sent_again: bool) -> None:
    """1 was not sent again at all, or not behind 2."""
    tale = Tale(qos)
    tale.connect()
    tale.publish(1)
    tale.subscribe()
    if is_sent_again:
        tale.publish(1, dup=True)
    tale.publish(2)
    tale.deliver(2, 1)
    assert kinds(tale) == ["reordered"]


def test_what_is_behind_a_late_message_does_not_come_again() -> None:
    tale = Tale()
    tale.connect()
    tale.publish(1)
    tale.subscribe()
    tale.publish(2)
    tale.deliver(2)
    tale.publish(1, 2, dup=True)
    tale.publish(3)
    tale.deliver(1, 3)
    assert kinds(tale) == ["repeated"]


def test_a_message_alone_is_repeated_too_late() -> None:
    """Someone routed 2 again when 3 had been routed long ago."""
    tale = subscribed()
    tale.publish(1, 2, 3)
    tale.acknowledge(1, 2, 3)
    tale.deliver(1, 2, 3, 2)
    assert kinds(tale) == []  # 3 may follow
    tale.publish(4)
    tale.deliver(4)
    assert kinds(tale) == ["repeated"]


def test_a_repetition_with_a_hole() -> None:
    tale = subscribed()
    tale.publish(1, 2, 3)
    tale.acknowledge(1, 2, 3)
    tale.deliver(1, 2, 3, 1, 3)
    assert kinds(tale) == ["repeated"]


def test_a_hole_on_a_new_connection() -> None:
    tale = subscribed()
    tale.publish(1, 2, 3, 4)
    tale.acknowledge(1, 2, 3, 4)
    tale.deliver(1, 2, 3, 1)
    tale.lose()
    tale.connect(present=True)
    tale.deliver(4)
    assert kinds(tale) == ["repeated"]


def test_unsubscribed() -> None:
    tale = subscribed()
    tale.done([1])
    tale.unsubscribe()
    tale.done([2])
    assert kinds(tale) == ["unsubscribed"]


def test_unsubscribed_and_drained() -> None:
    tale = subscribed()
    tale.publish(1)
    tale.unsubscribe()
    tale.drain()
    tale.deliver(1)
    tale.acknowledge(1)
    assert kinds(tale) == ["unsubscribed"]


def test_of_a_topic_that_nobody_asked_for() -> None:
    tale = subscribed()
    tale.publish(1, topic="other")
    tale.take(tale.message(1, "other"))
    assert kinds(tale) == ["unsubscribed"]


def test_acknowledged_before_subscribe() -> None:
    tale = Tale()
    tale.connect()
    tale.publish(1)
    tale.acknowledge(1)
    tale.subscribe()
    tale.deliver(1)
    assert kinds(tale) == ["unsubscribed"]


def test_never_published() -> None:
    tale = subscribed()
    tale.deliver(1)
    assert kinds(tale) == ["protocol"]


def test_broken() -> None:
    tale = subscribed()
    tale.record.add(Broken(tale.now(), "s", "shouted"))
    assert kinds(tale) == ["protocol"]


def test_session_lost() -> None:
    tale = subscribed()
    tale.lose()
    tale.connect(present=False)
    assert kinds(tale) == ["session"]


@pytest.mark.parametrize("persistent", [False, True])
def test_a_session_from_nowhere(persistent: bool) -> None:
    tale = Tale()
    tale.connect(present=True, persistent=persistent)
    assert kinds(tale)[:1] == ["session"]


# Wills


def doomed(qos: int = 1) -> Tale:
    """The subscriber is there, and then a client with a will."""
    tale = subscribed(qos)
    tale.will()
    tale.connect("w")
    return tale


@EACH_QOS
def test_will(qos: int) -> None:
    tale = doomed(qos)
    tale.lose("w")
    assert len(undelivered(tale.events)) == 1
    tale.take(tale.will())
    tale.drain()
    assert kinds(tale) == []


def test_will_that_never_comes() -> None:
    tale = doomed()
    tale.lose("w")
    tale.drain()
    assert kinds(tale) == ["will"]


def test_will_of_a_connection_that_is_there_is_not_owed() -> None:
    tale = doomed()
    tale.drain()
    assert kinds(tale) == []


@EACH_QOS
def test_will_twice(qos: int) -> None:
    tale = doomed(qos)
    tale.lose("w")
    for _ in range(2):
        tale.take(tale.will())
    assert kinds(tale) == ["will"]


def test_will_sent_again() -> None:
    for dup, found in ((True, []), (False, ["will"])):
        tale = doomed()
        tale.lose("w")
        tale.take(tale.will())
        tale.lose()
        tale.connect(present=True)
        tale.take(tale.will(), dup=dup)
        assert kinds(tale) == found


def test_several_wills_sent_again() -> None:
    tale = doomed()
    tale.lose("w")
    wills = [tale.will(1), tale.will(2)]
    tale.connect("w", present=True)
    tale.lose("w")
    for will in wills:
        tale.take(will)
    tale.lose()
    tale.connect(present=True)
    for will in wills:
        tale.take(will, dup=True)
    assert kinds(tale) == []


def test_will_after_disconnect() -> None:
    tale = doomed()
    tale.leave("w")
    tale.drain()
    assert kinds(tale) == []
    tale.take(tale.will())
    assert kinds(tale) == ["will"]


@pytest.mark.parametrize(("node", "found"), [("a", []), ("", []), ("b", ["will"])])
def test_will_after_a_disconnect_that_may_not_have_counted(node: str, found: list[str]) -> None:
    tale = doomed()
    tale.leave("w")
    tale.began("kill", node)
    tale.take(tale.will())
    tale.ended("kill", node)
    assert kinds(tale) == found


@pytest.mark.parametrize("is_sent", [False, True])
def test_will_after_a_disconnect_that_was_not_confirmed(is_sent: bool) -> None:
    tale = doomed()
    tale.leave("w", is_confirmed=False)
    if is_sent:
        tale.take(tale.will())
    tale.drain()
    assert kinds(tale) == []


def test_will_of_a_connection_that_was_never_accepted() -> None:
    for is_sent in (False, True):
        tale = subscribed()
        will = tale.will()
        tale.attempt("w")
        if is_sent:
            tale.take(will)
        tale.drain()
        assert kinds(tale) == []


# For people


def test_kinds_are_complete() -> None:
    """All tests here together find each kind; this says that there are no others."""
    assert set(KINDS) == {
        *("lost", "duplicate", "reordered", "repeated", "unsubscribed", "will", "session", "protocol"),
    }


def test_excerpt() -> None:
    tale = subscribed(2)
    tale.done(range(1, 200))
    tale.began("kill", "a")
    tale.deliver(150)
    tale.done(range(200, 400))
    (violation,) = check(tale.events).found
    lines = excerpt(tale.events, violation).splitlines()
    assert lines[0] == "duplicate: s: 150 of p on t at QoS 2 came twice"
    assert len(lines) <= 81
    (marked,) = [line for line in lines if line.startswith(">")]
    assert "Delivered" in marked
    assert any("FaultBegan" in line and "kill" in line for line in lines)
    assert sum("sequence" in line or "150 of p" in line for line in lines) >= 3


def test_payload_names_the_message() -> None:
    message = Tale(2).message(7)
    assert message_of(message.topic, message.payload()) == message
