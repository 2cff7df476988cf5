"""Who may talk to whom, and what the accounts may do: by what manifests mean, not how they are written."""

import pytest

from tests.helm.chart import CASES, Manifest, Manifests, render, render_values
from tests.helm.policy import Labels, Peer, allows, may, outside

MONITORING = {"kubernetes.io/metadata.name": "monitoring"}
PROMETHEUS = Peer({"app.kubernetes.io/name": "prometheus"}, MONITORING)
STRANGER = Peer({"app": "stranger"})


def _labels(manifests: Manifests, component: str) -> Labels:
    """Of the pods of a component."""
    base = {"app.kubernetes.io/name": "moorline", "app.kubernetes.io/instance": "release"}
    labels = base | {"app.kubernetes.io/component": component}
    if component == "broker":
        assert labels.items() <= manifests.deployment["spec"]["template"]["metadata"]["labels"].items()
    return labels


def _in(manifests: Manifests, peer: Peer, port: int) -> bool:
    policies = manifests.of_kind("NetworkPolicy")
    return allows(policies, _labels(manifests, "broker"), "Ingress", peer, port)


def _out(manifests: Manifests, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    policies = manifests.of_kind("NetworkPolicy")
    return allows(policies, _labels(manifests, "broker"), "Egress", peer, port, protocol)


def test_by_default_everybody_is_a_client_and_nobody_reads_metrics() -> None:
    manifests = render("minimal")
    assert _in(manifests, STRANGER, 1883)
    assert _in(manifests, outside("198.51.100.1"), 1883)
    assert not _in(manifests, STRANGER, 8080)
    assert not _in(manifests, PROMETHEUS, 8080)
    assert not _in(manifests, STRANGER, 8081)


def test_listeners_are_open_as_plain_mqtt_is() -> None:
    manifests = render("secured")
    assert _in(manifests, outside("198.51.100.1"), 8883)
    assert _in(manifests, outside("198.51.100.1"), 8084)
    assert not _in(manifests, outside("198.51.100.1"), 1883)
    assert not _in(manifests, STRANGER, 8080)


def test_by_default_pods_reach_dns_redis_and_the_api_server_only() -> None:
    manifests = render("minimal")
    anywhere = outside("198.51.100.1")
    assert _out(manifests, anywhere, 53, "UDP")
    assert _out(manifests, anywhere, 53)
    assert _out(manifests, anywhere, 6379)
    assert _out(manifests, anywhere, 443)
    assert _out(manifests, anywhere, 6443)
    assert not _out(manifests, anywhere, 80)
    assert not _out(manifests, anywhere, 1883)
    assert not _out(manifests, anywhere, 6379, "UDP")


def test_without_kubernetes_not_even_the_api_server() -> None:
    manifests = render("no-kubernetes")
    assert not _out(manifests, outside("10.96.0.1"), 443)
    assert _out(manifests, outside("10.1.2.3"), 6379)


def test_the_port_of_the_url_is_open() -> None:
    manifests = render("url")
    assert _out(manifests, outside("10.1.2.3"), 6390)
    assert not _out(manifests, outside("10.1.2.3"), 6379)


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("redis://r", [6379]),
        ("redis://r/1", [6379]),
        ("redis://:p:7@r:6400", [6400]),
        ("rediss://u:p@[fd00::1]:6401/0", [6401]),
        ("redis://[fd00::1]/0", [6379]),
        ("redis+sentinel://:p@a,b,c/main", [6379, 26379]),
        ("rediss+sentinel://u:p@a:6400,[fd00::1]:6401,c/main/2", [6379, 6400, 6401, 26379]),
        ("redis+sentinel://a:6400/main?sentinel_password=x,y:6401", [6379, 6400]),
        ("redis+cluster://:p@a:6400,b", [6379, 6400]),
        ("rediss+cluster://u:p@[fd00::1]:6401,c:6401", [6401]),
    ],
)
def test_ports_of_urls(url: str, ports: list[int]) -> None:
    manifests = render_values({"redis": {"url": url, "existingSecret": {"name": ""}}})
    known = (6379, 6400, 6401, 26379)
    assert [each for each in known if _out(manifests, outside("10.1.2.3"), each)] == ports


def test_named_peers_only() -> None:
    manifests = render("locked-down")
    assert _in(manifests, outside("10.20.3.4"), 1883)
    assert not _in(manifests, outside("10.21.3.4"), 1883)
    assert not _in(manifests, STRANGER, 1883)
    assert _in(manifests, Peer(_labels(manifests, "test")), 1883)  # `helm test`
    assert _in(manifests, PROMETHEUS, 8080)
    assert not _in(manifests, Peer({"app.kubernetes.io/name": "grafana"}, MONITORING), 8080)
    assert not _in(manifests, Peer(PROMETHEUS.labels), 8080)
    assert not _in(manifests, PROMETHEUS, 1883)
    assert _out(manifests, outside("10.1.2.3"), 26379)
    assert not _out(manifests, outside("10.1.2.4"), 26379)
    assert not _out(manifests, outside("10.0.0.1"), 443)
    assert _out(manifests, outside("10.9.0.1"), 4317)


def test_only_the_broker_reaches_the_small_valkey() -> None:
    manifests = render("trial")
    policies, valkey = manifests.of_kind("NetworkPolicy"), _labels(manifests, "valkey")
    broker = Peer(_labels(manifests, "broker"))
    assert allows(policies, valkey, "Ingress", broker, 6379)
    assert not allows(policies, valkey, "Ingress", broker, 22)
    assert not allows(policies, valkey, "Ingress", Peer(_labels(manifests, "test")), 6379)
    assert not allows(policies, valkey, "Ingress", STRANGER, 6379)
    assert not allows(policies, valkey, "Egress", STRANGER, 443)
    assert _out(manifests, Peer(valkey), 6379)
    assert not _out(manifests, STRANGER, 6379)


@pytest.mark.parametrize("case", CASES)
def test_selectors_find_the_broker_only(case: str) -> None:
    """Services, budgets and policies of the broker must find its pods, and no others of the release."""
    manifests = render(case)
    selectors = [
        (each, _selector(each))
        for each in manifests
        if each["kind"] in {"Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment", "StatefulSet"}
    ]
    labels = manifests.deployment["spec"]["template"]["metadata"]["labels"]
    for each, selector in selectors:
        is_of_valkey = each["metadata"]["name"].endswith(("-valkey", "-valkey-headless"))
        assert (selector.items() <= labels.items()) is not is_of_valkey, each["metadata"]["name"]
        for test in manifests.of_kind("Pod"):
            assert not selector.items() <= test["metadata"]["labels"].items()


def _selector(each: Manifest) -> dict[str, str]:
    spec = each["spec"]
    found: dict[str, str] = (
        spec["podSelector"]["matchLabels"]
        if each["kind"] == "NetworkPolicy"
        else spec["selector"].get("matchLabels", spec["selector"])
    )
    assert found
    return found


# Roles

BROKER_MAY = {
    ("list", "", "pods"),
    ("watch", "", "pods"),
    ("patch", "", "pods"),
    ("patch", "", "pods/status"),
    ("get", "coordination.k8s.io", "leases"),
    ("create", "coordination.k8s.io", "leases"),
    ("update", "coordination.k8s.io", "leases"),
}
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*"]
RESOURCES = [
    ("", "pods"), ("", "pods/status"), ("", "pods/exec"), ("", "pods/eviction"), ("", "secrets"),
    ("", "configmaps"), ("", "serviceaccounts/token"), ("", "*"), ("coordination.k8s.io", "leases"),
    ("apps", "deployments"), ("rbac.authorization.k8s.io", "roles"), ("*", "*"),
]  # fmt: skip


def _permitted(manifests: Manifests, account: str, name: str = "") -> set[tuple[str, str, str]]:
    return {
        (verb, group, resource)
        for verb in VERBS
        for group, resource in RESOURCES
        if may(manifests, account, verb, group, resource, name)
    }


def test_the_broker_may_what_it_needs_and_nothing_else() -> None:
    manifests = render("minimal")
    account = manifests.pod["serviceAccountName"]
    assert _permitted(manifests, account, "release-moorline-chores") == BROKER_MAY
    assert not may(manifests, account, "get", "coordination.k8s.io", "leases", "of-somebody-else")
    assert not may(manifests, account, "update", "coordination.k8s.io", "leases", "of-somebody-else")
    assert manifests.environment["MOORLINE_KUBERNETES__LEASE_NAME"] == "release-moorline-chores"


def test_without_kubernetes_there_are_no_rights_and_no_token() -> None:
    manifests = render("no-kubernetes")
    assert not manifests.of_kind("Role")
    assert manifests.pod["automountServiceAccountToken"] is False
    assert "readinessGates" not in manifests.pod


def test_the_fail_over_test_may_list_and_delete_pods_while_it_runs() -> None:
    manifests = render("fail-over-test")
    account = "release-moorline-test-fail-over"
    assert _permitted(manifests, account) == {("list", "", "pods"), ("delete", "", "pods")}
    for kind in ("ServiceAccount", "Role", "RoleBinding"):
        annotations = manifests.one(kind, account)["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "test"
        assert {"hook-succeeded", "hook-failed"} <= set(annotations["helm.sh/hook-delete-policy"].split(","))
    test = manifests.one("Pod", account)
    weights = [
        each["metadata"]["annotations"]["helm.sh/hook-weight"]
        for each in (manifests.one("Role", account), test)
    ]
    assert int(weights[0]) < int(weights[1])
    assert test["spec"]["serviceAccountName"] == account


def test_by_default_no_test_may_delete_anything() -> None:
    manifests = render("minimal")
    assert [each["metadata"]["name"] for each in manifests.of_kind("Role")] == ["release-moorline"]
    assert [each["metadata"]["name"] for each in manifests.of_kind("Pod")] == [
        "release-moorline-test-round-trip"
    ]
