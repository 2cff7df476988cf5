"""`moorline ctl trace` and `events`: the lines, and the commands against a real node."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from broker.ctl_trace import event_line, left_out_line, packet_line
from broker.mqtt import Publish
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import WireClient, connected

AT = "2026-11-26T21:37:46.565Z"
HEAD = {"at": AT, "node": "alpha", "client_id": "lamp-7"}
SECONDS = 10.0


@pytest.mark.parametrize(
    ("packet", "line"),
    [
        (
            {
                "direction": "in",
                "packet": "PUBLISH",
                "topic": "home/lamp 7",
                "qos": 1,
                "retain": True,
                "dup": False,
                "bytes": 4,
                "packet_id": 3,
                "payload": "on",
                "properties": {"content_type": "text", "user_property": [["k", "v"]]},
            },
            'RECV lamp-7 PUBLISH "home/lamp 7" qos=1 retain 4 bytes packet_id=3 payload=on content_type=text'
            ' user_property=[["k", "v"]]',
        ),
        ({"direction": "out", "packet": "PUBACK", "packet_id": 3, "reason_code": 0x97},
         "SEND lamp-7 PUBACK packet_id=3 0x97 quota_exceeded"),
        ({"direction": "out", "packet": "CONNACK", "session_present": False, "reason_code": 5},
         "SEND lamp-7 CONNACK 0x05"),
        ({"direction": "out", "packet": "SUBACK", "packet_id": 1, "reason_codes": [2, 0x87]},
         "SEND lamp-7 SUBACK packet_id=1 reason_codes=0x02,0x87 not_authorized"),
        ({"direction": "in", "packet": "CONNECT", "will": None, "password": True, "keep_alive_seconds": 6},
         "RECV lamp-7 CONNECT password keep_alive_seconds=6"),
        ({"direction": "in", "packet": "CONNECT", "client_id": ""}, "RECV ? CONNECT"),
        ({"direction": "?", "packet": "NEW", "client_id": "\x1b[31m"}, '- "\\u001b[31m" NEW'),
    ],
)  # fmt: skip
def test_packets_as_people_read_them(packet: dict[str, object], line: str) -> None:
    assert packet_line(HEAD | packet) == f"{AT} alpha {line}"


def test_events_as_people_read_them() -> None:
    event = {
        "event": "refused",
        "username": None,
        "address": "192.0.2.1",
        "reason_code": 0x8A,
        "reason": "no way",
    }
    line = f'{AT} alpha lamp-7 refused address=192.0.2.1 0x8A banned reason="no way"'
    assert event_line(HEAD | event) == line


def test_what_is_missing() -> None:
    assert "5 records left out: there" in left_out_line({"node": "alpha", "records": 5, "unseen": 0})
    assert "7 packets not looked at" in left_out_line({"node": "alpha", "records": 0, "unseen": 7})


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running_node(tmp_path_factory.mktemp("node")) as node:
        yield node


class Command:
    """`moorline ctl ...` in a process of its own."""

    def __init__(self, node: NodeProcess, *arguments: str) -> None:
        command = [
            sys.executable,
            "-m",
            "broker",
            "ctl",
            *arguments,
            "--admin",
            f"127.0.0.1:{node.admin_port}",
        ]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def line(self) -> str:
        """The next one."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def interrupt(self) -> tuple[int, str, str]:
        """Ctrl-C; exit code and the rest."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        """Exit code, and the rest of what it says."""
        out, err = self._process.communicate(timeout=SECONDS)
        return self._process.returncode, out, err


def wait_for_watchers(node: NodeProcess, pattern: str) -> None:
    """Until there is a key that begins so."""
    deadline = time.monotonic() + SECONDS
    with node.redis() as redis:
        while not redis.keys(pattern):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_trace_until_its_end(node: NodeProcess) -> None:
    command = Command(node, "trace", "--topic", "t/#", "--seconds", "2.5", "--payloads")
    wait_for_watchers(node, "mq:{m}:trace:*")
    with connected(node.port, "a-client") as client:
        client.publish("t/x", b"hello", 1)
        client.send(Publish("u", b"not this", 0, False, False, 0))
    code, out, err = command.wait()
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    assert re.search(r" RECV a-client PUBLISH t/x qos=1 5 bytes packet_id=\d payload=hello$", line)


def test_ctrl_c_ends_the_trace(node: NodeProcess) -> None:
    command = Command(node, "trace", "--client", "b-*", "--json")
    wait_for_watchers(node, "mq:{m}:trace:*")
    with WireClient(node.port) as client:
        client.connect("b-client")
        assert json.loads(command.line())["packet"] == "CONNECT"
    code, _, err = command.interrupt()
    assert (code, err) == (0, "")
    with node.redis() as redis:
        assert redis.keys("mq:{m}:trace:*") == []


def test_events(node: NodeProcess) -> None:
    command = Command(node, "events", "--kinds", "connected", "--client", "c-*")
    time.sleep(1.0)
    with connected(node.port, "other"), connected(node.port, "c-client"):
        assert " c-client connected address=127.0.0.1 " in command.line()
    code, out, err = command.interrupt()
    assert (code, out, err) == (0, "", "")


def test_usage_and_refusals(node: NodeProcess) -> None:
    assert Command(node, "trace", "--client", "a", "--topic", "b").wait()[0] == 2
    code, _, err = Command(node, "trace", "--topic", "a/#/b").wait()
    assert (code, "not a Topic Filter" in err) == (1, True)
