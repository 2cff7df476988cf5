"""`moorline ctl` against a real node, and against what answers in ways that a node does not."""

import json
import os
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker import ctl
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import connected
from tests.ports import free_port

NODE = {"name": "a", "incarnation": "a.1", "alive": True, "version": "1", "listen": ["127.0.0.1:1883"]}
NODE |= {"admin": None, "connections": 4, "sessions": 3, "started": "2026-01-01T00:00:00Z", "draining": False}
DRAINS = {"incarnation": "a.1", "is_this_node": False}
SHARE = {"name": "a", "incarnation": "a.1", "sessions": 3, "shed": 1, "problem": None}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOORLINE_")]:
        monkeypatch.delenv(name)


def run(*arguments: str) -> Result:
    """`moorline ctl ...`, in this process."""
    return CliRunner().invoke(ctl.app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})


def told(result: Result, exit_code: int = 0) -> str:
    """What it printed."""
    assert result.exit_code == exit_code, result.output
    assert result.stderr == ""
    return result.stdout


def complaint(result: Result) -> str:
    """The one line of somebody whose request failed."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("moorline ctl: ")
    return line.removeprefix("moorline ctl: ")


# A real node


@dataclass
class Running:
    """A node, alone on a Redis."""

    server: RedisServer
    node: NodeProcess

    @property
    def admin(self) -> str:
        """For the option, without the scheme."""
        return f"127.0.0.1:{self.node.admin_port}"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    environment = {"MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "1"}
    flags = ("--node-name", "alpha")
    with (
        running_redis(tmp_path / "redis") as server,
        running_node(tmp_path, "--redis", server.url, *flags, environment=environment) as node,
    ):
        yield Running(server, node)


def test_a_node_from_its_start_to_its_end(running: Running, tmp_path: Path) -> None:
    node, admin = running.node, running.admin
    with connected(node.port, "c") as client:
        node.wait_for("connected")
        nodes = json.loads(told(run("nodes", "--json", "--admin", f"http://{admin}/")))["nodes"]
        assert [each["name"] for each in nodes] == ["alpha"]
        head, row = told(run("nodes", "--admin", admin)).splitlines()
        assert head.split()[:3] == ["NAME", "STATE", "SESSIONS"]
        assert row.split()[0] == "alpha"
        assert row.split()[-1] == nodes[0]["incarnation"]
        assert told(run("health", "--admin", admin)).splitlines()[0].split() == ["status", "ok"]
        assert told(run("rebalance", "--admin", admin)).splitlines()[-1].startswith("mean ")
        assert complaint(run("drain", "beta", "--admin", admin)) == (
            "refused (404): there is no node beta; there are: alpha"
        )
        assert client.ping() == []
        (tmp_path / "beta").mkdir()
        flags = ("--redis", running.server.url, "--node-name", "beta")
        with running_node(tmp_path / "beta", *flags) as other:
            assert told(run("drain", "alpha", "--wait", "--admin", admin)) == (
                f"{nodes[0]['incarnation']} has left\n"
            )
            client.wait_closed()
            assert node.wait() == 0
            left = json.loads(told(run("nodes", "--json", "--admin", f"127.0.0.1:{other.admin_port}")))
            assert [each["name"] for each in left["nodes"]] == ["beta"]
    assert complaint(run("nodes", "--admin", admin)) == f"no answer from http://{admin}: Connection refused"


def test_redis_is_away(running: Running) -> None:
    running.server.kill()
    assert complaint(run("nodes", "--admin", running.admin)).startswith("refused (503): Redis is away")
    text = told(run("health", "--admin", running.admin), 1)
    assert "degraded" in text
    assert "redis    away" in text


# Whatever else answers


@dataclass
class Stub:
    """Gives its answers in order, the last one again and again; keeps what it was asked."""

    url: str = ""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[tuple[str, str, bytes, str | None]] = field(default_factory=list)

    def answer(self, content: object, status: int = 200) -> None:
        """The next one."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.answers.append((status, body))


@contextmanager
def stub(*contents: object) -> Iterator[Stub]:
    """A server for the time of the block."""
    stub = Stub()
    for content in contents:
        stub.answer(content)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            stub.asked.append((self.command, self.path, body, self.headers.get("Content-Type")))
            status, content = stub.answers.pop(0) if len(stub.answers) > 1 else stub.answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        stub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()


def rows(text: str) -> list[list[str]]:
    """Words of the lines."""
    return [line.split() for line in text.splitlines()]


def test_the_table_of_nodes() -> None:
    states = [
        NODE,
        NODE | {"draining": True},
        NODE | {"alive": False},
        NODE
        | dict.fromkeys(("version", "listen", "admin", "connections", "sessions", "started", "draining")),
    ]
    with stub({"nodes": states}) as node:
        _, *table = rows(told(run("nodes", "--admin", node.url)))
    assert [row[1] for row in table] == ["alive", "draining", "dead", "starting"]
    assert table[0] == ["a", "alive", "3", "4", "1", "127.0.0.1:1883", "-", "2026-01-01T00:00:00Z", "a.1"]
    assert table[3] == ["a", "starting", *["-"] * 6, "a.1"]


def test_health_tells_the_problems() -> None:
    answer = {
        "status": "degraded",
        "problems": ["draining", "node b.1 is dead, not reaped yet"],
        "node": {"name": "a", "incarnation": "a.1", "version": "1", "ready": False},
        "redis": "ok",
        "cluster": {"alive": 2, "draining": 1, "dead": 1, "sessions": 7},
    }
    with stub(answer) as node:
        assert told(run("health", "--admin", node.url), 1).splitlines() == [
            "status   degraded",
            "node     a (1), not ready",
            "redis    ok",
            "cluster  2 alive (1 draining), 1 dead, 7 sessions",
            "problem  draining",
            "problem  node b.1 is dead, not reaped yet",
        ]
        assert json.loads(told(run("health", "--admin", node.url, "--json"), 1)) == answer


def test_what_is_asked() -> None:
    with stub(DRAINS) as node:
        assert told(run("drain", "a/../b", "--moved", "--admin", node.url)) == "a.1 drains\n"
        assert json.loads(told(run("drain", "a", "--admin", node.url, "--json"))) == DRAINS
    with stub({"nodes": [SHARE], "mean": 2.0}) as other:
        arguments = ["--tolerance", "0.2", "--per-second", "5", "--admin", other.url]
        assert rows(told(run("rebalance", *arguments)))[1:] == [["a", "3", "1", "-"], ["mean", "2"]]
        assert told(run("rebalance", "--dry-run", "--admin", other.url)).endswith("nothing was done\n")
    kind = "application/json"
    assert [(method, path, json.loads(body), given) for method, path, body, given in node.asked] == [
        ("POST", "/api/v1/nodes/a%2F..%2Fb/drain", {"moved": True}, kind),
        ("POST", "/api/v1/nodes/a/drain", {"moved": False}, kind),
    ]
    assert [json.loads(body) for _, _, body, _ in other.asked] == [
        {"tolerance": 0.2, "per_second": 5.0, "dry_run": False},
        {"tolerance": 0.1, "per_second": None, "dry_run": True},
    ]


@pytest.mark.usefixtures("_hasty")
def test_drain_of_whoever_answers() -> None:
    with stub({"nodes": ["a"]}) as node:
        assert told(run("drain", "--admin", node.url)) == "a drains\n"
        assert (
            complaint(run("drain", "--wait", "--timeout", "0", "--admin", node.url))
            == "a not gone within 0 s"
        )
    with stub({"nodes": ["a-1", "a-2"]}) as parent:
        assert told(run("drain", "--moved", "--admin", parent.url)) == "a-1, a-2 drain\n"
    assert [(method, path, json.loads(body)) for method, path, body, _ in parent.asked] == [
        ("POST", "/api/v1/drain", {"moved": True})
    ]


def test_a_rebalance_that_could_not_tell_everybody() -> None:
    with stub({"nodes": [SHARE | {"problem": "it sleeps"}], "mean": 2.0}) as node:
        assert "it sleeps" in told(run("rebalance", "--admin", node.url), 1)


def test_the_address_by_variable_and_never_by_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with stub({"nodes": []}) as node:
        monkeypatch.setenv("MOORLINE_ADMIN_URL", node.url)
        assert len(told(run("nodes")).splitlines()) == 1
        assert urllib.request.getproxies()["http"] != node.url


def test_the_first_that_answers_is_asked() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with stub({"nodes": [NODE]}) as node, stub({"nodes": []}) as later:
        assert "a.1" in told(run("nodes", "--admin", f"{nobody},{node.url},{later.url}"))
        name = node.url.replace("http://127.0.0.1", "dns+http://localhost")
        assert "a.1" in told(run("nodes", "--admin", name))
    assert later.asked == []
    reason = complaint(run("nodes", "--admin", f"{nobody},{nobody.replace('127.0.0.1', 'localhost')}"))
    assert reason.count("no answer from") == 2
    assert complaint(run("nodes", "--admin", "dns+http://no-such-host.invalid:1")).startswith("no address of")


def test_where_nodes_run_is_shown_if_it_is_known() -> None:
    known = NODE | {"kubernetes_node": "worker-1", "zone": "eu-1a"}
    with stub({"nodes": [known, NODE]}) as node:  # the second is of an older release
        head, first, second = rows(told(run("nodes", "--admin", node.url)))
    assert head[head.index("ADMIN") + 1 : head.index("STARTED")] == ["KUBERNETES-NODE", "ZONE"]
    assert ("worker-1" in first, "eu-1a" in first, "worker-1" in second) == (True, True, False)


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctl, "_WAIT_STEP_SECONDS", 0.01)


LEFT: dict[str, object] = {"nodes": [NODE | {"incarnation": "b.1"}]}
THERE: dict[str, object] = {"nodes": [NODE]}


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([DRAINS, THERE, THERE, LEFT], None),
        ([DRAINS, THERE, {"nodes": [NODE | {"alive": False}]}], "a.1 died before it was drained"),
        ([DRAINS, THERE], "a.1 has not left within 0.2 s"),
        ([DRAINS, b"what?"], "does not answer like a node"),
    ],
)
def test_waiting_for_another_node_to_leave(answers: Sequence[object], reason: str | None) -> None:
    with stub(*answers) as node:
        result = run("drain", "a", "--wait", "--timeout", "0.2", "--admin", node.url)
    if reason is None:
        assert told(result) == "a.1 has left\n"
    else:
        assert reason in complaint(result)


@pytest.mark.usefixtures("_hasty")
def test_the_node_that_is_asked_may_say_no_while_it_ends() -> None:
    with stub(DRAINS | {"is_this_node": True}, THERE) as node:
        node.answer({"error": "Redis is away"}, 503)
        node.answer(LEFT)
        assert told(run("drain", "a", "--wait", "--admin", node.url)) == "a.1 has left\n"


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        ({"error": "not here"}, 403, "refused (403): not here"),
        ({}, 500, "refused (500): Internal Server Error"),
        (b"<html>", 404, "does not answer like a node of moorline"),
        (b"[1]", 200, "does not answer like a node of moorline"),
        (b"\xff", 200, "does not answer like a node of moorline"),
    ],
)
def test_answers_that_are_none(content: object, status: int, reason: str) -> None:
    with stub() as node:
        node.answer(content, status)
        assert reason in complaint(run("nodes", "--admin", node.url))


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without a listener, one that takes connections and says nothing, a name that is none."""
    monkeypatch.setattr(ctl, "_ANSWER_SECONDS", 0.2)
    address = f"http://127.0.0.1:{free_port()}"
    assert complaint(run("nodes", "--admin", address)) == f"no answer from {address}: Connection refused"
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:
        address = f"http://127.0.0.1:{silent.server_port}"
        assert complaint(run("nodes", "--admin", address)) == f"no answer from {address}: timed out"
    assert "no answer from http://no-such-host.invalid" in complaint(
        run("nodes", "--admin", "no-such-host.invalid")
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["nodes", "--admin", "ftp://x"],
        ["nodes", "--admin", "http://x/api"],
        ["nodes", "--admin", "http://"],
        ["nodes", "--admin", "http://x:port"],
        ["nodes", "--admin", "http://[::1"],
        ["drain", "a", "b"],
        ["rebalance", "--tolerance", "-1"],
        ["reboot"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Usage" in result.stderr


def test_tables_escape_what_a_terminal_would_act_on(capsys: pytest.CaptureFixture[str]) -> None:
    ctl.print_table([("NAME", "STATE"), ("a\x1b[2J\n", "ok")])
    assert capsys.readouterr().out == "NAME        STATE\na\\x1b[2J\\n  ok\n"
