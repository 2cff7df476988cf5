"""A listener whose durability level can't be had: who connects there is refused in time, its session is
neither half made nor lost, and the operator is told what is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Connack, Properties, ReasonCode, Will
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import running_redis
from tests.node.wire import HOUR, WireClient, connected
from tests.ports import free_port

REFUSAL = {MQTT_5: ReasonCode.SERVER_UNAVAILABLE, MQTT_3_1_1: 3}
VERSIONS = pytest.mark.parametrize("version", [MQTT_5, MQTT_3_1_1])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """On a Redis without replicas, with a listener that wants one."""
    environment = {
        "MOORLINE_LISTENERS": f'{{"safe":{{"address":"mqtt://127.0.0.1:{free_port()}","durability":"replicated"}}}}',
        "MOORLINE_MQTT__CONNECT_TIMEOUT_SECONDS": "1",
    }
    with (
        running_redis(tmp_path_factory.mktemp("redis")) as redis,
        running_node(tmp_path_factory.mktemp("node"), "--redis", redis.url, environment=environment) as node,
    ):
        yield node


def _safe_port(node: NodeProcess) -> int:
    lines = [line for line in node.output().splitlines() if line.startswith("  mqtt")]
    return int(lines[-1].rpartition(":")[2])


def _refused(node: NodeProcess, client_id: str, version: int) -> Connack:
    """What the safe listener says to a client that has a will, and whose session is to last."""
    will = Will(f"will/{client_id}", b"gone", 1, False, None)
    properties = HOUR if version == MQTT_5 else None
    with WireClient(_safe_port(node), version) as client:
        connack = client.connect(client_id, clean_start=False, will=will, properties=properties)
        assert (connack.reason_code, connack.session_present) == (REFUSAL[version], False)
        client.wait_closed()
    return connack


@contextmanager
def _returned(
    node: NodeProcess, client_id: str, version: int, *, is_present: bool = True
) -> Iterator[WireClient]:
    """By the other listener."""
    with WireClient(node.port, version) as client:
        properties = HOUR if version == MQTT_5 else None
        connack = client.connect(client_id, clean_start=False, properties=properties)
        assert (connack.reason_code, connack.session_present) == (0, is_present)
        yield client


@VERSIONS
def test_a_session_that_was_new_is_as_if_it_had_never_been(node: NodeProcess, version: int) -> None:
    name = f"new-{version}"
    with connected(node.port, f"{name}-watcher") as watcher:
        watcher.subscribe("will/#", qos=1)
        connack = _refused(node, name, version)
        if version == MQTT_5:
            assert connack.properties == Properties(
                reason_string="the durability level of this listener can't be had now"
            )
        with _returned(node, name, version, is_present=False):
            watcher.assert_silence()
        watcher.assert_silence()


@VERSIONS
def test_a_session_that_was_there_stays_as_it_was(node: NodeProcess, version: int) -> None:
    name = f"old-{version}"
    with _returned(node, name, version, is_present=False) as client:
        client.subscribe(f"t/{name}", qos=1)
        client.disconnect()
    with connected(node.port, f"{name}-other") as other:
        assert other.publish(f"t/{name}", b"before", 1) == 0
        _refused(node, name, version)
        assert other.publish(f"t/{name}", b"after", 1) == 0
    with _returned(node, name, version) as client:
        messages = [client.message(), client.message()]
        assert [each.payload for each in messages] == [b"before", b"after"]
        assert not any(each.dup for each in messages)
        client.assert_silence()


def test_who_has_no_persistent_session_is_served(node: NodeProcess) -> None:
    with connected(_safe_port(node), "direct") as client:
        assert client.ping() == []


def test_the_operator_is_told(node: NodeProcess) -> None:
    _refused(node, "told", MQTT_5)
    node.wait_for("alarm durability is raised", 10)
    text = node.output()
    assert "durability level can't be had, nothing is acknowledged at it: 0 replicas are connected" in text
    assert 'moorline_connects_total{result="late"}' in node.get("/metrics").text
