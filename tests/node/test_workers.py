"""Several nodes in one command, as a person starts it: real processes, killed for real."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import httpx
import psutil
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from broker import build_mode
from broker.mqtt import Publish, ReasonCode
from broker.supervisor.crew import ASK_TIMEOUT_SECONDS
from cluster.store import keys
from tests.cluster.following import following
from tests.node.harness import NodeProcess, refused_start, running_node
from tests.node.redis_server import RedisServer, free_port, running_redis
from tests.node.wire import HOUR, WireClient, connected
from tests.tools import NO_TLS

REFUSED = 2
CLIENTS = 40
NAMES = {"crew-1", "crew-2"}
AT_ONCE_SECONDS = 7.0  # a node that waits for something takes 10
pytestmark = [
    pytest.mark.usefixtures("executed"),
    pytest.mark.timeout(60),  # each starts three processes or more; the machine may be busy
]
TWO = ("--workers", "2", "--node-name", "crew")


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Two workers that nobody kills."""
    with running_node(tmp_path_factory.mktemp("crew"), *TWO) as crew:
        yield crew


def _wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def _workers(crew: NodeProcess) -> dict[str, psutil.Process]:
    """The processes of the workers, by their names."""
    found = {}
    for child in psutil.Process(crew.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            command = child.cmdline()
            if command[-2:-1] == ["worker"]:
                found[command[-1]] = child
    return found


def _family(crew: NodeProcess) -> list[psutil.Process]:
    """Everything that has to be gone when it ends."""
    return psutil.Process(crew.pid).children(recursive=True)


def _node_of(crew: NodeProcess, client_id: str) -> str:
    """The worker that took this client's last connection."""
    events = [event for event in crew.events("connected") if event["client_id"] == client_id]
    return str(events[-1]["node_id"])


def _connected_to(crew: NodeProcess, name: str, prefix: str) -> tuple[str, WireClient]:
    """A client with a persistent session on this worker, and its id; the kernel chooses, so we try."""
    for attempt in range(100):
        client_id = f"{prefix}{attempt}"
        client = connected(crew.port, client_id, properties=HOUR)
        _wait_until(partial(_is_logged, crew, client_id))
        if _node_of(crew, client_id) == name:
            return client_id, client
        client.close()
    raise AssertionError(f"no connection reaches {name}")


def _is_logged(crew: NodeProcess, client_id: str) -> bool:
    return any(event["client_id"] == client_id for event in crew.events("connected"))


def _samples(crew: NodeProcess, name: str) -> dict[str, float]:
    """The values of a metric, by worker; "" is the parent's own."""
    return {
        sample.labels.get("worker", ""): sample.value
        for family in text_string_to_metric_families(crew.get("/metrics").text)
        for sample in family.samples
        if sample.name == name
    }


def _members(client: redis.Redis) -> set[str]:
    """Incarnations."""
    return {name.decode() for name in cast(list[bytes], client.zrange(keys.nodes("mq:"), 0, -1))}


# Together


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
        _wait_until(lambda: sum(_samples(crew, "moorline_connections").values()) == CLIENTS)
        connections = _samples(crew, "moorline_connections")
        assert set(connections) == NAMES
        assert min(connections.values()) >= 1  # all on one of two: once in 2^39 runs
        by_log = Counter(str(event["node_id"]) for event in crew.events("connected"))
        assert set(by_log) == NAMES


def test_each_worker_is_a_node_of_its_own(crew: NodeProcess) -> None:
    """The parent is none."""
    with crew.redis() as client:
        members = _members(client)
    assert sorted(member.rpartition(".")[0] for member in members) == sorted(NAMES)


def test_metrics_are_those_of_all_workers(crew: NodeProcess) -> None:
    assert _samples(crew, "moorline_worker_up") == dict.fromkeys(NAMES, 1.0)
    assert set(_samples(crew, "moorline_event_loop_lag_seconds_count")) == NAMES
    memory = _samples(crew, "process_resident_memory_bytes")
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
    _wait_until(lambda: _states(crew) == dict.fromkeys(NAMES, True))
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
    _wait_until(lambda: _states(crew) == dict.fromkeys(NAMES, True))
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
    _wait_until(lambda: _states(crew) == dict.fromkeys(NAMES, True))
    names = sorted(NAMES)
    held = [_connected_to(crew, name, f"listed-{name}-") for name in names]
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
    assert {each["node"] for each in seen.of("event")} <= set(_workers(crew))


def test_the_parent_explains_what_a_worker_knows(crew: NodeProcess) -> None:
    _wait_until(lambda: _states(crew) == dict.fromkeys(NAMES, True))
    with connected(crew.port, "explained") as client:
        client.subscribe("explained/t", qos=1)
        answer = json.loads(crew.get("/api/v1/explain?client_id=explained").text)
        assert answer["codes"] == ["well"]
        assert answer["session"]["node"] == _node_of(crew, "explained")
        assert [each["filter"] for each in answer["connection"]["subscriptions"]] == ["explained/t"]
        (direct,) = json.loads(crew.get("/api/v1/explain?topic=explained/t").text)["direct"]
        assert direct["client_id"] == "explained"


def _states(crew: NodeProcess) -> dict[str, bool]:
    """Which nodes live and have said where they listen."""
    nodes = json.loads(crew.get("/api/v1/nodes").text)["nodes"]
    return {node["name"]: node["alive"] and bool(node["listen"]) for node in nodes}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_go_from_worker_to_worker(crew: NodeProcess, qos: int) -> None:
    _, subscriber = _connected_to(crew, "crew-1", f"subscriber-{qos}-")
    _, publisher = _connected_to(crew, "crew-2", f"publisher-{qos}-")
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
            _wait_until(lambda: _samples(crew, "moorline_connections_limit") == dict.fromkeys(NAMES, 1.0))
            assert set(_workers(crew)) == NAMES
            assert not any("secret-word" in " ".join(worker.cmdline()) for worker in _workers(crew).values())
            with connected(crew.port, "held") as client:
                client.send(Publish("t", b"", 1, False, False, 1, None))
                _wait_until(
                    lambda: sorted(_samples(crew, "moorline_durability_waiting").values()) == [0.0, 1.0]
                )
                assert client.ping() == []
                assert crew.stop() == 0
            assert "secret-word" not in crew.output()


# A worker ends


def test_kill_of_a_worker(tmp_path: Path) -> None:
    """It is started again under another incarnation; the others' clients notice nothing; sessions go on."""
    with running_node(tmp_path, *TWO) as crew:
        lost_id, lost = _connected_to(crew, "crew-1", "lost-")
        _, stays = _connected_to(crew, "crew-2", "stays-")
        with lost, stays, crew.redis() as store:
            lost.subscribe("t", qos=1)
            before = _members(store)
            port = crew.port
            killed = _workers(crew)["crew-1"]
            killed.kill()
            lost.wait_closed()
            killed.wait(10)  # before that a connection may still be given to it, and reset
            assert stays.ping() == []
            with connected(port, "publisher") as publisher:
                assert publisher.publish("t", b"while away", 1) == 0
            _wait_until(lambda: _samples(crew, "moorline_worker_restarts_total").get("crew-1") == 1.0)
            _wait_until(lambda: _samples(crew, "moorline_worker_up") == dict.fromkeys(NAMES, 1.0))
            assert stays.ping() == []
            with WireClient(port) as again:
                assert again.connect(lost_id, clean_start=False, properties=HOUR).session_present
                assert again.message().payload == b"while away"
            (new,) = _members(store) - before
            assert new.startswith("crew-1.")
            (event,) = crew.events("worker ended: starting it again")
            assert (event["worker"], event["pid"]) == ("crew-1", killed.pid)
            assert event["ending"] == "signal SIGKILL"
            assert event["node_id"] == "crew"
            _, new_client = _connected_to(crew, "crew-1", "new-")
            new_client.close()
        assert crew.stop() == 0


def test_worker_that_is_told_to_stop_is_replaced(tmp_path: Path) -> None:
    """So nodes can be restarted one by one; clients are told."""
    with running_node(tmp_path, *TWO) as crew:
        _, client = _connected_to(crew, "crew-2", "client-")
        with client:
            _workers(crew)["crew-2"].terminate()
            assert client.wait_refused() == ReasonCode.SERVER_SHUTTING_DOWN
        _wait_until(lambda: _samples(crew, "moorline_worker_restarts_total").get("crew-2") == 1.0)
        _wait_until(lambda: _samples(crew, "moorline_worker_up") == dict.fromkeys(NAMES, 1.0))


def test_drain_of_a_worker_by_way_of_the_parent(tmp_path: Path) -> None:
    """Its clients are sent away, nobody else's; then there is a new one in its place."""
    with running_node(tmp_path, *TWO) as crew:
        _, client = _connected_to(crew, "crew-1", "client-")
        _, stays = _connected_to(crew, "crew-2", "stays-")
        with client, stays:
            answer = crew.post("/api/v1/nodes/crew-1/drain", {})
            assert answer.status == 202, answer.text
            drained = json.loads(answer.text)["incarnation"]
            assert client.wait_refused() == ReasonCode.SERVER_SHUTTING_DOWN
            _wait_until(lambda: _samples(crew, "moorline_worker_restarts_total").get("crew-1") == 1.0)
            _wait_until(lambda: _samples(crew, "moorline_worker_up") == dict.fromkeys(NAMES, 1.0))
            assert stays.ping() == []
            with crew.redis() as store:
                assert drained not in _members(store)


def test_worker_that_hangs_is_shown(tmp_path: Path) -> None:
    """It neither holds up the figures of the others nor is it ready; without any, the whole is not."""
    with running_node(tmp_path, *TWO) as crew:
        first, second = (_workers(crew)[name] for name in ("crew-1", "crew-2"))
        first.suspend()
        try:
            start = time.monotonic()
            assert crew.get("/readyz").status == 200
            assert time.monotonic() - start < ASK_TIMEOUT_SECONDS
            page = crew.get("/metrics").text.splitlines()
            assert 'moorline_worker_up{worker="crew-1"} 0.0' in page
            assert 'moorline_worker_up{worker="crew-2"} 1.0' in page
            assert [line for line in page if line.startswith("moorline_connections{")] == [
                'moorline_connections{worker="crew-2"} 0.0'
            ]
            second.suspend()
            probe = crew.get("/readyz")
            assert probe.status == 503
            assert "no worker is ready" in probe.text
            assert "crew-1: does not answer" in probe.text
        finally:
            first.resume()
            second.resume()
        crew.wait_ready(200)


# The command ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(tmp_path: Path, number: signal.Signals) -> None:
    """Workers tell their clients; nothing is left, not even the private Redis; exit code 0."""
    with running_node(tmp_path, *TWO) as crew:
        family = _family(crew)
        assert len(family) == 3
        with connected(crew.port, "client") as client, connected(crew.port, "other") as other:
            crew.send_signal(number)
            assert client.wait_refused() == ReasonCode.SERVER_SHUTTING_DOWN
            assert other.wait_refused() == ReasonCode.SERVER_SHUTTING_DOWN
        assert crew.wait() == 0
        assert not [process for process in family if process.is_running()]
        assert len(crew.events("stopped")) == 3
        assert not crew.events("worker ended: starting it again")
        with socket.create_server(("127.0.0.1", crew.port)):
            pass  # nobody has the port any more


def test_signal_to_all_processes_at_once(tmp_path: Path) -> None:
    """What systemd does: a worker hears of it twice, and still stops in order."""
    with (
        running_redis(tmp_path / "redis") as server,
        running_node(tmp_path, *TWO, "--redis", server.url) as crew,
    ):
        with connected(crew.port, "client", properties=HOUR):
            for process in [psutil.Process(crew.pid), *_workers(crew).values()]:
                process.terminate()
            assert crew.wait() == 0
        assert "second signal" not in crew.output()
        with server.client() as client:
            assert not _members(client)


def test_ctrl_c_is_for_the_parent(tmp_path: Path) -> None:
    """It goes to the whole process group, where no worker is."""
    with running_node(tmp_path, *TWO) as crew:
        groups = {os.getpgid(worker.pid) for worker in _workers(crew).values()}
        assert os.getpgid(crew.pid) not in groups
        assert len(groups) == 2


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path / "redis") as server,
        running_node(tmp_path, *TWO, "--redis", server.url) as crew,
        connected(crew.port, "client", properties=HOUR),
    ):
        family = _family(crew)
        server.freeze()
        crew.send_signal(signal.SIGTERM)
        crew.wait_for('"stopping"')
        time.sleep(0.3)
        assert crew.is_running()
        start = time.monotonic()
        crew.send_signal(signal.SIGTERM)
        assert crew.wait() == 1
        assert time.monotonic() - start < AT_ONCE_SECONDS
        assert not [process for process in family if process.is_running()]


def test_stop_with_a_worker_that_hangs(tmp_path: Path) -> None:
    """It is not waited for without end."""
    environment = {"MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "0.5"}
    with running_node(tmp_path, *TWO, environment=environment) as crew:
        family = _family(crew)
        _workers(crew)["crew-1"].suspend()
        assert crew.stop() == 0
        assert not [process for process in family if process.is_running()]
        assert len(crew.events("not every worker has ended within 5.5 s: killed")) == 1


def test_kill_of_the_parent(tmp_path: Path) -> None:
    """Workers and private Redis end by themselves, clients are told, and the next one finds its data."""
    environment = {"MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "1"}
    with running_node(tmp_path, *TWO, environment=environment) as crew:
        with connected(crew.port, "s", properties=HOUR) as subscriber:
            subscriber.subscribe("t", qos=1)
        with connected(crew.port, "p") as publisher:
            publisher.publish("t", b"stored", 1)
        family = _family(crew)
        sockets = _socket_directory(_workers(crew)["crew-1"])
        assert sockets.is_dir()
        with connected(crew.port, "client") as client:
            crew.kill()
            assert client.wait_refused() == ReasonCode.SERVER_SHUTTING_DOWN
        _, alive = psutil.wait_procs(family, timeout=8.0)
        assert not alive
        assert not sockets.exists()
        crew.start()
        with WireClient(crew.port) as subscriber:
            assert subscriber.connect("s", clean_start=False, properties=HOUR).session_present
            assert subscriber.message().payload == b"stored"


def _socket_directory(worker: psutil.Process) -> Path:
    """Where its parent asks it."""
    (path,) = {
        connection.laddr
        for connection in worker.net_connections("unix")
        if connection.laddr and re.search(r"/moorline-[^/]+/\d+$", str(connection.laddr))
    }
    return Path(str(path)).parent


# No start


def test_port_taken(tmp_path: Path) -> None:
    """By a stranger, by a single node, by other workers: one message, and no process stays."""
    with running_node(tmp_path, *TWO) as crew, socket.create_server(("127.0.0.1", 0)) as taken:
        for number, port in enumerate([taken.getsockname()[1], crew.port, crew.admin_port]):
            address = f"127.0.0.1:{port}"
            code, output = refused_start(tmp_path / str(number), *TWO, "--listen", address)
            assert code == REFUSED, output
            assert output.splitlines() == [f"moorline: can't listen on {address}: Address already in use"]
        code, output = refused_start(tmp_path / "single", "--listen", f"127.0.0.1:{crew.port}")
        assert code == REFUSED, output
        code, output = refused_start(tmp_path / "admin", *TWO, "--admin", f"127.0.0.1:{crew.admin_port}")
        assert code == REFUSED, output
        with connected(crew.port, "client") as client:
            assert client.ping() == []


def test_mistakes_are_told_once(tmp_path: Path) -> None:
    """Settings, data directory, Redis: by the parent, before there is any worker."""
    (tmp_path / "file").write_text("")
    for flags in (
        ("--workers", "0"),
        ("--workers", "2", "--data-dir", str(tmp_path / "file")),
        ("--workers", "2", "--redis", "memcached://127.0.0.1:1"),
    ):
        code, output = refused_start(tmp_path, *flags)
        assert code == REFUSED, output
        (line,) = output.splitlines()
        assert line.startswith("moorline: ")


def test_redis_unreachable_at_start(tmp_path: Path) -> None:
    """The parent waits, alone, and says so; then the workers start."""
    environment = {"MOORLINE_REDIS__CONNECT_RETRY_SECONDS": "0.3"}
    server = RedisServer(tmp_path / "redis")
    crew = NodeProcess(tmp_path, *TWO, "--redis", server.url, environment=environment)
    crew.admin_port = free_port()
    try:
        crew.launch()
        crew.wait_for(r"(waiting for Redis[^\n]*\n[^\n]*){2}")
        assert not _workers(crew)
        assert crew.get("/healthz").status == 200
        assert "redis: not reached yet" in crew.get("/readyz").text
        assert _samples(crew, "moorline_worker_up") == dict.fromkeys(NAMES, 0.0)
        server.start()
        crew.wait_until_up()
        crew.wait_ready(200)
        server.kill()
        probe = crew.wait_ready(503)
        assert "redis: " in probe.text
        server.start()
        crew.wait_ready(200)
    finally:
        crew.close()
        server.close()


def test_stop_while_redis_is_waited_for(tmp_path: Path) -> None:
    crew = NodeProcess(tmp_path, *TWO, "--redis", f"redis://127.0.0.1:{free_port()}")
    try:
        crew.launch()
        crew.wait_for("waiting for Redis")
        start = time.monotonic()
        assert crew.stop() == 0
        assert time.monotonic() - start < AT_ONCE_SECONDS
    except subprocess.TimeoutExpired as error:
        raise AssertionError(crew.output()) from error
    finally:
        crew.close()
