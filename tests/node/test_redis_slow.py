"""Redis stands still for 3 s, is 50 ms away, or ends our connections: publishers are slowed down, nothing is
dropped, the node's memory stays bounded, and every PINGREQ is answered."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.mqtt import MQTT_3_1_1, Puback, Publish
from tests.cluster.proxy import Proxy, running_proxy
from tests.node.harness import NodeProcess, running_node
from tests.node.pinger import Pinger
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient, connected

PUBLISHERS = 6
MESSAGES = 1000  # of all publishers fewer than session.queue_limit
PAYLOAD_BYTES = 16 << 10
HELD_BYTES = PUBLISHERS * (4 << 20)
"""`limits.inbound_unacknowledged_bytes` of each."""
BATCH_BYTES = 8 << 20
"""Of the router; three times: as requests, packed, and as they are sent."""
OTHER_BYTES = 24 << 20
"""What is being read and delivered; 10 MiB were measured."""
GROWTH_BYTES = HELD_BYTES + 3 * BATCH_BYTES + OTHER_BYTES
"""Of 94 MiB that are published."""
PING_SECONDS = 1.0
LATENCY_SECONDS = 0.05
PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with running_proxy(server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, server: RedisServer, proxy: Proxy
) -> Iterator[NodeProcess]:
    with running_node(tmp_path_factory.mktemp("node"), "--redis", proxy.url) as node:
        yield node
        server.thaw()


def stand_still(server: RedisServer, _proxy: Proxy) -> None:
    server.freeze()
    time.sleep(3.0)
    server.thaw()


def be_far(_server: RedisServer, proxy: Proxy) -> None:
    proxy.latency_seconds = LATENCY_SECONDS / 2
    time.sleep(3.0)
    proxy.latency_seconds = 0.0


def end_connections(server: RedisServer, _proxy: Proxy) -> None:
    with server.client() as client:
        for _ in range(6):
            client.client_kill_filter(_type="normal", skipme=True)
            time.sleep(0.5)


def flood(node: NodeProcess, topic: str) -> None:
    """Sends all it has, whatever is unanswered, then takes the answers."""
    with WireClient(node.port, MQTT_3_1_1, timeout_seconds=PATIENCE_SECONDS) as client:
        client.connect(topic)
        for number in range(1, MESSAGES + 1):
            client.send(Publish(topic, b"%06d" % number + b"." * PAYLOAD_BYTES, 1, False, False, number))
        assert [client.expect(Puback).packet_id for _ in range(MESSAGES)] == [*range(1, MESSAGES + 1)]


def receive(client: WireClient) -> dict[str, list[int]]:
    """By topic, the numbers that come, each for the first time."""
    found: dict[str, list[int]] = {}
    missing = PUBLISHERS * MESSAGES
    while missing:
        packet = client.expect(Publish)
        client.send(Puback(packet.packet_id))
        numbers, number = found.setdefault(packet.topic, []), int(packet.payload[:6])
        if not numbers or number > numbers[-1]:
            numbers.append(number)
            missing -= 1
    return found


def memory(node: NodeProcess, name: str) -> int:
    status = Path(f"/proc/{node.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) << 10


@pytest.mark.parametrize("trouble", [stand_still, be_far, end_connections])
def test_publishers_are_slowed_down(
    server: RedisServer, proxy: Proxy, node: NodeProcess, trouble: Callable[[RedisServer, Proxy], None]
) -> None:
    name = trouble.__name__
    with WireClient(node.port, timeout_seconds=PATIENCE_SECONDS) as subscriber:
        subscriber.connect(f"all-{name}", clean_start=False, properties=HOUR)
        subscriber.subscribe(f"{name}/+", qos=1)
        before = memory(node, "VmRSS")
        Path(f"/proc/{node.pid}/clear_refs").write_text("5")  # VmHWM begins anew
        with Pinger(node) as pinger, ThreadPoolExecutor() as threads:
            received = threads.submit(receive, subscriber)
            publishers = [threads.submit(flood, node, f"{name}/{each}") for each in range(PUBLISHERS)]
            trouble(server, proxy)
            for publisher in publishers:
                publisher.result()
            assert set(received.result()) == {f"{name}/{each}" for each in range(PUBLISHERS)}
    growth = memory(node, "VmHWM") - before
    assert all(numbers == [*range(1, MESSAGES + 1)] for numbers in received.result().values())
    assert growth < GROWTH_BYTES
    assert pinger.count > 3
    assert pinger.slowest < PING_SECONDS
    node.wait_ready(200)
    with connected(node.port, "after") as client:
        assert client.ping() == []
