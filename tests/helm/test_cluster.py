"""What the chart asks the cluster for: versions of Secrets, and how many pods there are. By a stand-in."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from tests.helm.chart import CHART, NAMESPACE, VALUES, Manifests, run_helm

KINDS = {
    "v1": ["Pod", "Secret", "Service", "ServiceAccount"],
    "apps/v1": ["Deployment"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "rbac.authorization.k8s.io/v1": ["Role", "RoleBinding"],
}
"""What the cluster knows, by group and version; Helm 4 wants to find all kinds that are rendered."""
HELMS = pytest.mark.parametrize("helm", ["helm", "helm3"])


class Cluster:
    """Objects by path, as an API server would show them to `lookup`."""

    def __init__(self) -> None:
        self.objects: dict[str, object] = {}
        self.port = 0

    def add_secret(self, name: str, version: str) -> None:
        """With a version, and with contents that must not be seen."""
        metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": version}
        self.objects[f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}"] = {
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"url": "c2VjcmV0"},
        }  # fmt: skip

    def add_deployment(self, replicas: int) -> None:
        """The one of the release."""
        name = "release-moorline"
        metadata = {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {
                "meta.helm.sh/release-name": "release",
                "meta.helm.sh/release-namespace": NAMESPACE,
            },
        }
        self.objects[f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"] = {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": replicas},
        }  # fmt: skip

    def answer(self, path: str) -> object:
        """What GET gives; None if it isn't there."""
        if path == "/version":
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [_group(each) for each in KINDS if "/" in each]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        group_version = path.removeprefix("/apis/").removeprefix("/api/")
        if group_version in KINDS:
            return {
                "kind": "APIResourceList",
                "groupVersion": group_version,
                "resources": [_resource(kind) for kind in KINDS[group_version]],
            }
        return self.objects.get(path)

    def render(self, helm: str, *options: str) -> Manifests:
        """The chart with this cluster behind it."""
        arguments = (
            "template",
            "release",
            str(CHART),
            "--namespace",
            NAMESPACE,
            "--dry-run=server",
            "--disable-openapi-validation",
        )
        values = ("--values", str(VALUES / "minimal.yaml"))
        server = f"--kube-apiserver=http://127.0.0.1:{self.port}"
        return Manifests.parse(run_helm(helm, *arguments, *values, server, *options))


def _group(group_version: str) -> dict[str, object]:
    name, _, version = group_version.partition("/")
    found = {"groupVersion": group_version, "version": version}
    return {"name": name, "versions": [found], "preferredVersion": found}


def _resource(kind: str) -> dict[str, object]:
    name = "networkpolicies" if kind == "NetworkPolicy" else f"{kind.lower()}s"
    return {"name": name, "kind": kind, "namespaced": True, "verbs": ["get"]}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Empty at first."""
    found = Cluster()
    with _serving(found):
        yield found


@contextmanager
def _serving(cluster: Cluster) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = cluster.answer(self.path.partition("?")[0])
            status = 404 if answer is None else 200
            if answer is None:
                answer = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "reason": "NotFound",
                    "code": 404,
                }
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        cluster.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _checksum(manifests: Manifests) -> str | None:
    metadata = manifests.deployment["spec"]["template"]["metadata"]
    found: str | None = metadata.get("annotations", {}).get("checksum/secrets")
    return found


@HELMS
def test_a_changed_secret_rolls_the_pods(helm: str, cluster: Cluster) -> None:
    assert _checksum(cluster.render(helm)) is None
    cluster.add_secret("moorline-redis", "1")
    first = cluster.render(helm)
    assert _checksum(first) == _checksum(cluster.render(helm)) is not None
    cluster.add_secret("moorline-redis", "2")
    assert _checksum(cluster.render(helm)) not in {_checksum(first), None}
    assert "c2VjcmV0" not in yaml.safe_dump(first.all)


def test_secrets_of_settings_count_too(cluster: Cluster) -> None:
    options = ("--set-json", 'secretConfig=[{"setting": "redis.prefix", "secretName": "other", "key": "k"}]')
    before = _checksum(cluster.render("helm", *options))
    cluster.add_secret("other", "7")
    assert _checksum(cluster.render("helm", *options)) != before
    assert _checksum(cluster.render("helm")) is None


@HELMS
def test_switching_to_the_autoscaler_keeps_the_pods_that_there_are(helm: str, cluster: Cluster) -> None:
    """Left out, the API server would make it 1, and all other pods would end."""
    options = ("--set", "autoscaling.enabled=true")
    assert "replicas" not in cluster.render(helm, *options).deployment["spec"]
    cluster.add_deployment(7)
    assert cluster.render(helm, *options).deployment["spec"]["replicas"] == 7
    assert cluster.render(helm).deployment["spec"]["replicas"] == 3
