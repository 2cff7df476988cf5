"""What helm says after an installation: the next steps, and what should worry."""

from tests.helm.chart import CHART, NAMESPACE, VALUES, run_helm

ANYBODY = "and no NetworkPolicy restricts where they come from"


def _notes(case: str, *options: str) -> str:
    """Of Helm 4: the other one says nothing without a cluster."""
    arguments = ("install", "release", str(CHART), "--namespace", NAMESPACE, "--dry-run=client")
    output = run_helm("helm", *arguments, "--values", str(VALUES / f"{case}.yaml"), *options)
    return output.partition("\nNOTES:\n")[2]


def test_next_steps() -> None:
    notes = _notes("minimal")
    assert "Pods: 3.\n" in notes
    assert "kubectl -n mqtt rollout status deployment/release-moorline\n" in notes
    assert "helm -n mqtt test release --logs\n" in notes
    assert "port-forward service/release-moorline 1883\n" in notes
    assert ANYBODY in notes
    assert "Valkey" not in notes


def test_each_kind_of_service_has_its_way_in() -> None:
    assert "at the address that this shows" in _notes("load-balancer")
    assert "at any node, at the port that this shows" in _notes("node-port")
    assert "Pods: 2 to 20.\n" in _notes("autoscaling")


def test_listeners_and_what_is_not_asked() -> None:
    notes = _notes("secured")
    assert "   mqtts://release-moorline.mqtt.svc:8883\n" in notes
    assert "   wss://release-moorline.mqtt.svc:8084/mqtt\n" in notes
    assert "1883" not in notes
    assert "WARNING" not in notes
    options = ("--set", "service.type=LoadBalancer,auth.rulesConfigMap.name=")
    notes = _notes("cert-manager", *options)
    assert "port-forward" not in notes
    assert "WARNING: plain MQTT is open to the outside" in notes
    assert "WARNING: there are no rules" in notes
    assert "let in if they do not say who they are" in _notes("cert-manager", "--set", "allowAnonymous=true")


def test_warnings() -> None:
    assert ANYBODY not in _notes("locked-down")
    assert "is for trials" in _notes("trial")
    assert "no password" not in _notes("trial")
    assert "has no password" in _notes("trial", "--set", "networkPolicy.enabled=false")
    assert "has no password" not in _notes("trial-password", "--set", "networkPolicy.enabled=false")
