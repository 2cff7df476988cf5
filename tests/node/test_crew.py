"""Several nodes in one command, as they work together."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from broker import build_mode
from broker.mqtt import Publish
from tests.cluster.following import following
from tests.node.crew import (
    NAMES,
    TWO,
    connected_to,
    members_of,
    node_of,
    samples_of,
    wait_until,
    workers_of,
)
from tests.node.harness import NodeProcess, execute, running_node
from tests.node.redis_server import running_redis
from tests.node.wire import connected
from tests.tools import NO_TLS

CLIENTS = 40
pytestmark = pytest.mark.timeout(60)  # the machine may be busy


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Two workers that nobody kills."""
    with running_node(tmp_path_factory.mktemp("crew"), *TWO, starter=execute) as crew:
        yield crew


def test_start_output(crew: NodeProcess) -> None:
    """Once, not once for each worker: where clients connect, and the same port for all of them."""
    lines = [line for line in crew.output().splitlines() if not line.startswith("{")]
    assert lines[0].startswith("moorline ")
    assert lines[0].endswith(f"({build_mode()}), nodes crew-1 to crew-2")
    assert lines[1].split() == ["mqtt", f"127.0.0.1:{crew.port}"]
    assert lines[2].split() == ["admin", f"http://127.0.0.1:{crew.admin_port}"]
    assert lines[3].split()[:2] == ["redis", "private"]
    assert len(lines) == 4


def test_all_workers_take_connections(crew: NodeProcess) -> None:
    with contextlib.ExitStack() as clients:
        for number in range(CLIENTS):
            clients.enter_context(connected(crew.port, f"spread-{number}"))
        wait_until(lambda: sum(samples_of(crew, "moorline_connections").values()) == CLIENTS)
        connections = samples_of(crew, "moorline_connections")
        assert set(connections) == NAMES
        assert min(connections.values()) >= 1  # all on one of two: once in 2^39 runs
        by_log = Counter(str(event["node_id"]) for event in crew.events("connected"))
        assert set(by_log) == NAMES


def test_each_worker_is_a_node_of_its_own(crew: NodeProcess) -> None:
    """The parent is none."""
    with crew.redis() as client:
        members = members_of(client)
    assert sorted(member.rpartition(".")[0] for member in members) == sorted(NAMES)


def test_metrics_are_those_of_all_workers(crew: NodeProcess) -> None:
    assert samples_of(crew, "moorline_worker_up") == dict.fromkeys(NAMES, 1.0)
    assert set(samples_of(crew, "moorline_event_loop_lag_seconds_count")) == NAMES
    memory = samples_of(crew, "process_resident_memory_bytes")
    assert set(memory) == NAMES | {""}
    assert all(memory.values())
    page = crew.get("/metrics").text
    assert page.count("# TYPE moorline_connections gauge") == 1


def test_probes(crew: NodeProcess) -> None:
    assert crew.get("/healthz").status == 200
    assert crew.wait_ready(200).text == '{"status":"ok"}'
    assert crew.get("/none").status == 404


def test_api(crew: NodeProcess) -> None:
    """The parent answers for all of them and is none of them."""
    wait_until(lambda: _states(crew) == dict.fromkeys(NAMES, True))
    answer = json.loads(crew.get("/api/v1/nodes").text)
    assert {tuple(node["listen"]) for node in answer["nodes"]} == {(f"127.0.0.1:{crew.port}",)}
    assert {node["admin"] for node in answer["nodes"]} == {f"127.0.0.1:{crew.admin_port}"}
    health = json.loads(crew.get("/api/v1/health").text)
    assert health["status"] == "ok"
    assert health["node"]["name"] == "crew"
    assert health["cluster"]["alive"] == 2
    assert crew.post("/api/v1/rebalance", {"dry_run": True}).status == 200
    refused = crew.post("/api/v1/nodes/crew/drain", {})
    assert refused.status == 404, refused.text
    assert "there are: crew-1, crew-2" in refused.text


def test_the_dashboard_is_the_parent_s(crew: NodeProcess) -> None:
    assert "<title>Moorline</title>" in crew.get("/").text
    overview = json.loads(crew.get("/api/v1/overview").text)
    assert sorted(node["name"] for node in overview["nodes"]) == sorted(NAMES)
    assert (overview["answers"]["name"], overview["redis"]["state"]) == ("crew", "ok")


def test_the_parent_has_a_worker_do_what_only_nodes_can(crew: NodeProcess) -> None:
    wait_until(lambda: _states(crew) == dict.fromkeys(NAMES, True))
    with connected(crew.port, "content-reader") as reader:
        reader.subscribe("content/t", qos=2)
        probe = crew.post("/api/v1/publish", {"topic": "content/t", "payload": "x", "qos": 2, "retain": True})
        assert probe.status == 200, probe
        done = json.loads(probe.text)
        assert (done["result"], done["retained"]) == ("published", "yes")
        assert done["node"].rpartition(".")[0] in ("crew-1", "crew-2")
        assert reader.message().payload == b"x"
        assert json.loads(crew.get("/api/v1/retained/content/t").text)["payload"] == "x"
    found = json.loads(crew.get("/api/v1/metrics?name=moorline_connections").text)["metrics"]
    nodes = [each["node"] for each in found if each["name"] == "moorline_connections"]
    assert nodes == ["crew-1", "crew-2"]
    settings = json.loads(crew.get("/api/v1/settings").text)
    assert (settings["node"], settings["settings"]["node"]["workers"]["value"]) == ("crew", 2)


def test_the_parent_lists_what_the_workers_have(crew: NodeProcess) -> None:
    wait_until(lambda: _states(crew) == dict.fromkeys(NAMES, True))
    names = sorted(NAMES)
    held = [connected_to(crew, name, f"listed-{name}-") for name in names]
    for client_id, client in held:
        client.subscribe(f"listed/{client_id}")
    clients = json.loads(crew.get("/api/v1/clients?search=listed-").text)
    listed = [(each["client_id"], each["node"]) for each in clients["clients"]]
    wanted = [(client_id, name) for name, (client_id, _) in zip(names, held, strict=True)]
    assert [each for each in listed if each in wanted] == wanted  # beside those that came to another worker
    found = json.loads(crew.get("/api/v1/subscriptions?filter=listed/").text)
    assert [each["client_id"] for each in found["subscriptions"]] == [client_id for client_id, _ in held]
    for client_id, client in held:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{crew.admin_port}/api/v1", trust_env=False, verify=NO_TLS
        ) as http:
            ended = http.request("DELETE", f"/sessions/{client_id}", json={})
        assert ended.status_code == 200, ended.text
        client.wait_closed()
        client.close()
    left = json.loads(crew.get("/api/v1/sessions?prefix=listed-").text)["sessions"]
    assert {each["client_id"] for each in left}.isdisjoint(client_id for client_id, _ in held)


def test_the_parent_follows_what_happens_in_workers(crew: NodeProcess) -> None:
    with following(crew, "/events?client_id=followed-*") as seen:
        held = [connected(crew.port, f"followed-{number}") for number in range(8)]
        seen.wait_until(lambda: len(seen.of("event")) == 8)
        for client in held:
            client.close()
    assert {each["node"] for each in seen.of("event")} <= set(workers_of(crew))


def test_the_parent_explains_what_a_worker_knows(crew: NodeProcess) -> None:
    wait_until(lambda: _states(crew) == dict.fromkeys(NAMES, True))
    with connected(crew.port, "explained") as client:
        client.subscribe("explained/t", qos=1)
        answer = json.loads(crew.get("/api/v1/explain?client_id=explained").text)
        assert answer["codes"] == ["well"]
        assert answer["session"]["node"] == node_of(crew, "explained")
        assert [each["filter"] for each in answer["connection"]["subscriptions"]] == ["explained/t"]
        (direct,) = json.loads(crew.get("/api/v1/explain?topic=explained/t").text)["direct"]
        assert direct["client_id"] == "explained"


def _states(crew: NodeProcess) -> dict[str, bool]:
    """Which nodes live and have said where they listen."""
    nodes = json.loads(crew.get("/api/v1/nodes").text)["nodes"]
    return {node["name"]: node["alive"] and bool(node["listen"]) for node in nodes}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_go_from_worker_to_worker(crew: NodeProcess, qos: int) -> None:
    _, subscriber = connected_to(crew, "crew-1", f"subscriber-{qos}-")
    _, publisher = connected_to(crew, "crew-2", f"publisher-{qos}-")
    with subscriber, publisher:
        subscriber.subscribe(f"across/{qos}", qos=qos)
        publisher.publish(f"across/{qos}", b"hello", qos)
        assert subscriber.message().payload == b"hello"


def test_settings_reach_the_workers(tmp_path: Path) -> None:
    """From each source; and the password of Redis is nowhere that others may look. Each waits for its
    durability level by itself, which holds up no stop."""
    config = tmp_path / "c.toml"
    config.write_text("[node]\nlog_level = 'debug'\n[limits]\nconnections_maximum = 1\n")
    environment = {
        "MOORLINE_NODE__WORKERS": "2",
        "MOORLINE_NODE__NAME": "crew",
        "MOORLINE_NODE__DURABILITY": "replicated",
    }
    with running_redis(tmp_path / "redis") as server:
        with server.client() as client:
            client.config_set("requirepass", "secret-word")
        url = server.url.replace("//", "//:secret-word@")
        environment["MOORLINE_REDIS__URL"] = url
        flags = ("--config", str(config), "--prefix", "other:")
        with running_node(tmp_path, *flags, environment=environment) as crew:
            wait_until(lambda: samples_of(crew, "moorline_connections_limit") == dict.fromkeys(NAMES, 1.0))
            assert set(workers_of(crew)) == NAMES
            assert not any(
                "secret-word" in " ".join(worker.cmdline()) for worker in workers_of(crew).values()
            )
            with connected(crew.port, "held") as client:
                client.send(Publish("t", b"", 1, False, False, 1, None))
                wait_until(
                    lambda: sorted(samples_of(crew, "moorline_durability_waiting").values()) == [0.0, 1.0]
                )
                assert client.ping() == []
                assert crew.stop() == 0
            assert "secret-word" not in crew.output()
