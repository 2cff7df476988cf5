"""Alarms of two nodes: raised by what really happens, seen everywhere, and cleared by themselves."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.mqtt import Publish
from cluster.store import keys
from tests.cli import program
from tests.cluster.conftest import running_nodes
from tests.node.harness import NodeProcess
from tests.node.redis_server import RedisServer
from tests.node.wire import HOUR, connected

WAIT_SECONDS = 20.0
pytestmark = pytest.mark.timeout(60)  # alarms take some seconds to come and go, on purpose
ENVIRONMENT = {
    "MOORLINE_SESSION__QUEUE_LIMIT": "10",
    "MOORLINE_ALARMS__LOOP_LAG_SECONDS": "0.05",
    "MOORLINE_ALARMS__REDIS_MEMORY_SHARE": "0.5",
    "MOORLINE_MQTT__SYS_INTERVAL_SECONDS": "600",  # what is told before is told by a change
}
Nodes = tuple[NodeProcess, NodeProcess]


@pytest.fixture(scope="module")
def nodes(redis_of_cluster: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("nodes")
    with running_nodes(directory, redis_of_cluster.url, 2, ENVIRONMENT) as (first, second):
        yield first, second


def _alarms(node: NodeProcess, query: str = "") -> dict[str, object]:
    answer = node.get(f"/api/v1/alarms{query}")
    assert answer.status == 200, answer.text
    found: dict[str, object] = json.loads(answer.text)
    return found


def _raised(node: NodeProcess) -> set[tuple[str, str]]:
    alarms = _alarms(node)["alarms"]
    assert isinstance(alarms, list)
    return {(alarm["name"], alarm["node"]) for alarm in alarms}


def _wait_for(node: NodeProcess, name: str, *whose: str) -> None:
    """Until exactly these nodes have raised it, as this one says."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := {node for each, node in _raised(node) if each == name}) != set(whose):
        assert time.monotonic() < deadline, f"{name}: {found}, not {whose}"
        time.sleep(0.1)


def _gauge(node: NodeProcess, name: str) -> float:
    """Of /metrics: whether the node has raised that alarm."""
    for family in text_string_to_metric_families(node.get("/metrics").text):
        for sample in family.samples:
            if sample.name == "moorline_alarm" and sample.labels["name"] == name:
                return sample.value
    raise AssertionError(name)


def _ctl(node: NodeProcess) -> tuple[int, str]:
    result = program.run("ctl", "alarms", "--admin", f"http://127.0.0.1:{node.admin_port}")
    return result.exit_code, result.output


def test_redis_that_fills_up(nodes: Nodes, redis_of_cluster: RedisServer) -> None:
    """Both nodes raise it; each says so of both, and so does the topic."""
    first, second = nodes
    assert _ctl(first) == (0, "")
    with connected(second.port, "watcher") as watcher, redis_of_cluster.client() as redis:
        watcher.subscribe("$SYS/brokers/alarms")
        used = int(redis.info("memory")["used_memory"])
        redis.config_set("maxmemory", int(used * 1.6))
        _wait_for(second, "redis_memory", "node-1", "node-2")
        _wait_for(first, "redis_memory", "node-1", "node-2")
        told: list[dict[str, object]] = []
        while {each["node"] for each in told} != {"node-1", "node-2"}:
            told = json.loads(watcher.expect(Publish).payload)
        assert {each["name"] for each in told} == {"redis_memory"}
        assert {each["runbook"] for each in told} == {"docs/runbook.md#redis-memory"}
        assert _gauge(first, "redis_memory") == 1
        code, output = _ctl(second)
        assert code == 1
        assert output.count("redis_memory") == 2
        page = _alarms(first, "?limit=1")
        assert len(page["alarms"]) == 1  # type: ignore[arg-type]  # a list
        rest = _alarms(first, f"?limit=1&after={page['next']}")
        assert rest["next"] is None
        assert len(rest["alarms"]) == 1  # type: ignore[arg-type]  # a list
        assert len(redis.hgetall(keys.alarms("mq:"))) == 2
        assert 0 < redis.pttl(keys.alarms("mq:")) <= 60_000
        redis.config_set("maxmemory", 0)
        _wait_for(first, "redis_memory")
        while told:
            told = json.loads(watcher.expect(Publish).payload)
        assert not redis.exists(keys.alarms("mq:"))
    assert _ctl(first) == (0, "")
    for node in nodes:
        log = node.output()
        assert "alarm redis_memory is raised: Redis uses" in log
        assert "alarm redis_memory is cleared" in log


def test_a_queue_that_fills_up(nodes: Nodes) -> None:
    """Of a client that is away; it is looked at by one of the nodes."""
    first, second = nodes
    with connected(first.port, "away", properties=HOUR) as away:
        away.subscribe("filling", qos=1)
    with connected(first.port, "publisher") as publisher:
        for number in range(8):
            publisher.publish("filling", b"%d" % number, 1)
    deadline = time.monotonic() + WAIT_SECONDS
    while not any(name == "queue" for name, _ in _raised(second)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (alarm,) = [each for each in _alarms(second)["alarms"] if each["name"] == "queue"]  # type: ignore[attr-defined]  # a list
    assert (
        alarm["text"]
        == "The fullest queue is 80% full; then messages are dropped. It is that of client away."
    )
    with connected(second.port, "away", clean_start=False, properties=HOUR) as away:
        away.payloads(8)
        _wait_for(second, "queue")


def test_a_node_that_does_not_run_is_late(nodes: Nodes) -> None:
    first, second = nodes
    second.send_signal(signal.SIGSTOP)
    time.sleep(2.0)  # that is what is measured
    second.send_signal(signal.SIGCONT)
    _wait_for(first, "loop_lag", "node-2")


def test_a_query_that_makes_no_sense(nodes: Nodes) -> None:
    assert nodes[0].get("/api/v1/alarms?limit=501").status == 422


def test_without_redis_a_node_tells_its_own(tmp_path: Path, redis_of_cluster: RedisServer) -> None:
    environment = {"MOORLINE_REDIS__EXCHANGE_TIMEOUT_SECONDS": "1"}
    with running_nodes(tmp_path, redis_of_cluster.url, 1, environment) as (node,):
        redis_of_cluster.freeze()
        try:
            node.wait_for("alarm redis_away is raised", WAIT_SECONDS)
            found = _alarms(node)
            assert found["incomplete"]
            assert "redis_away" in str(found["alarms"])
        finally:
            redis_of_cluster.thaw()
        node.wait_for("alarm redis_away is cleared", WAIT_SECONDS)
