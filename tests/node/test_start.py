"""How a node starts, as a person starts it; or says why it can't, or is told to stop."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from broker import build_mode
from broker.mqtt import MQTT_3_1_1, ReasonCode
from tests.node.harness import NodeProcess, execute, refused_start, running_node
from tests.node.model import Publisher, Subscriber
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import WireClient, connected
from tests.ports import free_port

REFUSED = 2
AT_ONCE_SECONDS = 7.0  # a node that waits for something takes 10


def _complaint(output: str) -> str:
    """What a person reads who started a node that can't start: one line, no traceback."""
    assert "Traceback" not in output, output
    lines = [line for line in output.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, output
    assert lines[0].startswith("moorline: "), output
    return lines[0]


def test_start_output(tmp_path: Path) -> None:
    """Where it listens, which Redis, which mode."""
    with running_node(tmp_path, "--node-name", "alpha", starter=execute) as node:
        lines = [line for line in node.output().splitlines() if not line.startswith("{")]
        assert lines[0].startswith("moorline ")
        assert f"({build_mode()})" in lines[0]
        assert "alpha" in lines[0]
        assert lines[1].split() == ["mqtt", f"127.0.0.1:{node.port}"]
        assert lines[2].split() == ["admin", f"http://127.0.0.1:{node.admin_port}"]
        assert lines[3].split()[:2] == ["redis", "private"]
        assert len(lines) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(tmp_path: Path, number: signal.Signals) -> None:
    """Clients are told, the private Redis ends, exit code 0, and nothing acknowledged is lost."""
    with running_node(tmp_path, starter=execute) as node:
        with Subscriber(node, "away") as away:
            away.subscribe("t", 2)
            away.lose()
            with (
                connected(node.port, "five") as five,
                connected(node.port, "four", MQTT_3_1_1) as four,
                Publisher(node, "publisher") as publisher,
            ):
                publisher.publish([("t", b"%d" % i) for i in range(100)], 2)
                publisher.publish([("kept", b"kept")], 1, retain=True)
                redis_pid = node.redis_pid()
                node.send_signal(number)
                assert five.wait_refused() == ReasonCode.SERVER_SHUTTING_DOWN
                assert four.wait_closed() == []
            assert node.wait() == 0
            assert not psutil.pid_exists(redis_pid)
            with pytest.raises(ConnectionRefusedError):
                WireClient(node.port)
            node.start()
            away.receive(100)
            away.receive_no_more()
            assert away.received == [b"%d" % i for i in range(100)]
        with connected(node.port, "late") as late:
            late.subscribe("kept")
            assert late.message().payload == b"kept"


# Refusing to start


def test_port_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, output = refused_start(tmp_path, "--listen", address)
        assert code == REFUSED, output
        assert address in _complaint(output)
        code, output = refused_start(tmp_path, "--admin", address)
        assert code == REFUSED, output
        assert address in _complaint(output)


def test_unusable_data_directory(tmp_path: Path) -> None:
    """A file in its place, and a file in the way to it."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        code, output = refused_start(tmp_path, "--data-dir", str(path))
        assert code == REFUSED, output
        assert str(path) in _complaint(output)


def test_data_directory_of_another_node(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        code, output = refused_start(tmp_path / "second", "--data-dir", str(node.data_dir))
        assert code == REFUSED, output
        complaint = _complaint(output)
        assert str(node.data_dir) in complaint
        assert str(node.pid) in complaint
        with connected(node.port, "client") as client:
            assert client.ping() == []


def test_bad_settings(tmp_path: Path) -> None:
    """All of them in one message, each by its name."""
    environment = {"MOORLINE_SESSION__QUEUE_LIMIT": "0", "MOORLINE_MQTT__RECIEVE_MAXIMUM": "7"}
    code, output = refused_start(tmp_path, "--prefix", "{", "--redis", "http://x", environment=environment)
    assert code == REFUSED, output
    assert "Traceback" not in output
    for setting in ("session.queue_limit", "MOORLINE_MQTT__RECIEVE_MAXIMUM", "redis.prefix", "redis.url"):
        assert setting in output


def test_public_address_needs_a_word(tmp_path: Path) -> None:
    code, output = refused_start(tmp_path, "--listen", "0.0.0.0:0")
    assert code == REFUSED, output
    assert "--allow-anonymous" in _complaint(output)


class _FakeRedis:
    """Answers every command with the same bytes, except HELLO, which old servers don't know."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                while chunk := connection.recv(65_536):
                    unknown = b"HELLO" in chunk.upper()
                    connection.sendall(b"-ERR unknown command 'HELLO'\r\n" if unknown else self._answer)


@pytest.fixture
def old_redis() -> Iterator[_FakeRedis]:
    text = b"# Server\r\nredis_version:6.2.14\r\nredis_mode:standalone\r\nrole:master\r\nloading:0\r\n"
    fake = _FakeRedis(b"$%d\r\n%s\r\n" % (len(text), text))
    yield fake
    fake.close()


def test_too_old_redis(tmp_path: Path, old_redis: _FakeRedis) -> None:
    code, output = refused_start(tmp_path, "--redis", old_redis.url)
    assert code == REFUSED, output
    complaint = _complaint(output)
    assert "6.2.14" in complaint
    assert "7.0" in complaint


def test_wrong_password(tmp_path: Path) -> None:
    """Waiting would not help; the password is not repeated."""
    with running_redis(tmp_path / "redis") as server:
        with server.client() as client:
            client.config_set("requirepass", "right")
        url = server.url.replace("//", "//:wrong-secret@")
        code, output = refused_start(tmp_path, "--redis", url)
        assert code == REFUSED, output
        assert "wrong-secret" not in output
        _complaint(output)


def test_redis_unreachable_at_start(tmp_path: Path) -> None:
    """A line every few seconds, `/readyz` false; it starts as soon as Redis is there."""
    environment = {"MOORLINE_REDIS__CONNECT_RETRY_SECONDS": "0.3"}
    server = RedisServer(tmp_path / "redis")
    node = NodeProcess(tmp_path, "--redis", server.url, environment=environment)
    node.admin_port = free_port()
    try:
        node.launch()
        node.wait_for(r"(waiting for Redis[^\n]*\n[^\n]*){2}")
        assert node.get("/healthz").status == 200
        probe = node.get("/readyz")
        assert probe.status == 503
        assert "redis" in probe.text
        server.start()
        node.wait_until_up()
        assert node.wait_ready(200).status == 200
        with connected(node.port, "client") as client:
            assert client.ping() == []
    finally:
        node.close()
        server.close()


def test_stop_while_redis_is_waited_for(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path, "--redis", f"redis://127.0.0.1:{free_port()}")
    try:
        node.launch()
        node.wait_for("waiting for Redis")
        start = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - start < AT_ONCE_SECONDS
    finally:
        node.close()


def test_a_file_of_users_with_mistakes(tmp_path: Path) -> None:
    """All of them, before Redis is looked for, and nothing of what is in there."""
    file = tmp_path / "file"
    file.write_text("ann:open-sesame\nbob\n")
    code, output = refused_start(tmp_path / "node", environment={"MOORLINE_AUTH__PASSWORD_FILE": str(file)})
    assert code == REFUSED, output
    assert all(f"line {number}: no argon2id hash" in output for number in (1, 2))
    assert "sesame" not in output
    assert "Traceback" not in output
