"""`moorline ctl trace` and `events`: the lines, and the commands against a real node."""

import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest
from typer.testing import Result

from broker.ctl_trace import event_line, left_out_line, packet_line
from broker.mqtt import Publish
from tests.cli import program
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import connected
from tests.tools import hear_ctrl_c

AT = "2026-11-26T21:37:46.565Z"
HEAD = {"at": AT, "node": "alpha", "client_id": "lamp-7"}
SECONDS = 25.0


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
        admin = ("--admin", f"127.0.0.1:{node.admin_port}")
        command = [sys.executable, "-m", "broker", "ctl", *arguments, *admin]
        self.lines: queue.Queue[str] = queue.Queue()
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_ctrl_c)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.put(line)

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C; exit code, and what it complains of."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(SECONDS)
        assert self._process.stderr is not None
        return code, self._process.stderr.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._reader.join()
        with self._process:  # closes its pipes
            pass


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def traces(node: NodeProcess) -> list[bytes]:
    """Keys of those that are on."""
    with node.redis() as redis:
        found: list[bytes] = redis.keys("mq:{m}:trace:*")
        return found


def run(node: NodeProcess, *arguments: str) -> Result:
    """The same in this process, to its end."""
    return program.run("ctl", *arguments, "--admin", f"127.0.0.1:{node.admin_port}")


def test_a_trace_until_its_end(node: NodeProcess) -> None:
    with ThreadPoolExecutor() as threads:
        running = threads.submit(run, node, "trace", "--topic", "t/#", "--seconds", "2", "--payloads")
        wait_until(lambda: bool(traces(node)))
        with connected(node.port, "a-client") as client:
            client.publish("t/x", b"hello", 1)
            client.send(Publish("u", b"not this", 0, False, False, 0))
        result = running.result()
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    assert re.search(r" RECV a-client PUBLISH t/x qos=1 5 bytes packet_id=\d payload=hello$", line)


@pytest.mark.timeout(60)  # two more interpreters start
def test_ctrl_c_ends_it(node: NodeProcess) -> None:
    with (
        Command(node, "trace", "--client", "b-*", "--json") as trace,
        Command(node, "events", "--kinds", "connected", "--client", "b-*") as events,
    ):

        def both_have_told() -> bool:
            with connected(node.port, "other"), connected(node.port, "b-client"):
                return not trace.lines.empty() and not events.lines.empty()

        wait_until(both_have_told)
        while json.loads(trace.lines.get(timeout=SECONDS))["packet"] != "CONNECT":
            pass  # the end of a connection that was there before
        assert " b-client connected address=127.0.0.1 " in events.lines.get()
        assert events.interrupt() == (0, "")
        assert trace.interrupt() == (0, "")
    assert traces(node) == []


def test_usage_and_refusals(node: NodeProcess) -> None:
    assert run(node, "trace").exit_code == 2
    assert run(node, "trace", "--client", "a", "--topic", "b").exit_code == 2
    refused = run(node, "trace", "--topic", "a/#/b")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "not a Topic Filter" in refused.stderr


def test_the_node_dies(tmp_path: Path) -> None:
    with running_node(tmp_path) as node, ThreadPoolExecutor() as threads:
        running = threads.submit(run, node, "trace", "--client", "x")
        wait_until(lambda: bool(traces(node)))
        time.sleep(0.3)  # or there is no stream yet, which is told in other words
        node.kill()
        result = running.result()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "moorline ctl: " in result.stderr
