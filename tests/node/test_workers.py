"""Several nodes in one command, as a person starts it: parents and workers end, are killed, do not start."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from broker.mqtt import ReasonCode
from broker.supervisor.crew import ASK_TIMEOUT_SECONDS
from tests.node.crew import (
    NAMES,
    TWO,
    connected_to,
    family_of,
    members_of,
    restarts_of,
    samples_of,
    wait_for_replacement,
    wait_until,
    workers_of,
)
from tests.node.harness import NodeProcess, execute, refused_start, running_node
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient, connected
from tests.ports import free_port

REFUSED = 2
AT_ONCE_SECONDS = 7.0  # a node that waits for something takes 10
pytestmark = pytest.mark.timeout(60)  # each starts three processes or more; the machine may be busy


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Two workers to whom something happens; each test leaves two that are well."""
    with running_node(tmp_path_factory.mktemp("struck"), *TWO) as crew:
        yield crew


# A worker ends


def test_kill_of_a_worker(struck: NodeProcess) -> None:
    """It is started again under another incarnation; the others' clients notice nothing; sessions go on."""
    lost_id, lost = connected_to(struck, "crew-1", "lost-")
    _, stays = connected_to(struck, "crew-2", "stays-")
    with lost, stays, struck.redis() as store:
        lost.subscribe("t", qos=1)
        before = members_of(store)
        restarts = restarts_of(struck, "crew-1")
        killed = workers_of(struck)["crew-1"]
        killed.kill()
        lost.wait_closed()
        killed.wait(10)  # before that a connection may still be given to it, and reset
        assert stays.ping() == []
        with connected(struck.port, "publisher") as publisher:
            assert publisher.publish("t", b"while away", 1) == 0
        wait_for_replacement(struck, "crew-1", restarts)
        assert stays.ping() == []
        with WireClient(struck.port) as again:
            assert again.connect(lost_id, clean_start=False, properties=HOUR).session_present
            assert again.message().payload == b"while away"
        (new,) = members_of(store) - before
        assert new.startswith("crew-1.")
        ended = struck.events("worker ended: starting it again")
        (event,) = [event for event in ended if event["pid"] == killed.pid]
        assert (event["worker"], event["ending"]) == ("crew-1", "signal SIGKILL")
        assert event["node_id"] == "crew"
        _, new_client = connected_to(struck, "crew-1", "new-")
        new_client.close()
        wait_until(lambda: len(members_of(store)) == len(NAMES))  # until then its name may be that of two


def test_worker_that_is_told_to_stop_is_replaced(struck: NodeProcess) -> None:
    """So nodes can be restarted one by one; clients are told."""
    restarts = restarts_of(struck, "crew-2")
    _, client = connected_to(struck, "crew-2", "told-")
    with client:
        workers_of(struck)["crew-2"].terminate()
        assert client.wait_refused() == ReasonCode.SERVER_SHUTTING_DOWN
    wait_for_replacement(struck, "crew-2", restarts)


def test_drain_of_a_worker_by_way_of_the_parent(struck: NodeProcess) -> None:
    """Its clients are sent away, nobody else's; then there is a new one in its place."""
    restarts = restarts_of(struck, "crew-1")
    _, client = connected_to(struck, "crew-1", "drained-")
    _, stays = connected_to(struck, "crew-2", "unharmed-")
    with client, stays:
        answer = struck.post("/api/v1/nodes/crew-1/drain", {})
        assert answer.status == 202, answer.text
        drained = json.loads(answer.text)["incarnation"]
        assert client.wait_refused() == ReasonCode.SERVER_SHUTTING_DOWN
        wait_for_replacement(struck, "crew-1", restarts)
        assert stays.ping() == []
        with struck.redis() as store:
            assert drained not in members_of(store)


def test_worker_that_hangs_is_shown(struck: NodeProcess) -> None:
    """It neither holds up the figures of the others nor is it ready; without any, the whole is not."""
    struck.wait_ready(200)
    wait_until(lambda: samples_of(struck, "moorline_connections") == dict.fromkeys(NAMES, 0.0))
    first, second = (workers_of(struck)[name] for name in ("crew-1", "crew-2"))
    first.suspend()
    try:
        start = time.monotonic()
        assert struck.get("/readyz").status == 200
        assert time.monotonic() - start < ASK_TIMEOUT_SECONDS
        page = struck.get("/metrics").text.splitlines()
        assert 'moorline_worker_up{worker="crew-1"} 0.0' in page
        assert 'moorline_worker_up{worker="crew-2"} 1.0' in page
        assert [line for line in page if line.startswith("moorline_connections{")] == [
            'moorline_connections{worker="crew-2"} 0.0'
        ]
        second.suspend()
        probe = struck.get("/readyz")
        assert probe.status == 503
        assert "no worker is ready" in probe.text
        assert "crew-1: does not answer" in probe.text
    finally:
        first.resume()
        second.resume()
    struck.wait_ready(200)
    wait_until(lambda: samples_of(struck, "moorline_worker_up") == dict.fromkeys(NAMES, 1.0))


# The command ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(tmp_path: Path, number: signal.Signals) -> None:
    """Workers tell their clients; nothing is left, not even the private Redis; exit code 0."""
    with running_node(tmp_path, *TWO, starter=execute) as crew:
        family = family_of(crew)
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
            for process in [psutil.Process(crew.pid), *workers_of(crew).values()]:
                process.terminate()
            assert crew.wait() == 0
        assert "second signal" not in crew.output()
        with server.client() as client:
            assert not members_of(client)


def test_ctrl_c_is_for_the_parent(struck: NodeProcess) -> None:
    """It goes to the whole process group, where no worker is."""
    groups = {os.getpgid(worker.pid) for worker in workers_of(struck).values()}
    assert os.getpgid(struck.pid) not in groups
    assert len(groups) == 2


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path / "redis") as server,
        running_node(tmp_path, *TWO, "--redis", server.url) as crew,
        connected(crew.port, "client", properties=HOUR),
    ):
        family = family_of(crew)
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
        family = family_of(crew)
        workers_of(crew)["crew-1"].suspend()
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
        family = family_of(crew)
        sockets = _socket_directory(workers_of(crew)["crew-1"])
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


def test_port_taken(struck: NodeProcess, tmp_path: Path) -> None:
    """By a stranger, by a single node, by other workers: one message, and no process stays."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for number, port in enumerate([taken.getsockname()[1], struck.port, struck.admin_port]):
            address = f"127.0.0.1:{port}"
            code, output = refused_start(tmp_path / str(number), *TWO, "--listen", address)
            assert code == REFUSED, output
            assert output.splitlines() == [f"moorline: can't listen on {address}: Address already in use"]
        code, output = refused_start(tmp_path / "single", "--listen", f"127.0.0.1:{struck.port}")
        assert code == REFUSED, output
        code, output = refused_start(tmp_path / "admin", *TWO, "--admin", f"127.0.0.1:{struck.admin_port}")
        assert code == REFUSED, output
        with connected(struck.port, "client") as client:
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
        assert not workers_of(crew)
        assert crew.get("/healthz").status == 200
        assert "redis: not reached yet" in crew.get("/readyz").text
        assert samples_of(crew, "moorline_worker_up") == dict.fromkeys(NAMES, 0.0)
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
