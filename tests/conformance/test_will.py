"""The Will Message [3.1.2.5, 3.1.3.2]."""

import time

import pytest

from broker.mqtt import Disconnect, Properties, Will
from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow
from tests.node.wire import WireClient, user_properties

DELAY_SECONDS = 1
LATE_SECONDS = 5.0
"""Deadlines are looked for once a second."""


def _watcher(flow: Flow) -> WireClient:
    """Subscribed to everything of the test, on the other half."""
    watcher = flow.far("watcher")
    watcher.subscribe(flow.name("#"), qos=2)
    return watcher


def _will(flow: Flow, payload: bytes = b"bye", *, retain: bool = False, delay: int = 0) -> Will:
    properties = Properties(will_delay_interval=delay) if delay else None
    return Will(flow.name("will"), payload, 1, retain, properties)


@v5("3.1.2-7", "3.1.2-8", "3.1.2-14")
@v3("3.1.2-8", "3.1.2-16")
def test_published_when_the_connection_is_lost(flow: Flow) -> None:
    """As a message that is not retained: who comes later does not get it."""
    watcher = _watcher(flow)
    flow.near("s", will=_will(flow)).close()
    message = watcher.message()
    assert (message.payload, message.qos, message.retain) == (b"bye", 1, False)
    late = flow.near("late")
    late.subscribe(flow.name("#"), qos=1)
    assert flow.until_mark(flow.near("publisher"), late) == []


@v5("3.1.2-15")
@v3("3.1.2-17")
def test_published_as_a_retained_message(flow: Flow) -> None:
    watcher = _watcher(flow)
    flow.near("s", will=_will(flow, retain=True)).close()
    assert watcher.message().payload == b"bye"
    late = flow.far("late")
    late.subscribe(flow.name("will"), qos=1)
    message = late.message()
    assert (message.payload, message.retain) == (b"bye", True)


@v5("3.1.2-9", "3.1.2-12")
@v3("3.1.2-9", "3.1.2-14")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_its_qos(flow: Flow, qos: int) -> None:
    watcher = _watcher(flow)
    flow.near("s", will=Will(flow.name("will"), b"bye", qos, False)).close()
    assert watcher.message().qos == qos


@v5("3.14.4-3", "3.1.2-8", "3.1.2-10")
@v3("3.14.4-3", "3.1.2-10", "3.1.2-8")
def test_discarded_by_disconnect(flow: Flow) -> None:
    """Of a session that ends, and of one that stays."""
    watcher = _watcher(flow)
    flow.near("a", will=_will(flow)).disconnect()
    flow.near("b", keeps=True, will=_will(flow)).disconnect()
    assert flow.until_mark(flow.near("publisher"), watcher) == []


@v3("3.1.2-12")
@v5("3.1.2-7")
def test_no_will_no_message(flow: Flow) -> None:
    """The will of an earlier connection of the session is not that of the next one."""
    watcher = _watcher(flow)
    with flow.near("s", keeps=True, will=_will(flow)):
        pass
    assert watcher.message().payload == b"bye"
    flow.near("s", keeps=True).close()
    flow.near("s", keeps=True).disconnect()
    assert flow.until_mark(flow.near("publisher"), watcher) == []


@v5("3.1.2-10")
@v3("3.1.2-10")
def test_published_once(flow: Flow) -> None:
    """Neither the next connection nor its end publishes it again."""
    watcher = _watcher(flow)
    flow.near("s", keeps=True, will=_will(flow)).close()
    assert watcher.message().payload == b"bye"
    for _ in range(2):
        flow.far("s", keeps=True).close()
    flow.near("s", keeps=True).disconnect()
    assert flow.until_mark(flow.near("publisher"), watcher) == []


@v5("3.1.2-8")
def test_disconnect_may_ask_for_it(flow: Flow) -> None:
    watcher = _watcher(flow)
    client = flow.near("s", will=_will(flow))
    client.send(Disconnect(0x04))
    assert watcher.message().payload == b"bye"


@v5("3.1.2-8")
def test_published_after_its_delay(flow: Flow) -> None:
    watcher = _watcher(flow)
    client = flow.near("s", keeps=True, will=_will(flow, delay=DELAY_SECONDS))
    lost = time.monotonic()
    client.close()
    assert watcher.message().payload == b"bye"
    assert DELAY_SECONDS <= time.monotonic() - lost < LATE_SECONDS


@v5("3.1.2-8")
def test_published_when_the_session_ends_first(flow: Flow) -> None:
    watcher = _watcher(flow)
    will = _will(flow, delay=60)
    lost = time.monotonic()
    flow.near("s", will=will, properties=Properties(session_expiry_interval=1)).close()
    assert watcher.message().payload == b"bye"
    assert 1.0 <= time.monotonic() - lost < LATE_SECONDS


@v5("3.1.3-9", "3.1.2-8")
def test_cancelled_by_a_new_connection_in_time(flow: Flow) -> None:
    watcher = _watcher(flow)
    flow.near("s", keeps=True, will=_will(flow, delay=DELAY_SECONDS)).close()
    flow.far("s", keeps=True)
    watcher.assert_silence(DELAY_SECONDS + 1.2)


@v5("3.1.3-10", "3.3.2-17", "3.3.2-18")
def test_order_of_its_user_properties(flow: Flow) -> None:
    watcher = _watcher(flow)
    pairs = (("b", "1"), ("a", "2"), ("b", "1"), ("", ""))
    will = Will(flow.name("will"), b"bye", 1, False, Properties(user_property=pairs))
    flow.near("s", will=will).close()
    assert user_properties([watcher.message()]) == [pairs]
