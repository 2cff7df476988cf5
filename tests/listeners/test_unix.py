"""Unix sockets: real clients, who may open them, and what becomes of the file."""

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from broker.errors import StartError
from broker.listeners.unix import bind_unix
from tests.e2e.program import SECONDS, Program
from tests.listeners.conftest import metric_of
from tests.listeners.edge import PLACES, Edge
from tests.listeners.proxy_headers import HEALTH_CHECK, V4, binary_header
from tests.listeners.subscribed import subscribed
from tests.node.harness import NodeProcess, refused_start
from tests.node.wire import WireClient
from tests.tools import require_tool

REFUSED = 2


def test_mosquitto(edge: Edge, name: str) -> None:
    topic = f"all/{name}"
    options = ["--unix", str(edge.sockets["unix"]), "-i", name, "-t", topic]
    buffered = [require_tool("stdbuf"), "-oL", require_tool("mosquitto_sub"), "-d", "-q", "2"]
    with Program([*buffered, *options]) as subscriber:
        subscriber.wait_for("Subscribed (mid: 1)")
        options[3] += "-publisher"
        publish = [require_tool("mosquitto_pub"), *options, "-q", "2", "-m", "hello"]
        subprocess.run(publish, check=True, timeout=SECONDS)
        assert subscriber.wait_for("hello") == "hello"
        assert metric_of(edge.node, "moorline_listener_connections", listener="unix") == 1
    assert edge.peer_of(name) == "unix"


def test_paho(edge: Edge, name: str) -> None:
    topic = f"all/{name}"
    with subscribed(name, topic, str(edge.sockets["unix"]), transport="unix") as it:
        it.echo(topic, bytes(100_000))


def test_such_clients_are_nowhere_to_rules(edge: Edge, name: str) -> None:
    with WireClient(0, carrier=edge.by_unix()) as client:
        assert client.connect(name).reason_code == 0
        codes = client.subscribe(*(f"from/{place}/x" for place in PLACES)).reason_codes
        assert codes == [0x87, 0x87, 0x87, 0x87, 0]


def test_a_proxy_may_say_where_they_are(edge: Edge, name: str) -> None:
    for header, shown in ((binary_header(V4, 4711), f"unix:{V4}:4711"), (HEALTH_CHECK, "unix")):
        client_id = f"{name}-{len(header)}"
        connection = edge.by_unix("unix-proxied")
        connection.sendall(header)
        with WireClient(0, carrier=connection) as client:
            assert client.connect(client_id).reason_code == 0
        assert edge.peer_of(client_id) == shown


def test_who_may_open_it(edge: Edge) -> None:
    modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in edge.sockets.items()}
    assert modes == {"unix": 0o660, "unix-proxied": 0o600}


# The file


def test_the_file_of_a_living_node_is_not_replaced(edge: Edge, tmp_path: Path) -> None:
    path = edge.sockets["unix"]
    variables = {"MOORLINE_LISTENERS__LOCAL__ADDRESS": f"unix://{path}"}
    code, output = refused_start(tmp_path, environment=variables)
    assert (code, f"can't listen on {path}: another process does" in output) == (REFUSED, True)
    edge.by_unix().close()


def test_the_file_of_a_killed_node_is_replaced_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"
    node = NodeProcess(tmp_path, environment={"MOORLINE_LISTENERS__LOCAL__ADDRESS": f"unix://{path}"})
    try:
        node.start()
        node.kill()
        assert path.exists()
        node.start()
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(path))
            with WireClient(0, carrier=plain) as client:
                assert client.connect("c").reason_code == 0
        assert node.stop() == 0
        assert not path.exists()
    finally:
        node.close()


def test_what_is_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("of somebody")
    with pytest.raises(StartError, match="there is a file, which is no socket"):
        bind_unix(str(path), 0o660)
    assert path.read_text() == "of somebody"
    with pytest.raises(StartError, match="No such file or directory"):
        bind_unix(str(tmp_path / "none" / "mqtt.sock"), 0o660)


def test_a_full_queue_is_a_sign_of_life(tmp_path: Path) -> None:
    path = str(tmp_path / "mqtt.sock")
    bound = bind_unix(path, 0o660)
    with bound.socket as listening:
        listening.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            with pytest.raises(StartError, match="another process does"):
                bind_unix(path, 0o660)


def test_only_the_own_file_is_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "mqtt.sock")
    first = bind_unix(path, 0o660)
    second = bind_unix(path, 0o660)  # the first does not listen
    first.remove()
    assert os.path.exists(path)
    second.remove()
    second.remove()
    assert not os.path.exists(path)
    first.socket.close()
    second.socket.close()


def test_nothing_is_left_of_one_that_never_listened(tmp_path: Path) -> None:
    bound = bind_unix(str(tmp_path / "mqtt.sock"), 0o660)
    with pytest.raises(OverflowError), bound.removed_on_error():
        raise OverflowError
    assert list(tmp_path.iterdir()) == []
    assert bound.socket.fileno() < 0
