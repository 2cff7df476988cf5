"""`$SYS` topics on two nodes: what each says of itself, and of both, wherever one asks."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import __version__
from broker.client.sys_topics import of_cluster
from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Properties,
    Publish,
    ReasonCode,
    Will,
)
from cluster.control import NodeState
from cluster.node_info import NodeInfo
from tests.cluster.conftest import running_nodes
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import RedisServer
from tests.node.wire import HOUR, WireClient, connected

INTERVAL_SECONDS = 1
ENVIRONMENT = {"MOORLINE_MQTT__SYS_INTERVAL_SECONDS": str(INTERVAL_SECONDS)}
WAIT_SECONDS = 10.0

Nodes = tuple[NodeProcess, NodeProcess]

COUNTED_SECONDS = 10.0
"""A node carries its counters over twice a second."""


@pytest.fixture(scope="module")
def nodes(redis_of_cluster: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("nodes")
    with running_nodes(directory, redis_of_cluster.url, 2, ENVIRONMENT) as (first, second):
        yield first, second


def wait_for(client: WireClient, topic: str, payload: bytes | None = None) -> Publish:
    """The next message of this topic, with this payload if one is given."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        publish = client.expect(Publish)
        if publish.topic == topic and payload in (None, publish.payload):
            return publish
    raise AssertionError(f"no {payload!r} on {topic}")


def test_a_new_subscriber_gets_the_values_of_all_nodes(nodes: Nodes) -> None:
    _, second = nodes
    with connected(second.port, "watcher") as watcher:
        watcher.subscribe("$SYS/brokers/+/version")
        retained = {watcher.expect(Publish).topic: True for _ in nodes}
        assert retained == {f"$SYS/brokers/node-{number}/version": True for number in (1, 2)}
        watcher.unsubscribe("$SYS/brokers/+/version")
        watcher.ping()
        watcher.subscribe("$SYS/brokers/node-1/version", retain_as_published=True)
        publish = wait_for(watcher, "$SYS/brokers/node-1/version", __version__.encode())
        assert publish.retain
        assert publish.properties is not None  # it expires after three intervals
        assert 0 < (publish.properties.message_expiry_interval or 0) <= 3 * INTERVAL_SECONDS


@pytest.mark.parametrize("properties", [None, HOUR], ids=["direct", "stored"])
def test_values_change_and_reach_the_other_node(nodes: Nodes, properties: Properties | None) -> None:
    first, second = nodes
    with (
        connected(second.port, "watcher", properties=properties) as watcher,
        connected(first.port, "talker") as talker,
    ):
        watcher.subscribe("$SYS/brokers/node-1/#", qos=1)
        before = int(wait_for(watcher, "$SYS/brokers/node-1/messages/qos1/received").payload)
        for _ in range(3):
            talker.publish("to/nobody", b"", 1)
        live = wait_for(watcher, "$SYS/brokers/node-1/messages/qos1/received", b"%d" % (before + 3))
        assert (live.qos, live.retain) == (0, False)
        wait_for(watcher, "$SYS/brokers/node-1/clients/connected", b"1")


def test_the_cluster_as_a_whole(nodes: Nodes) -> None:
    first, second = nodes
    with (
        connected(first.port, "a") as a,
        connected(second.port, "b", properties=HOUR) as b,
        connected(second.port, "watcher") as watcher,
    ):
        a.subscribe("one")
        b.subscribe("two", "three")
        b.disconnect()
        connected(second.port, "without subscriptions", properties=HOUR).close()
        a.publish("kept", b"x", 1, retain=True)
        watcher.subscribe("$SYS/cluster/#", "$SYS/brokers")
        wait_for(watcher, "$SYS/brokers", b"node-1,node-2")
        for name, value in {
            "nodes/count": 2,
            "clients/connected": 2,
            "subscriptions/count": 5,
            "clients/total": 4,
        }.items():
            wait_for(watcher, f"$SYS/cluster/{name}", b"%d" % value)
        assert int(wait_for(watcher, "$SYS/cluster/retained messages/count").payload) > 20
        a.publish("kept", b"", 1, retain=True)


def test_wildcards_at_the_first_level_do_not_match(nodes: Nodes) -> None:
    """[MQTT-4.7.2-1], retained and live."""
    with connected(nodes[0].port, "watcher") as watcher:
        watcher.subscribe("#", "+/brokers", "+/brokers/#")
        watcher.assert_silence(2.5 * INTERVAL_SECONDS)


@pytest.mark.parametrize("properties", [None, HOUR], ids=["direct", "stored"])
@pytest.mark.parametrize("topic", ["$SYS/brokers/node-1/version", "$SYS"])
def test_clients_may_not_publish_there(nodes: Nodes, topic: str, properties: Properties | None) -> None:
    with (
        connected(nodes[0].port, "watcher") as watcher,
        connected(nodes[0].port, "liar", properties=properties) as liar,
        connected(nodes[0].port, "old", MQTT_3_1_1, clean_start=properties is None) as old,
    ):
        watcher.subscribe("$SYS/brokers/node-1/version", retain_handling=2)
        for qos in (0, 1, 2):
            assert liar.publish(topic, b"lie", qos) == (ReasonCode.NOT_AUTHORIZED if qos else 0)
            assert old.publish(topic, b"lie", qos) == 0  # [MQTT-3.3.5-2]: acknowledged, or closed
        assert liar.publish("$other/topic", b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
        wait_for(watcher, "$SYS/brokers/node-1/version", __version__.encode())
        others = [packet for packet in watcher.ping() if isinstance(packet, Publish)]
        assert b"lie" not in [packet.payload for packet in others]
        old.disconnect()
        liar.disconnect()
    wanted = 'moorline_messages_dropped_total{qos="0",reason="not_authorized"}'
    deadline = time.monotonic() + COUNTED_SECONDS
    while wanted not in nodes[0].get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(("version", "code"), [(MQTT_5, ReasonCode.NOT_AUTHORIZED), (MQTT_3_1_1, 5)])
def test_a_will_may_not_go_there(nodes: Nodes, version: int, code: int) -> None:
    with WireClient(nodes[0].port, version) as client:
        will = Will("$SYS/x", b"", 0, False, None)
        client.send(Connect("doomed", version, True, 0, None, None, will, None))
        assert client.expect(Connack).reason_code == code
        assert not [packet for packet in client.wait_closed() if isinstance(packet, Disconnect)]


def test_a_node_that_was_killed_is_forgotten(
    redis_of_cluster: RedisServer, nodes: Nodes, tmp_path: Path
) -> None:
    """The others see that it is dead; what it has said of itself expires."""
    flags = ("--redis", redis_of_cluster.url, "--node-name", "node-3")
    with connected(nodes[0].port, "watcher") as watcher:
        watcher.subscribe("$SYS/brokers")
        with running_node(tmp_path, *flags, environment=ENVIRONMENT) as third:
            wait_for(watcher, "$SYS/brokers", b"node-1,node-2,node-3")
            watcher.subscribe("$SYS/brokers/node-3/version")
            wait_for(watcher, "$SYS/brokers/node-3/version")
            third.kill()
        wait_for(watcher, "$SYS/brokers", b"node-1,node-2")
        watcher.unsubscribe("$SYS/brokers")
        watcher.ping()
        watcher.subscribe("$SYS/brokers/node-3/#")
        watcher.assert_silence()


def test_what_a_cluster_adds_up() -> None:
    talker = NodeInfo("a", sessions=3, direct_sessions=2, messages_received=7)
    infos = [talker, NodeInfo("b", sessions=1), None]
    nodes = [NodeState(f"n.{number}", True, info) for number, info in enumerate(infos)]
    values = of_cluster(nodes, 5, 11, 13)
    assert values["nodes/count"] == 3
    assert (values["clients/connected"], values["clients/total"]) == (4, 7)
    assert (values["subscriptions/count"], values["retained messages/count"]) == (11, 13)
    assert values["messages/received"] == 7
