"""The commands in the pods of `helm test`, run here as they stand there."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.pods import ready_pod
from tests.helm.chart import render
from tests.node.harness import running_node

SECONDS = 30


def _run(case: str, name: str, broker: str) -> "subprocess.CompletedProcess[str]":
    """The arguments of that pod, at this broker: the image's entry point is `moorline`."""
    manifests = render(case)
    service = manifests.one("Service")
    address = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    (container,) = manifests.one("Pod", name)["spec"]["containers"]
    assert address in container["args"]
    arguments = [broker if each == address else each for each in container["args"]]
    command = [sys.executable, "-m", "broker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.timeout(60)
def test_the_round_trip(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        done = _run("minimal", "release-moorline-test-round-trip", f"127.0.0.1:{node.port}")
    assert done.returncode == 0, done.stderr
    assert "QoS 2, persistent sessions" in done.stdout


def test_the_round_trip_fails_without_a_broker() -> None:
    assert _run("minimal", "release-moorline-test-round-trip", "127.0.0.1:1").returncode == 2


def test_the_fail_over_asks_for_its_account() -> None:
    """Its arguments are understood; the rest is in tests/loadtest/test_failover.py."""
    done = _run("fail-over-test", "release-moorline-test-fail-over", "127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.startswith("loadtest: this is no pod")


def test_the_fail_over_finds_the_pods_of_the_broker() -> None:
    """Those of the Deployment, by their labels, and the port by its name."""
    manifests = render("fail-over-test")
    (container,) = manifests.one("Pod", "release-moorline-test-fail-over")["spec"]["containers"]
    selector = container["args"][container["args"].index("--selector") + 1]
    wanted = dict(each.split("=") for each in selector.split(","))
    template = manifests.deployment["spec"]["template"]
    assert wanted.items() <= template["metadata"]["labels"].items()
    item = {
        "metadata": {"name": "a", "uid": "u"},
        "spec": template["spec"],
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    pod = ready_pod(item)
    assert pod is not None
    assert pod.target.port == 1883
