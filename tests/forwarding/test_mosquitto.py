"""A bridge to another implementation."""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Properties
from tests.forwarding.conftest import forward, shown, wait_running, wait_until
from tests.node.harness import running_node
from tests.node.wire import HOUR, WireClient
from tests.ports import free_port
from tests.tools import require_tool

PASSWORD = "of the bridge"
SECONDS = 10.0


class Mosquitto:
    """One that keeps its sessions, when it is told to; with a password, and what its user may do."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        passwords = directory / "passwords"
        passwords.touch(0o600)
        subprocess.run(
            [require_tool("mosquitto_passwd"), "-b", str(passwords), "bridge", PASSWORD], check=True
        )
        (directory / "rules").write_text(
            "topic readwrite #\nuser bridge\ntopic readwrite #\ntopic deny forbidden\n"
        )
        (directory / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npassword_file {passwords}\n"
            f"acl_file {directory}/rules\npersistence true\npersistence_location {directory}/\nuser root\n"
        )

    def start(self) -> None:
        """With what was saved."""
        self._process = subprocess.Popen(
            [require_tool("mosquitto"), "-c", str(self._directory / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def save(self) -> None:
        """Its sessions."""
        assert self._process is not None
        file = self._directory / "mosquitto.db"
        file.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + SECONDS
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.1)  # it is written under its name

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(SECONDS)
            self._process = None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """It is up."""
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("version", ["5.0", "3.1.1"])
def test_both_ways_with_a_kill(mosquitto: Mosquitto, tmp_path: Path, version: str) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    level = MQTT_5 if version == "5.0" else MQTT_3_1_1
    environment = forward(
        "it",
        kind="mqtt",
        url=f"mqtt://127.0.0.1:{mosquitto.port}",
        version=version,
        topics="out/#,forbidden",
        in_topics="in/#",
        qos=2,
        in_qos=2,
        username="bridge",
        password_file=password,
        retry_seconds_maximum=0.5,
    )
    properties = HOUR if level == MQTT_5 else None
    with running_node(tmp_path, environment=environment) as node:
        wait_running(node, "it")
        with WireClient(mosquitto.port, level) as there, WireClient(node.port) as here:
            here.connect("here", properties=HOUR)
            here.subscribe("in/#", qos=2)
            there.connect("there", clean_start=False, properties=properties)
            there.subscribe("out/#", qos=2)
            with WireClient(node.port) as publisher:
                publisher.connect("publisher")
                for qos in (0, 1, 2):
                    publisher.publish("out/x", b"%d" % qos, qos, properties=Properties(content_type="t"))
                assert there.payloads(3) == [b"0", b"1", b"2"]
                there.ping()
                mosquitto.save()
                mosquitto.kill()
                for number in range(40):
                    publisher.publish("out/x", b"%d" % number, 1 + number % 2)
                wait_until(
                    node,
                    "it",
                    lambda status: status["waiting"] == 40 and "no connection" in status["last_error"],
                )
                mosquitto.start()
            with WireClient(mosquitto.port, level) as again:
                again.connect("there", clean_start=False, properties=properties)
                _are_all(again.payloads(40))
            with WireClient(mosquitto.port, level) as publisher:
                publisher.connect("publisher")
                for number in range(20):
                    publisher.publish("in/x", b"%d" % number, 1 + number % 2)
            _are_all(here.payloads(20))
        wait_until(node, "it", lambda status: (status["sent"], status["waiting"]) == (43, 0))
        assert shown(node, "it")["received"] == 20


def _are_all(payloads: list[bytes]) -> None:
    """Each once; in order at each QoS, as mosquitto delivers QoS 2 when the handshake has ended."""
    numbers = [int(payload) for payload in payloads]
    for qos in (0, 1):
        assert [number for number in numbers if number % 2 == qos] == list(range(qos, len(numbers), 2))


def test_what_the_other_refuses_becomes_a_dead_letter(mosquitto: Mosquitto, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    environment = forward(
        "it",
        kind="mqtt",
        url=f"mqtt://127.0.0.1:{mosquitto.port}",
        topics="#",
        qos=2,
        username="bridge",
        password_file=password,
    )
    with running_node(tmp_path, environment=environment) as node:
        wait_running(node, "it")
        with WireClient(node.port) as publisher:
            publisher.connect("publisher")
            for qos in (1, 2):
                publisher.publish("forbidden", b"", qos)
            publisher.publish("fine", b"", 1)
        wait_until(node, "it", lambda status: (status["sent"], status["refused"]) == (1, 2))
        assert shown(node, "it")["last_error"] == "refused: not authorized"


def test_a_wrong_password_is_told(mosquitto: Mosquitto, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    url = f"mqtt://127.0.0.1:{mosquitto.port}"
    fields = {"kind": "mqtt", "url": url, "topics": "t", "username": "bridge", "password_file": password}
    environment = forward("five", **fields) | forward("three", version="3.1.1", **fields)
    with running_node(tmp_path, environment=environment) as node:
        wait_until(node, "five", lambda status: status["last_error"] == "refused: not authorized")
        wait_until(node, "three", lambda status: status["last_error"] == "refused: not authorized")
        assert shown(node, "five")["state"] == "waiting"
