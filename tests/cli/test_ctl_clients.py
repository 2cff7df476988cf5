"""`moorline ctl clients`, `sessions`, `queue` and the like, against a real node."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import Result

from broker.ctl_redis import size
from broker.mqtt import Disconnect, ReasonCode
from tests.cli import program
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import HOUR, connected


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """With three sessions that are away, one of which has messages, a client, and a shared subscription."""
    with running_node(tmp_path_factory.mktemp("node")) as node:
        for number in range(3):
            with connected(node.port, f"lamp-{number}", properties=HOUR) as client:
                client.subscribe(f"lamp/{number}/+", qos=1)
        with connected(node.port, "sender") as sender:
            for number in range(3):
                sender.publish(f"lamp/1/{number}", b"on", 1)
        yield node


@pytest.fixture
def run(node: NodeProcess) -> "Run":
    return Run(node)


class Run:
    """Runs commands against the node."""

    def __init__(self, node: NodeProcess) -> None:
        self._node = node

    def __call__(self, *arguments: str) -> Result:
        admin = ("--admin", f"127.0.0.1:{self._node.admin_port}")
        return program.run("ctl", *arguments, *admin)

    def table(self, *arguments: str) -> list[list[str]]:
        """Words of each line but the first."""
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        head, *lines = result.stdout.splitlines()
        assert head == head.upper()
        return [line.split() for line in lines]

    def json(self, *arguments: str) -> dict[str, Any]:
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer


def test_clients_are_listed_shown_and_disconnected(run: Run, node: NodeProcess) -> None:
    with connected(node.port, "on line", properties=HOUR) as client:
        (line,) = run.table("clients", "on")
        assert line[:2] == ["on", "line"]
        assert line[-1] == "ok"
        (found,) = run.json("clients", "127.0.0.0/8", "--by", "address")["clients"]
        assert found["client_id"] == "on line"
        assert ["persistent", "yes"] in [row.split() for row in run("client", "on line").stdout.splitlines()]
        assert run.json("client", "on line")["protocol"] == "5.0"
        assert run("disconnect", "on line").stdout.startswith("on line is disconnected from ")
        last = client.wait_closed()[-1]
        assert isinstance(last, Disconnect)
        assert last.reason_code == ReasonCode.ADMINISTRATIVE_ACTION
    result = run("disconnect", "on line")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "refused (404): no client on line is connected" in result.stderr
    assert run.json("sessions", "on", "--state", "connected")["sessions"] == []


def test_what_a_terminal_would_act_on_is_escaped(run: Run, node: NodeProcess) -> None:
    name = "red\x1b[31m\n"
    with connected(node.port, name, properties=HOUR):
        assert run.table("clients", "red")[0][0] == "red\\x1b[31m\\n"
        assert run("session", "delete", name).stdout == "the session red\\x1b[31m\\n has ended\n"


def test_a_list_that_is_cut_tells_how_to_go_on(run: Run) -> None:
    result = run("sessions", "lamp", "--limit", "2")
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["lamp-0", "lamp-1"]
    assert result.stderr == "there are more: --after lamp-1\n"
    assert [line[0] for line in run.table("sessions", "lamp", "--after", "lamp-1")] == ["lamp-2"]
    result = run("subscriptions", "lamp", "--limit", "1")
    rest = shlex.split(result.stderr)[-2:]
    assert [line[0] for line in run.table("subscriptions", "lamp", *rest)] == ["lamp/1/+", "lamp/2/+"]


def test_a_session_and_what_waits_for_it(run: Run) -> None:
    shown = run.json("session", "show", "lamp-1")
    assert (shown["state"], shown["queued"]) == ("away", 3)
    assert shown["memory_bytes"] > shown["queued_bytes"] > 0
    assert ["queued", "3"] in [line.split() for line in run("session", "show", "lamp-1").stdout.splitlines()]
    assert [line[:2] for line in run.table("queue", "lamp-1")] == [
        [f"{n + 1}", f"lamp/1/{n}"] for n in range(3)
    ]
    assert [line[0] for line in run.table("queue", "lamp-1", "--tail", "--limit", "1")] == ["3"]
    assert [line[:2] for line in run.table("subscriptions", "--client", "lamp-1")] == [["lamp/1/+", "lamp-1"]]
    assert [line[1] for line in run.table("subscriptions", "--topic", "lamp/2/x")] == ["lamp-2"]
    assert run("subscriptions", "lamp", "--topic", "lamp/2/x").exit_code == 2


def test_a_session_is_deleted(run: Run) -> None:
    assert run("session", "delete", "lamp-0").stdout == "the session lamp-0 has ended\n"
    assert run("session", "show", "lamp-0").exit_code == 1
    assert run("session", "delete", "lamp-0").exit_code == 1


def test_shared_subscriptions_and_dead_letters(run: Run, node: NodeProcess) -> None:
    with connected(node.port, "worker") as worker:
        worker.subscribe("$share/team/jobs/+", qos=1)
        assert run.table("shared") == [["team", "jobs/+", "0", "0", "1"]]
    assert run.table("letters") == []
    assert run.json("letters", "--client", "worker") == {"letters": [], "next": None, "silent": []}


def test_redis_and_where_its_memory_goes(run: Run) -> None:
    told = run.json("redis")
    assert told["counts"]["sessions"] >= 1
    (server,) = told["servers"]
    assert server["server"]["memory_policy"] == "noeviction"
    assert {"sessions", "queues", "subscriptions"} <= {part["name"] for part in server["account"]["kinds"]}
    assert [part["name"] for part in server["account"]["prefixes"]] == ["mq:"]
    result = run("redis")
    assert result.exit_code == 0, result.output
    assert re.search(r"^append-only file +.*last write ok, \d+ delayed fsyncs$", result.stdout, re.MULTILINE)
    assert re.search(r"^queues +\d+ +[\d.]+ (B|KiB) +[\d.]+ (B|KiB)$", result.stdout, re.MULTILINE)
    assert re.search(r"^a session +[\d.]+ (B|KiB) without its queue$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (150 << 20, "150 MiB"),
        (1 << 60, "1048576 TiB"),
    ],
)
def test_sizes_are_shown(given: int | None, shown: str) -> None:
    assert size(given) == shown
