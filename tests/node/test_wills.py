"""Will Messages: when they are sent, when not, and exactly once."""

import time
from pathlib import Path

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Disconnect, Properties, ReasonCode, Will
from tests.node.conftest import Clients
from tests.node.harness import running_node
from tests.node.model import Subscriber
from tests.node.wire import HOUR, WireClient, connected

LIVES = pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
SOON_SECONDS = 0.5
LATE_SECONDS = 4.0  # deadlines are looked for once a second


def _will(topic: str, payload: bytes = b"gone", delay: int = 0, qos: int = 1, retain: bool = False) -> Will:
    return Will(topic, payload, qos, retain, Properties(will_delay_interval=delay) if delay else None)


def _session(expiry: int) -> Properties:
    return Properties(session_expiry_interval=expiry)


@LIVES
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_lost_connection(client: Clients, name: str, expiry: int, qos: int) -> None:
    """[MQTT-3.1.2-8]"""
    watcher = client("watcher")
    watcher.subscribe(name, qos=2)
    client("doomed", will=_will(name, qos=qos), properties=_session(expiry)).close()
    publish = watcher.message()
    assert (publish.payload, publish.qos, publish.retain) == (b"gone", qos, False)
    watcher.assert_silence(SOON_SECONDS)


@LIVES
def test_cancelled_by_disconnect(client: Clients, name: str, expiry: int) -> None:
    """[MQTT-3.1.2-10], [MQTT-3.14.4-3]"""
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    client("five", will=_will(name), properties=_session(expiry)).disconnect()
    client("four", MQTT_3_1_1, clean_start=not expiry, will=_will(name)).disconnect()
    watcher.assert_silence(SOON_SECONDS)


@LIVES
def test_disconnect_with_will(client: Clients, name: str, expiry: int) -> None:
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    client("doomed", will=_will(name), properties=_session(expiry)).disconnect(
        ReasonCode.DISCONNECT_WITH_WILL_MESSAGE
    )
    assert watcher.message().payload == b"gone"


def test_protocol_error_sends_the_will(client: Clients, name: str) -> None:
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    client("doomed", will=_will(name)).send_bytes(b"\xff\xff")
    assert watcher.message().payload == b"gone"


def test_keep_alive_timeout_sends_the_will(client: Clients, name: str) -> None:
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    client("doomed", will=_will(name), keep_alive=1)
    assert watcher.message().payload == b"gone"


@LIVES
def test_retained_will(client: Clients, name: str, expiry: int) -> None:
    """[MQTT-3.1.2-15]; it is there for those who come later."""
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    client("doomed", will=_will(name, retain=True), properties=_session(expiry)).close()
    assert watcher.message().retain is False
    late = client("late")
    late.subscribe(name, qos=1)
    publish = late.message()
    assert (publish.payload, publish.retain) == (b"gone", True)


def test_properties_of_the_will(client: Clients, name: str) -> None:
    sent = Properties(
        payload_format_indicator=1,
        content_type="text",
        response_topic="r",
        correlation_data=b"\x01",
        user_property=(("b", "1"), ("a", "2"), ("b", "1")),
    )
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    client("doomed", will=Will(name, b"gone", 1, False, sent)).close()
    assert watcher.message().properties == sent


def test_expiry_counts_from_the_sending(client: Clients, name: str) -> None:
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    will = Will(name, b"gone", 1, False, Properties(message_expiry_interval=60))
    doomed = client("doomed", will=will)
    time.sleep(1.1)
    doomed.close()
    properties = watcher.message().properties
    assert properties is not None
    assert properties.message_expiry_interval == 60


def test_delay(client: Clients, name: str) -> None:
    """[MQTT-3.1.3-9]: sent after the delay, not before."""
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    doomed = client("doomed", will=_will(name, delay=1), properties=HOUR)
    lost = time.monotonic()
    doomed.close()
    assert watcher.message().payload == b"gone"
    assert 1.0 <= time.monotonic() - lost < LATE_SECONDS
    watcher.assert_silence(SOON_SECONDS)


def test_delay_ends_with_the_session(client: Clients, name: str) -> None:
    """The will is sent when the session ends, if that is sooner [3.1.3.2.2]."""
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    lost = time.monotonic()
    client("doomed", will=_will(name, delay=60), properties=_session(1)).close()
    assert watcher.message().payload == b"gone"
    assert 1.0 <= time.monotonic() - lost < LATE_SECONDS
    client("direct", will=_will(name, b"at once", delay=60)).close()
    assert watcher.message().payload == b"at once"


def test_delayed_will_is_cancelled_by_the_next_connection(client: Clients, name: str) -> None:
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    client("back", will=_will(name, delay=1), properties=HOUR).close()
    client("back", clean_start=False, properties=HOUR)
    watcher.assert_silence(LATE_SECONDS)


def test_clean_start_ends_the_session_and_sends_its_will(client: Clients, name: str) -> None:
    """A new session does not take the old one's will away, though its delay has not passed."""
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    client("same", will=_will(name, delay=60), properties=HOUR).close()
    watcher.assert_silence()
    client("same", clean_start=True, properties=HOUR)
    assert watcher.message().payload == b"gone"
    watcher.assert_silence(SOON_SECONDS)


@LIVES
@pytest.mark.parametrize("delay", [0, 60])
def test_takeover(client: Clients, name: str, expiry: int, delay: int) -> None:
    """The old connection's will is sent at a takeover, before anything of the new one; with a delay and a
    session that goes on it is not [3.1.4 of MQTT 5]."""
    watcher = client("watcher")
    watcher.subscribe(f"{name}/#", qos=1)
    old = client("same", will=_will(f"{name}/will", delay=delay), properties=_session(expiry))
    new = client("same", clean_start=False, properties=_session(expiry))
    assert old.wait_refused() == ReasonCode.SESSION_TAKEN_OVER
    new.publish(f"{name}/new", b"new", 1)
    expected = [b"new"] if delay and expiry else [b"gone", b"new"]
    assert watcher.payloads(len(expected)) == expected
    watcher.assert_silence(SOON_SECONDS)


def test_will_of_the_current_connection_counts(client: Clients, name: str) -> None:
    """A connection without a will takes none over from the one before."""
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    client("same", will=_will(name, b"first"), properties=HOUR).disconnect()
    client("same", clean_start=False, will=_will(name, b"second"), properties=HOUR).close()
    assert watcher.message().payload == b"second"
    client("same", clean_start=False, properties=HOUR).close()
    watcher.assert_silence(SOON_SECONDS)


@pytest.mark.parametrize("watching", [0, 3600], ids=["direct", "stored"])
def test_who_comes_back_at_once_sends_its_will_once(client: Clients, name: str, watching: int) -> None:
    """The next claim of a session finds its will still on the way, and must not send it a second time."""
    watcher = client("watcher", properties=_session(watching))
    watcher.subscribe(name, qos=2)
    rounds = [b"%d" % number for number in range(30)]
    for payload in rounds:
        client("same", clean_start=False, will=_will(name, payload, qos=2), properties=HOUR).close()
    client("same", clean_start=False, properties=HOUR).disconnect()
    received = watcher.payloads(len(rounds))
    watcher.assert_silence(SOON_SECONDS)
    assert received == rounds


def test_will_to_a_stored_session(client: Clients, name: str) -> None:
    with client("away", properties=HOUR) as away:
        away.subscribe(name, qos=2)
    for version in (MQTT_3_1_1, MQTT_5):
        client("doomed", version, will=_will(name, b"%d" % version, qos=2)).close()
        time.sleep(0.2)
    away = client("away", clean_start=False, properties=HOUR)
    assert away.payloads(2) == [b"4", b"5"]
    away.assert_silence(SOON_SECONDS)


def test_own_will_reaches_the_stored_session(client: Clients, name: str) -> None:
    with client("own", will=_will(name), properties=HOUR) as own:
        own.subscribe(name, qos=1)
    again = client("own", clean_start=False, properties=HOUR)
    assert again.message().payload == b"gone"


def test_delayed_will_outlives_the_node(tmp_path: Path) -> None:
    """Sent once, by the node that comes after it."""
    with running_node(tmp_path) as node:
        with connected(node.port, "away", properties=HOUR) as away:
            away.subscribe("w", qos=1)
        connected(node.port, "doomed", will=_will("w", delay=2), properties=HOUR).close()
        time.sleep(0.2)
        node.restart()
        with WireClient(node.port) as away:
            away.connect("away", clean_start=False, properties=HOUR)
            assert away.message().payload == b"gone"
            away.assert_silence(SOON_SECONDS)
        node.restart()
        with WireClient(node.port) as away:
            away.connect("away", clean_start=False, properties=HOUR)
            away.assert_silence(2.0)


@pytest.mark.timeout(40)  # a will that was leased by the node that died is looked at again after 10 s
@pytest.mark.parametrize("delay_ms", [0, 1, 3, 8])
def test_wills_once_over_a_kill(tmp_path: Path, delay_ms: int) -> None:
    """The node dies while it sends the wills of clients that it has just lost: each comes exactly once."""
    count = 40
    with running_node(tmp_path) as node, Subscriber(node, "watcher") as watcher:
        watcher.subscribe("w/#", 2)
        watcher.lose()
        doomed = [
            connected(
                node.port, f"d{number}", will=_will(f"w/{number}", b"%d" % number, qos=2), properties=HOUR
            )
            for number in range(count)
        ]
        for client in doomed:
            client.close()
        time.sleep(delay_ms / 1000)
        node.kill_all()
        node.start()
        watcher.receive(count)
        watcher.receive_no_more()
        assert sorted(watcher.received, key=int) == [b"%d" % number for number in range(count)]


def test_stopping_node_sends_no_delayed_will(tmp_path: Path) -> None:
    """A restart of the node is no end of a client that comes back in time."""
    with running_node(tmp_path) as node:
        with connected(node.port, "watcher", properties=HOUR) as watcher:
            watcher.subscribe("w", qos=1)
            doomed = connected(node.port, "doomed", will=_will("w", delay=10), properties=HOUR)
            assert node.stop() == 0
            assert isinstance(doomed.wait_closed()[-1], Disconnect)
            doomed.close()
        node.start()
        with WireClient(node.port) as back, WireClient(node.port) as watcher:
            assert back.connect("doomed", clean_start=False, properties=HOUR).session_present
            watcher.connect("watcher", clean_start=False, properties=HOUR)
            watcher.assert_silence(SOON_SECONDS)
            back.disconnect()
            watcher.assert_silence(SOON_SECONDS)
