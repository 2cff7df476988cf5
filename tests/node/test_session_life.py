"""From CONNECT to the end of the session: what is kept, how long, and what the client is told."""

import time
from pathlib import Path

import pytest

from broker.mqtt import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Properties,
    ReasonCode,
)
from tests.node.conftest import Clients
from tests.node.harness import running_node
from tests.node.wire import HOUR, NEVER, WireClient, connected

EXPIRED_SECONDS = 2.5
IDENTIFIER_REJECTED_311 = 2


def test_announced_to_the_client(client: Clients) -> None:
    raw = client.raw()
    connack = raw.connect(client.id_of("c"), properties=Properties(session_expiry_interval=NEVER))
    properties = connack.properties
    assert properties is not None
    assert properties.receive_maximum == 1000
    assert properties.maximum_packet_size == 1_048_576
    assert properties.topic_alias_maximum == 32
    assert properties.shared_subscription_available is None  # it is
    assert properties.session_expiry_interval == 30 * 86_400, "less than asked for must be said [3.2.2.3.2]"
    assert properties.assigned_client_identifier is None
    assert properties.maximum_qos is None
    assert properties.retain_available is None


def test_assigned_client_identifier(client: Clients) -> None:
    """[MQTT-3.2.2-16], [MQTT-3.1.3-6]; it can be used to come back."""
    names = set()
    for _ in range(3):
        raw = client.raw()
        connack = raw.connect("", properties=HOUR)
        assert connack.properties is not None
        assigned = connack.properties.assigned_client_identifier
        assert assigned
        names.add(assigned)
        raw.close()
        assert client.raw().connect(assigned, clean_start=False, properties=HOUR).session_present
    assert len(names) == 3


def test_no_identifier_of_311(client: Clients) -> None:
    assert client.raw(MQTT_3_1_1).connect("").reason_code == 0
    raw = client.raw(MQTT_3_1_1)
    raw.send(Connect("", MQTT_3_1_1, False, 0))
    assert raw.expect(Connack).reason_code == IDENTIFIER_REJECTED_311
    assert raw.wait_closed() == []


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_session_present(client: Clients, version: int) -> None:
    """[MQTT-3.2.2-2], [MQTT-3.2.2-3]"""
    properties = HOUR if version == MQTT_5 else None
    for clean_start, present in ((False, False), (False, True), (True, False), (False, version == MQTT_5)):
        with client.raw(version) as raw:
            connack = raw.connect(client.id_of("c"), clean_start=clean_start, properties=properties)
            assert connack.session_present == present, (clean_start, present)


def test_clean_start_wipes(client: Clients, name: str) -> None:
    """[MQTT-3.1.2-4]: subscriptions, queue and handshakes are gone."""
    with client("s", properties=HOUR) as stored:
        stored.subscribe(name, qos=1)
    publisher = client("publisher")
    assert publisher.publish(name, b"queued", 1) == 0
    fresh = client("s", clean_start=True, properties=HOUR)
    fresh.assert_silence(0.3)
    assert publisher.publish(name, b"nobody", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
    assert fresh.unsubscribe(name).reason_codes == [ReasonCode.NO_SUBSCRIPTION_EXISTED]


def test_expiry_0_ends_with_the_connection(client: Clients, name: str) -> None:
    with client("s") as direct:
        direct.subscribe(name, qos=1)
        direct.ping()
    publisher = client("publisher")
    deadline = time.monotonic() + 2.0
    while publisher.publish(name, b"", 1) != ReasonCode.NO_MATCHING_SUBSCRIBERS:
        assert time.monotonic() < deadline
    raw = client.raw()
    assert not raw.connect(client.id_of("s"), clean_start=False).session_present


def test_expiry_after_some_seconds(client: Clients, name: str) -> None:
    """[MQTT-4.1.0-2]: there until then, gone afterwards, also for publishers."""
    second = Properties(session_expiry_interval=1)
    with client("s", properties=second) as stored:
        stored.subscribe(name, qos=1)
    raw = client.raw()
    assert raw.connect(client.id_of("s"), clean_start=False, properties=second).session_present
    raw.close()
    publisher = client("publisher")
    assert publisher.publish(name, b"", 1) == 0
    time.sleep(EXPIRED_SECONDS)
    assert publisher.publish(name, b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
    raw = client.raw()
    assert not raw.connect(client.id_of("s"), clean_start=False, properties=second).session_present


def test_expired_session_is_not_resumed_even_at_once(client: Clients) -> None:
    """Whoever looks first decides by the deadline, not by whether a janitor has come along."""
    second = Properties(session_expiry_interval=1)
    with client("s", properties=second):
        pass
    time.sleep(1.05)
    raw = client.raw()
    assert not raw.connect(client.id_of("s"), clean_start=False, properties=second).session_present


def test_expiry_changed_at_disconnect(client: Clients) -> None:
    """[3.14.2.2.2]: shorter, longer; from 0 it can't be made longer."""
    client("shorter", properties=HOUR).disconnect(properties=Properties(session_expiry_interval=0))
    client("longer", properties=Properties(session_expiry_interval=1)).disconnect(
        properties=Properties(session_expiry_interval=3600)
    )
    time.sleep(EXPIRED_SECONDS)
    for suffix, present in (("shorter", False), ("longer", True)):
        raw = client.raw()
        connack = raw.connect(client.id_of(suffix), clean_start=False, properties=HOUR)
        assert connack.session_present == present
    zero = client("zero")
    zero.send_bytes(b"\xe0\x07\x00\x05\x11\x00\x00\x00\x3c")
    assert zero.wait_refused() == ReasonCode.PROTOCOL_ERROR


def test_expiry_changed_at_connect(client: Clients, name: str) -> None:
    """A stored session that is resumed with expiry 0 is used to its end."""
    with client("s", properties=HOUR) as stored:
        stored.subscribe(name, qos=1)
    client("publisher").publish(name, b"queued", 1)
    last = client.raw()
    assert last.connect(client.id_of("s"), clean_start=False).session_present
    assert last.message().payload == b"queued"
    last.disconnect()
    assert not client.raw().connect(client.id_of("s"), clean_start=False, properties=HOUR).session_present


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1, MQTT_5])
def test_resume_in_another_version(client: Clients, name: str, version: int) -> None:
    """A session belongs to the client, not to its protocol version."""
    with client("s", properties=HOUR) as stored:
        stored.subscribe(name, qos=2, identifier=5)
    properties = Properties(user_property=(("k", "v"),))
    client("publisher").publish(name, b"queued", 2, properties=properties)
    resumed = client("s", version, clean_start=False, properties=HOUR if version == MQTT_5 else None)
    publish = resumed.message()
    assert publish.payload == b"queued"
    assert (publish.properties is not None) == (version == MQTT_5)


def test_server_keep_alive(tmp_path: Path) -> None:
    """[MQTT-3.2.2-21], [MQTT-3.2.2-22]"""
    environment = {"MOORLINE_MQTT__KEEP_ALIVE_MAXIMUM_SECONDS": "1"}
    with running_node(tmp_path, environment=environment) as node:
        with WireClient(node.port) as modest:
            connack = modest.connect("modest", keep_alive=1)
            assert connack.properties is not None
            assert connack.properties.server_keep_alive is None
        for asked in (0, 600):
            with WireClient(node.port) as long:
                connack = long.connect("long", keep_alive=asked)
                assert connack.properties is not None
                assert connack.properties.server_keep_alive == 1
                assert long.wait_refused() == ReasonCode.KEEP_ALIVE_TIMEOUT


def test_too_many_connections(tmp_path: Path) -> None:
    """Who comes too late is not let in, whoever is there stays, and a place that is free is given again."""
    with running_node(tmp_path, environment={"MOORLINE_LIMITS__CONNECTIONS_MAXIMUM": "3"}) as node:
        held = [connected(node.port, f"c{number}") for number in range(3)]
        try:
            with WireClient(node.port) as late:
                assert late.wait_closed() == []
        except ConnectionResetError:
            pass  # so soon that connect() tells of it
        assert held[0].ping() == []
        held.pop().disconnect()
        deadline = time.monotonic() + 3.0
        while True:
            try:
                with connected(node.port, "next") as next_one:
                    assert next_one.ping() == []
                break
            except (ConnectionError, AssertionError):
                assert time.monotonic() < deadline
        for client in held:
            client.close()


def test_session_without_connection_outlives_the_node(tmp_path: Path) -> None:
    """Its expiry goes on while the node is down, by the clock of Redis."""
    with running_node(tmp_path) as node:
        with connected(node.port, "short", properties=Properties(session_expiry_interval=1)):
            pass
        with connected(node.port, "long", properties=HOUR):
            pass
        node.kill_all()
        time.sleep(1.1)
        node.start()
        for client_id, present in (("short", False), ("long", True)):
            with WireClient(node.port) as client:
                connack = client.connect(client_id, clean_start=False, properties=HOUR)
                assert connack.session_present == present, client_id


def test_expiry_counts_from_the_kill(tmp_path: Path) -> None:
    """A session that was connected when its node was killed can be resumed afterwards."""
    with running_node(tmp_path) as node:
        with connected(node.port, "s", properties=HOUR) as stored:
            stored.subscribe("t", qos=1)
            node.restart()
        with WireClient(node.port) as again:
            assert again.connect("s", clean_start=False, properties=HOUR).session_present
            with connected(node.port, "p") as publisher:
                assert publisher.publish("t", b"x", 1) == 0
            assert again.message().payload == b"x"
