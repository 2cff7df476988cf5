"""The fail-over between two real nodes; the API server is a stand-in that kills the node it is to delete."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import uvloop

from loadtest.failover import FailOver, FailOverReport
from loadtest.plan import Plan
from loadtest.pods import Pods, PodsError
from loadtest.target import Target
from tests.loadtest.test_cli import run
from tests.node.harness import running_node

SELECTOR = "app=broker"


def _pod(name: str, port: int, **changes: Any) -> dict[str, Any]:
    """As the API has it."""
    pod: dict[str, Any] = {
        "metadata": {"name": name, "uid": f"uid-of-{name}"},
        "spec": {"containers": [{"name": "side"}, {"ports": [{"name": "mqtt", "containerPort": port}]}]},
        "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    for part, change in changes.items():
        pod[part] |= change
    return pod


class FakeApi:
    """Pods of a namespace; what is deleted is handed to `kill`."""

    def __init__(self, pods: list[dict[str, Any]], kill: Callable[[str], None]) -> None:
        self.pods = pods
        self.kill = kill
        self.deleted: list[dict[str, Any]] = []
        self.url = ""

    def client(self, token: str = "secret") -> Pods:
        """As the test pod would have it."""
        return Pods(self.url, "mqtt", token, None)

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, object]:
        parts = urlsplit(path)
        if token != "Bearer secret":
            return 403, {}
        if method == "GET":
            assert parts.path == "/api/v1/namespaces/mqtt/pods"
            assert parse_qs(parts.query) == {"labelSelector": [SELECTOR]}
            return 200, {"items": self.pods}
        name = parts.path.removeprefix("/api/v1/namespaces/mqtt/pods/")
        self.deleted.append({"name": name} | json.loads(body))
        self.kill(name)
        return 200, {}


@contextmanager
def _serving(api: FakeApi) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization", "")
            status, answer = api.answer(self.command, self.path, token, body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test tells."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _plan(port: int, **changes: Any) -> Plan:
    plan: dict[str, Any] = {
        "target": Target("127.0.0.1", port),
        "run_id": "run",
        "qos": 2,
        "persistent": True,
        "duration_seconds": 10.0,
    }
    return Plan(**(plan | changes))


def _fail_over(api: FakeApi, plan: Plan) -> FailOverReport:
    return uvloop.run(FailOver(plan, 50, api.client(), SELECTOR, lambda text: None).run())


@pytest.mark.timeout(60)
def test_the_subscriber_goes_on_at_another_pod(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running_node(tmp_path / "b") as keeper:
        redis = f"unix://{keeper.data_dir}/redis.sock"
        with running_node(tmp_path / "a", "--redis", redis) as victim:
            api = FakeApi([_pod("b", keeper.port), _pod("a", victim.port)], lambda name: victim.kill())
            with _serving(api):
                report = _fail_over(api, _plan(keeper.port))
    assert api.deleted == [{"name": "a", "gracePeriodSeconds": 0, "preconditions": {"uid": "uid-of-a"}}]
    assert not victim.is_running()
    assert report.problems() == []
    assert (report.killed, report.session_present) == ("a", True)
    assert 50 <= report.before <= report.messages - 50
    assert "lost" in dict(report.rows())


@pytest.mark.timeout(60)
def test_a_session_that_is_gone_fails_it(tmp_path: Path) -> None:
    """The other pod is of another broker, and so is the Service."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running_node(tmp_path / "a") as victim, running_node(tmp_path / "b") as stranger:
        api = FakeApi([_pod("a", victim.port), _pod("b", stranger.port)], lambda name: victim.kill())
        with _serving(api):
            report = _fail_over(api, _plan(stranger.port, drain_seconds=0.3))
    problems = report.problems()
    assert problems == ["the session was gone", f"{report.messages} acknowledged messages were lost"]


@pytest.mark.timeout(60)
def test_a_pod_that_does_not_end_is_told(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        api = FakeApi([_pod("a", node.port), _pod("b", node.port)], lambda name: None)
        with _serving(api), pytest.raises(PodsError, match=r"a is still connected after 0\.5 s"):
            _fail_over(api, _plan(node.port, duration_seconds=0.5))


def test_only_pods_that_are_ready_count() -> None:
    no_port = _pod("d", 1)
    no_port["spec"] = {"containers": [{"name": "side"}]}
    pods = [
        _pod("e", 5),
        _pod("a", 1, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        _pod("b", 2, status={"conditions": [{"type": "Ready", "status": "False"}]}),
        _pod("c", 3, status={"conditions": []}),
        no_port,
    ]
    api = FakeApi(pods, lambda name: None)
    with _serving(api):
        assert [(pod.name, pod.target.port) for pod in api.client().ready(SELECTOR)] == [("e", 5)]
        with pytest.raises(PodsError, match="1 pods are ready"):
            _fail_over(api, _plan(1))


def test_a_refusal_of_the_api_server_is_told() -> None:
    api = FakeApi([], lambda name: None)
    with _serving(api), pytest.raises(PodsError, match="GET of pods was refused: 403"):
        api.client("wrong").ready(SELECTOR)
    with pytest.raises(PodsError, match=r"GET of pods: .*refused"):
        api.client().ready(SELECTOR)


def test_the_account_of_the_pod(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    for name in ("token", "namespace", "ca.crt"):
        with pytest.raises(PodsError, match="no pod with an account"):
            Pods.of_this_pod(tmp_path, environment)
        (tmp_path / name).write_text("")
    with pytest.raises(PodsError, match="KUBERNETES_SERVICE_HOST"):
        Pods.of_this_pod(tmp_path, {})


def test_outside_of_kubernetes_it_says_so() -> None:
    done = run("fail-over", "--selector", SELECTOR, "--json", "-")
    assert done.returncode == 2
    assert done.stderr.startswith("loadtest: this is no pod with an account of Kubernetes")
    assert not done.stdout
