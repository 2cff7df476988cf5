"""Messages of operators, metrics and retained messages by the admin API of another node."""

from typing import Any

import httpx
import pytest

from tests.node.harness import NodeProcess
from tests.node.wire import HOUR, connected
from tests.tools import NO_TLS

Nodes = tuple[NodeProcess, NodeProcess]


def ask(node: NodeProcess, method: str, path: str, **body: object) -> Any:
    url = f"http://127.0.0.1:{node.admin_port}/api/v1{path}"
    json = None if method == "GET" else body
    answer = httpx.request(method, url, json=json, timeout=5.0, trust_env=False, verify=NO_TLS)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_reaches_everybody_on_both_nodes_once(nodes: Nodes, qos: int) -> None:
    topic = f"publish/{qos}"
    with (
        connected(nodes[0].port, f"near-{qos}") as near,
        connected(nodes[1].port, f"far-{qos}") as far,
        connected(nodes[1].port, f"queued-{qos}", properties=HOUR) as queued,
    ):
        for client in (near, far, queued):
            client.subscribe(topic, qos=2)
        done = ask(nodes[0], "POST", "/publish", topic=topic, payload="x", qos=qos)
        assert done["result"] == "published"
        assert (done["sessions"], done["nodes"]) == ((1, 1) if qos == 0 else (2, 1))
        assert done["node"].startswith("node-1.")
        for client in (near, far, queued):
            message = client.message()
            assert (message.payload, message.qos) == (b"x", qos)
            client.assert_silence()


def test_a_retained_message_is_cleared_by_another_node(nodes: Nodes) -> None:
    with connected(nodes[0].port, "keeper") as keeper, connected(nodes[1].port, "watcher") as watcher:
        keeper.publish("clear/me", b"x", 1, retain=True)
        assert ask(nodes[1], "GET", "/retained/clear%2Fme")["payload"] == "x"
        watcher.subscribe("clear/#", qos=1)
        assert watcher.payloads(1) == [b"x"]
        assert ask(nodes[0], "DELETE", "/retained/clear%2Fme")["retained"] == "cleared"
        assert watcher.payloads(1) == [b""]
        assert ask(nodes[1], "GET", "/retained?prefix=clear")["retained"] == []


def test_metrics_of_all_nodes(nodes: Nodes) -> None:
    own = ask(nodes[1], "GET", "/metrics?name=moorline_connections_limit")["metrics"]
    assert [each["node"] for each in own] == ["node-2"]
    everybody = ask(nodes[1], "GET", "/metrics?name=moorline_connections_limit&cluster=true")
    assert [each["node"] for each in everybody["metrics"]] == ["node-1", "node-2"]
    assert everybody["silent"] == []
