"""A node that goes on for a while after it has said that it will leave, and where it says so."""

import contextlib
import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from broker.mqtt import Disconnect, ReasonCode
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import running_redis
from tests.node.wire import HOUR, connected
from tests.ports import free_port
from tests.tools import NO_TLS

PAUSE = {"MOORLINE_CLUSTER__DRAIN_PAUSE_SECONDS": "1.5"}
LONG_PAUSE = {"MOORLINE_CLUSTER__DRAIN_PAUSE_SECONDS": "60"}
AT_ONCE_SECONDS = 5.0
pytestmark = pytest.mark.timeout(60)


@contextlib.contextmanager
def _node(directory: Path, environment: dict[str, str], *flags: str) -> Iterator[NodeProcess]:
    with running_node(directory, "--node-name", "alpha", *flags, environment=environment) as node:
        yield node


def _public_port(node: NodeProcess) -> int:
    found = re.search(r"^  admin +http://0\.0\.0\.0:(\d+)$", node.output(), re.MULTILINE)
    assert found is not None, node.output()
    return int(found[1])


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["node", "parent"])
def test_the_api_is_on_the_loopback_address_only(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with _node(tmp_path, {}, "--admin", "0.0.0.0:0", *flags) as node:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{_public_port(node)}", trust_env=False, verify=NO_TLS
        ) as public:
            for path in ("/healthz", "/readyz", "/metrics"):
                assert public.get(path).status_code == node.get(path).status == 200
            refusal = public.get("/api/v1/nodes")
            assert (refusal.status_code, "loopback address" in refusal.json()["error"]) == (403, True)
            assert public.post("/api/v1/drain", json={}).status_code == 403
        deadline = time.monotonic() + AT_ONCE_SECONDS
        expected = f"0.0.0.0:{_public_port(node)}"  # which others can reach
        while {each["admin"] for each in json.loads(node.get("/api/v1/nodes").text)["nodes"]} != {expected}:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_clients_are_served_while_load_balancers_take_note(tmp_path: Path) -> None:
    """Not ready at once and `draining` to the others; old and new clients notice nothing until the end."""
    with (
        running_redis(tmp_path / "redis") as server,
        _node(tmp_path, PAUSE, "--redis", server.url) as node,
        connected(node.port, "old", properties=HOUR) as old,
    ):
        told = time.monotonic()
        node.send_signal(signal.SIGTERM)
        assert "draining" in node.wait_ready(503).text
        with connected(node.port, "new") as new:
            old.subscribe("t", qos=1)
            new.publish("t", b"still here", 1)
            assert old.message().payload == b"still here"
        while not json.loads(node.get("/api/v1/nodes").text)["nodes"][0]["draining"]:
            assert time.monotonic() < told + 1.5, "the others are told too late"
        (last,) = [packet for packet in old.wait_closed() if isinstance(packet, Disconnect)]
        assert last.reason_code == ReasonCode.SERVER_SHUTTING_DOWN
        assert time.monotonic() - told >= 1.4
        assert node.wait() == 0


def test_a_second_signal_ends_the_pause(tmp_path: Path) -> None:
    with _node(tmp_path, LONG_PAUSE) as node, connected(node.port, "c") as client:
        node.send_signal(signal.SIGTERM)
        node.wait_for("pausing before the drain")
        node.send_signal(signal.SIGTERM)
        assert [packet for packet in client.wait_closed() if isinstance(packet, Disconnect)]
        assert node.wait(AT_ONCE_SECONDS) == 0


def test_a_signal_after_the_command_is_the_first_one(tmp_path: Path) -> None:
    """As a container's preStop hook and SIGTERM follow each other: the pause goes on."""
    with _node(tmp_path, PAUSE) as node:
        told = time.monotonic()
        answer = node.post("/api/v1/drain", {})
        assert (answer.status, json.loads(answer.text)) == (202, {"nodes": ["alpha"]})
        node.wait_for("pausing before the drain")
        node.send_signal(signal.SIGTERM)
        assert node.wait() == 0
        assert time.monotonic() - told >= 1.4
        assert "cut short" not in node.output()


@pytest.mark.parametrize("moved", [False, True])
def test_drain_of_a_parent_is_that_of_all_its_workers(tmp_path: Path, moved: bool) -> None:
    with (
        _node(tmp_path, PAUSE, "--workers", "2") as node,
        connected(node.port, "c", properties=HOUR) as client,
    ):
        answer = node.post("/api/v1/drain", {"moved": moved})
        assert json.loads(answer.text) == {"nodes": ["alpha-1", "alpha-2"]}
        assert client.ping() == []
        (last,) = [packet for packet in client.wait_closed() if isinstance(packet, Disconnect)]
        assert last.reason_code == (ReasonCode.SERVER_MOVED if moved else ReasonCode.SERVER_SHUTTING_DOWN)
        assert node.wait() == 0
        assert len(node.events("pausing before the drain")) == 3


def test_a_second_signal_to_the_parent_ends_the_pause_of_all(tmp_path: Path) -> None:
    with _node(tmp_path, LONG_PAUSE, "--workers", "2") as node, connected(node.port, "c") as client:
        node.send_signal(signal.SIGTERM)
        node.wait_for(r"(?s)(pausing before the drain.*){3}")
        node.send_signal(signal.SIGTERM)
        assert [packet for packet in client.wait_closed() if isinstance(packet, Disconnect)]
        assert node.wait(AT_ONCE_SECONDS) == 0


def test_a_node_that_waits_for_redis_drains_without_a_pause(tmp_path: Path) -> None:
    """There is nobody to be told, and no Redis is needed to say so."""
    tmp_path.joinpath("alpha").mkdir()
    node = NodeProcess(
        tmp_path / "alpha", "--redis", "redis://127.0.0.1:1", "--node-name", "alpha", environment=LONG_PAUSE
    )
    node.admin_port = free_port()
    node.launch()
    try:
        node.wait_for("waiting for Redis")
        assert node.post("/api/v1/drain", {}).status == 202
        assert node.wait(AT_ONCE_SECONDS) == 0
    finally:
        node.close()
