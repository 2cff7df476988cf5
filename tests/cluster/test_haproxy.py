"""Three nodes behind HAProxy with the configuration of docs/haproxy.cfg: sticky, and never in the way."""

import contextlib
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from broker.mqtt import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Properties,
    ReasonCode,
    Will,
    encode,
)
from tests.cluster.haproxy import CONFIGURATION, Cluster, running_cluster
from tests.node.harness import NodeProcess
from tests.node.wire import HOUR, WireClient, connected
from tests.tools import require_tool

pytestmark = pytest.mark.timeout(60)

EACH = 3
"""Clients of each node."""
AT_ONCE_SECONDS = 1.5
"""Less than the checks take: nobody waits for them."""
SLOW_DRAIN = {"MOORLINE_CLUSTER__DRAIN_CLIENTS_PER_SECOND": "0.5"}
"""The last of a node's clients is told after 4 s; HAProxy notices after 2 s."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("haproxy")
    with running_cluster(require_tool("haproxy"), directory, 2, SLOW_DRAIN) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """With all nodes in use, whatever the test before has done to them."""
    running.mend()
    return running


@pytest.fixture
def fleet(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator["Fleet"]:
    fleet = Fleet(cluster, request.node.name)
    yield fleet
    fleet.close()


class Fleet:
    """Clients with persistent sessions, the same number on each node."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self.cluster = cluster
        self.clients: dict[str, WireClient] = {}
        for number in range(EACH * len(cluster.nodes)):
            self.connect(f"{prefix}-{number}")
        self.homes = {client_id: cluster.node_of(client_id) for client_id in self.clients}

    def connect(self, client_id: str, port: int | None = None) -> Connack:
        """Connects a client, which has lost its connection or never had one."""
        if client_id in self.clients:
            self.clients[client_id].close()
        client = self.clients[client_id] = WireClient(port or self.cluster.port)
        connack = client.connect(client_id, clean_start=False, properties=HOUR)
        assert connack.reason_code == 0, connack
        return connack

    def on(self, node: str) -> list[str]:
        """The ids of a node's clients."""
        return [client_id for client_id, home in self.homes.items() if home == node]

    def sent_away(self) -> list[str]:
        """The ids of those that have been told to go since this was asked before."""
        told = []
        for client_id, client in self.clients.items():
            with contextlib.suppress(ConnectionError):
                if isinstance(client.poll(0.005), Disconnect):
                    told.append(client_id)
        return told

    def disconnect(self) -> None:
        """In order, all of them."""
        for client in self.clients.values():
            client.disconnect()

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


def test_the_file_is_valid_as_it_is() -> None:
    command = [require_tool("haproxy"), "-c", "-f", str(CONFIGURATION)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, ""), answer


# Stickiness


def test_clients_are_spread_and_come_back_to_their_node(fleet: Fleet) -> None:
    """In another order, so that the numbers of connections would send them elsewhere."""
    assert Counter(fleet.homes.values()) == dict.fromkeys(fleet.cluster.nodes, EACH)
    fleet.disconnect()
    for client_id, home in sorted(fleet.homes.items(), key=lambda item: item[1]):
        assert fleet.connect(client_id).session_present
        assert fleet.cluster.way_of(client_id) == [home, home]
    assert fleet.homes.items() <= fleet.cluster.proxies[0].table().items()


def test_long_ids_are_told_apart_by_their_ends(cluster: Cluster) -> None:
    names = [f"{'v' * 240}-{number}" for number in range(EACH * len(cluster.nodes))]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(connected(cluster.port, name))
        assert Counter(map(cluster.node_of, names)) == dict.fromkeys(cluster.nodes, EACH)


def test_without_an_entry_the_numbers_decide(fleet: Fleet) -> None:
    """The control of the test above, and what the page says about rebalancing."""
    fleet.cluster.proxies[0].ask("clear table mqtt data.server_id eq 2")
    fleet.disconnect()
    forgotten = fleet.on("node-2")
    for client_id in forgotten:
        assert fleet.connect(client_id).session_present
    assert {fleet.cluster.node_of(client_id) for client_id in forgotten} == set(fleet.cluster.nodes)
    for client_id in [*fleet.on("node-1"), *fleet.on("node-3")]:
        fleet.connect(client_id)
        assert fleet.cluster.node_of(client_id) == fleet.homes[client_id]


def test_clients_without_an_id_are_spread(cluster: Cluster) -> None:
    def assigned() -> Counter[str]:
        return Counter(name for _, client_id, name in cluster.connects() if client_id.startswith("auto-"))

    before = assigned()
    clients = [connected(cluster.port, "", MQTT_3_1_1) for _ in range(EACH * len(cluster.nodes))]
    for client in clients:
        client.close()
    found = assigned() - before  # connections of earlier tests may still count where they were
    assert set(found) == set(cluster.nodes)
    assert found.total() == EACH * len(cluster.nodes)
    assert "" not in cluster.proxies[0].table()


def test_another_haproxy_knows_the_nodes(fleet: Fleet) -> None:
    second = fleet.cluster.proxies[1]
    second.wait_for_table(fleet.homes)
    fleet.disconnect()
    for client_id, home in sorted(fleet.homes.items(), key=lambda item: item[1]):
        assert fleet.connect(client_id, second.port).session_present
        assert fleet.cluster.node_of(client_id) == home


# Nodes that go


def test_clients_of_a_killed_node_are_back_at_once(fleet: Fleet) -> None:
    fleet.cluster.nodes["node-2"].kill()
    begun = time.monotonic()
    for client_id in fleet.on("node-2"):
        assert fleet.clients[client_id].wait_closed() == []
        assert fleet.connect(client_id).session_present
    assert time.monotonic() - begun < AT_ONCE_SECONDS
    new = {client_id: fleet.cluster.way_of(client_id)[-1] for client_id in fleet.on("node-2")}
    assert Counter(new.values()) <= Counter({"node-1": EACH, "node-3": EACH})
    for client_id in [*fleet.on("node-1"), *fleet.on("node-3")]:
        assert fleet.clients[client_id].ping() == []
    fleet.cluster.mend()
    for client_id, home in new.items():  # its entry has moved with it
        fleet.clients[client_id].disconnect()
        fleet.connect(client_id)
        assert fleet.cluster.node_of(client_id) == home


def test_a_draining_node_gets_nobody_and_keeps_those_it_has_not_told(fleet: Fleet) -> None:
    node = fleet.cluster.nodes["node-3"]
    node.send_signal(signal.SIGTERM)
    told: list[str] = []
    while not told:  # or the test times out
        told = fleet.sent_away()
    begun = time.monotonic()
    assert fleet.connect(told[0]).session_present
    assert time.monotonic() - begun < AT_ONCE_SECONDS
    fleet.cluster.proxies[0].wait_for_states({"node-3": "DOWN"})
    assert node.is_running()
    for client_id in fleet.on("node-3"):
        if client_id not in told:
            (goodbye,) = fleet.clients[client_id].wait_closed()
            assert isinstance(goodbye, Disconnect)
            assert goodbye.reason_code == ReasonCode.SERVER_SHUTTING_DOWN
            assert fleet.connect(client_id).session_present
        assert fleet.cluster.node_of(client_id) != "node-3"
    assert node.wait() == 0


def test_a_node_that_hangs_gets_nobody_once_it_is_noticed(fleet: Fleet) -> None:
    node = fleet.cluster.nodes["node-1"]
    node.freeze()
    try:
        fleet.cluster.proxies[0].wait_for_states({"node-1": "DOWN", "node-2": "UP", "node-3": "UP"})
        begun = time.monotonic()
        for client_id in fleet.on("node-1"):
            assert fleet.connect(client_id).session_present
        assert time.monotonic() - begun < AT_ONCE_SECONDS
    finally:
        node.kill()


def test_nobody_is_cut_while_redis_is_away(fleet: Fleet) -> None:
    """No node is ready then; that must not end the connections of all."""
    fleet.cluster.redis.kill()
    try:
        fleet.cluster.proxies[0].wait_for_states(dict.fromkeys(fleet.cluster.nodes, "DOWN"))
        for client in fleet.clients.values():
            assert client.ping() == []
        with WireClient(fleet.cluster.port) as client:
            client.send_bytes(encode(_connect("nobody-is-ready"), MQTT_5))
            assert client.wait_closed() == []
    finally:
        fleet.cluster.redis.start()
    fleet.cluster.mend()
    for client in fleet.clients.values():
        assert client.publish("t", b"after", 1) == 0x10


def test_maintenance_keeps_clients_and_lets_none_in(fleet: Fleet) -> None:
    proxy = fleet.cluster.proxies[0]
    proxy.ask("set server mqtt/node-2 state maint")
    try:
        proxy.wait_for_states({"node-2": "MAINT"})
        for client_id in fleet.on("node-2"):
            assert fleet.clients[client_id].ping() == []
            fleet.clients[client_id].disconnect()
            assert fleet.connect(client_id).session_present
            assert fleet.cluster.node_of(client_id) != "node-2"
    finally:
        proxy.ask("set server mqtt/node-2 state ready")


def test_clients_that_are_shed_go_where_there_is_room(fleet: Fleet) -> None:
    """Once HAProxy has forgotten where they were: it would send them back."""
    proxy = fleet.cluster.proxies[0]
    proxy.ask("set server mqtt/node-2 state maint")
    try:
        for client_id in fleet.on("node-2"):
            fleet.clients[client_id].disconnect()
            fleet.connect(client_id)
    finally:
        proxy.ask("set server mqtt/node-2 state ready")
    proxy.wait_for_states({"node-2": "UP"})
    node = fleet.cluster.nodes["node-1"]
    _wait_until(lambda: _sessions(node)["node-2"] == 0 and sum(_sessions(node).values()) == 3 * EACH)
    proxy.ask("clear table mqtt")
    assert node.post("/api/v1/rebalance", {"tolerance": 0, "per_second": 100}).status == 202
    told: list[str] = []
    while len(told) < EACH:  # or the test times out
        told += fleet.sent_away()
    for client_id in told:
        assert fleet.connect(client_id).session_present
    homes = [fleet.cluster.node_of(client_id) for client_id in fleet.clients]
    assert Counter(homes) == dict.fromkeys(fleet.cluster.nodes, EACH)


# HAProxy itself


def test_a_reload_cuts_nobody_and_keeps_the_table(fleet: Fleet) -> None:
    proxy = fleet.cluster.proxies[0]
    proxy.reload()
    proxy.wait_for_table(fleet.homes)
    for client in fleet.clients.values():
        assert client.ping() == []
    fleet.disconnect()
    for client_id, home in sorted(fleet.homes.items(), key=lambda item: item[1]):
        fleet.connect(client_id)
        assert fleet.cluster.node_of(client_id) == home


# What is let through


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1, MQTT_5])
@pytest.mark.parametrize("size_bytes", [0, 1000, 14_000])
def test_every_connect_gets_through(cluster: Cluster, version: int, size_bytes: int) -> None:
    """Whole or in pieces, with all that it may carry, up to the size that the file names."""
    text = (("name", "value"), ("name", "other"))
    properties = Properties(user_property=text, receive_maximum=3, session_expiry_interval=5)
    will_properties = Properties(user_property=text, will_delay_interval=1, content_type="t")
    is_v5 = version == MQTT_5
    will = Will("w", bytes(size_bytes), 1, False, will_properties if is_v5 else None)
    client_id = f"{'long-' * 20}{version}-{size_bytes}"
    packet = Connect(client_id, version, True, 60, "user", b"password", will, properties if is_v5 else None)
    data = encode(packet, version)
    for pieces in ([data], [data[:1], data[1:20], data[20:-1], data[-1:]]):
        with WireClient(cluster.port, version) as client:
            for piece in pieces:
                client.send_bytes(piece)
            assert client.expect(Connack).reason_code == 0
            client.disconnect()


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\xc0\x00", b"\x10\x04abcd"],
    ids=["http", "tls", "pingreq", "nonsense"],
)
def test_what_is_not_mqtt_reaches_no_node(cluster: Cluster, data: bytes) -> None:
    before = _given_to_nodes(cluster)
    with WireClient(cluster.port) as client:
        begun = time.monotonic()
        client.send_bytes(data)
        assert client.wait_closed() == []
        assert time.monotonic() - begun < AT_ONCE_SECONDS
    assert _given_to_nodes(cluster) == before


def test_half_a_connect_reaches_no_node(cluster: Cluster) -> None:
    before = _given_to_nodes(cluster)
    with WireClient(cluster.port) as client:
        client.send_bytes(encode(_connect("half"), MQTT_5)[:-1])
        assert client.poll(0.2) is None
        assert _given_to_nodes(cluster) == before


def _connect(client_id: str) -> Connect:
    return Connect(client_id, MQTT_5, True, 0, None, None, None, None)


def _sessions(node: NodeProcess) -> dict[str, int]:
    """Connected clients by node, as the cluster has it."""
    return {
        each["name"]: each["sessions"] or 0 for each in json.loads(node.get("/api/v1/nodes").text)["nodes"]
    }


def _wait_until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def _given_to_nodes(cluster: Cluster) -> list[str]:
    """How many connections each node has been given so far, as HAProxy counts them."""
    return [row["stot"] for row in cluster.proxies[0].statistics()]
