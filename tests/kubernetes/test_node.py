"""Real nodes in what they take for pods: what they tell the API, and that clients don't depend on it."""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.kubernetes.pod import DELETION_COST, LOWEST_COST, SERVING
from tests.kubernetes.conftest import NAMESPACE
from tests.kubernetes.standin import Faults, Json, StandIn
from tests.node.harness import NodeProcess, refused_start, running_node
from tests.node.wire import connected

pytestmark = pytest.mark.timeout(60)
POD = "moorline-7d9f-x2x4z"
PLACE = ("pods", NAMESPACE, POD)
SPEC: Json = {"readinessGates": [{"conditionType": SERVING}], "containers": []}
ZONE = {"topology.kubernetes.io/zone": "eu-1b"}
WAIT_SECONDS = 15.0
AT_ONCE_SECONDS = 5.0


def _variables(standin: StandIn, directory: Path, **more: str) -> dict[str, str]:
    """Of a pod, as the chart gives them; and haste."""
    pod = standin.cluster.create("pods", NAMESPACE, {"metadata": {"name": POD, "labels": ZONE}, "spec": SPEC})
    return {
        "POD_NAME": POD,
        "POD_NAMESPACE": NAMESPACE,
        "POD_UID": pod["metadata"]["uid"],
        "POD_IP": "10.1.2.3",
        "NODE_NAME": "worker-1",
        "MOORLINE_KUBERNETES__KUBECONFIG": str(standin.write_kubeconfig(directory / "kubeconfig")),
        "MOORLINE_KUBERNETES__PUBLISH_INTERVAL_SECONDS": "0.2",
        "MOORLINE_KUBERNETES__API_TIMEOUT_SECONDS": "1",
        "MOORLINE_CLUSTER__DRAIN_PAUSE_SECONDS": "1",
    } | more


@contextlib.contextmanager
def _pod(standin: StandIn, directory: Path, *flags: str, **more: str) -> Iterator[NodeProcess]:
    flags = ("--node-name", POD, "--admin", "0.0.0.0:0", *flags)
    with running_node(directory, *flags, environment=_variables(standin, directory, **more)) as node:
        yield node


def _until(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def _cost(standin: StandIn) -> str | None:
    cost: str | None = standin.cluster.objects[PLACE]["metadata"].get("annotations", {}).get(DELETION_COST)
    return cost


def _serving(standin: StandIn) -> tuple[str, str] | None:
    """Status and reason."""
    conditions = standin.cluster.objects[PLACE].get("status", {}).get("conditions", [])
    return next(((each["status"], each["reason"]) for each in conditions if each["type"] == SERVING), None)


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["node", "workers"])
def test_the_pod_says_what_its_nodes_are(standin: StandIn, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """From the start to the last moment: clients, readiness, and that it leaves."""
    with _pod(standin, tmp_path, *flags) as node, contextlib.ExitStack() as clients:
        _until(lambda: (_cost(standin), _serving(standin)) == ("0", ("True", "Serving")))
        for number in range(12):
            clients.enter_context(connected(node.port, f"c{number}"))
        _until(lambda: _cost(standin) == "12")
        told = time.monotonic()
        node.send_signal(signal.SIGTERM)
        _until(lambda: (_cost(standin), _serving(standin)) == (str(LOWEST_COST), ("False", "Draining")))
        assert time.monotonic() < told + 1 + AT_ONCE_SECONDS
        assert node.wait() == 0


def test_where_a_node_runs(standin: StandIn, tmp_path: Path) -> None:
    """By the Downward API, and by the label that newer releases of Kubernetes give to pods."""
    with _pod(standin, tmp_path) as node:

        def described() -> dict[str, object]:
            (found,) = json.loads(node.get("/api/v1/nodes").text)["nodes"]
            return {key: found[key] for key in ("kubernetes_node", "zone", "admin")}

        _until(lambda: described()["zone"])
        assert described() | {"admin": ""} == {"kubernetes_node": "worker-1", "zone": "eu-1b", "admin": ""}
        assert str(described()["admin"]).startswith("10.1.2.3:")


def test_a_deleted_pod_drains_before_anybody_sends_a_signal(standin: StandIn, tmp_path: Path) -> None:
    with _pod(standin, tmp_path) as node, connected(node.port, "c") as client:
        _until(lambda: _cost(standin) == "1")
        with standin.cluster.lock:
            standin.cluster.delete(*PLACE)
        node.wait_for("the pod is being deleted")
        client.wait_closed()
        assert node.wait() == 0


def test_clients_are_served_while_the_api_hangs(standin: StandIn, tmp_path: Path) -> None:
    """From the start on, and it is told in the log once; then what is so is published."""
    standin.faults.hang = True
    told = "the Kubernetes API fails; the broker goes on without it: no answer within 1 s"
    with (
        _pod(standin, tmp_path) as node,
        connected(node.port, "c") as client,
        connected(node.port, "p") as publisher,
    ):
        client.subscribe("t", qos=1)
        worst = 0.0
        began = time.monotonic()
        while time.monotonic() < began + 2 or not node.events(told):
            assert time.monotonic() < began + WAIT_SECONDS, "nothing was told"
            before = time.monotonic()
            publisher.publish("t", b"x", 1)
            client.message()
            worst = max(worst, time.monotonic() - before)
            time.sleep(0.02)
        assert worst < 1.0
        assert len(node.events(told)) == 1
        assert 'moorline_kubernetes_requests_total{code="timeout",verb="list"}' in node.get("/metrics").text
        assert node.get("/readyz").status == 200
        standin.faults = Faults()
        _until(lambda: _cost(standin) == "2", 40)
        standin.faults.hang = True
        stopped = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - stopped < 1 + AT_ONCE_SECONDS


def test_the_turn_to_rebalance_is_a_lease(standin: StandIn, tmp_path: Path) -> None:
    """Which names the pod, and has no holder when the pod has left."""
    with _pod(standin, tmp_path, MOORLINE_CLUSTER__REBALANCE_CLIENTS_PER_MINUTE="60") as node:
        place = ("leases", NAMESPACE, "moorline-chores")
        node.wait_for("has the turn to rebalance")
        assert standin.cluster.objects[place]["spec"]["holderIdentity"].startswith(f"{POD}.")
        assert "moorline_rebalance_turn 1.0" in node.get("/metrics").text
        assert node.stop() == 0
        assert "holderIdentity" not in standin.cluster.objects[place]["spec"]


def test_what_is_missing_is_said_at_once(tmp_path: Path) -> None:
    code, output = refused_start(tmp_path, environment={"MOORLINE_KUBERNETES__ENABLED": "true"})
    assert code == 2
    (line,) = output.splitlines()
    assert "kubernetes.enabled is true" in line
    assert "POD_NAME is not set" in line
    assert "KUBERNETES_SERVICE_HOST is not set" in line


def test_a_pod_without_what_is_needed_serves(tmp_path: Path) -> None:
    with running_node(tmp_path, environment={"KUBERNETES_SERVICE_HOST": "127.0.0.1"}) as node:
        assert "the Kubernetes API is not used: POD_NAME is not set" in node.output()
