"""Alerts, the dashboard for Grafana, and the admin address for people outside."""

import json
import subprocess
from pathlib import Path

import yaml

from docs import alerting, dashboard
from docs.alerting import ALERTS
from tests.helm.chart import CASES, render, render_values
from tests.tools import require_tool

ADMIN = {"admin": {"tokens": {"secretName": "tokens"}}, "networkPolicy": {"enabled": False}}


def test_by_default_there_is_nothing_of_it() -> None:
    manifests = render("minimal")
    kinds = {each["kind"] for each in manifests}
    assert not kinds & {"PrometheusRule", "Ingress"}
    assert not [each for each in manifests.of_kind("ConfigMap") if "grafana" in str(each)]


def test_the_rules_are_those_of_the_program(tmp_path: Path) -> None:
    rule = render("monitoring").one("PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    (group,) = rule["spec"]["groups"]
    *ours, extra = group["rules"]
    assert extra["alert"] == "TooQuiet"
    expected = [alert.rule() for alert in ALERTS]
    for alert, each in zip(ALERTS, expected, strict=True):
        each["annotations"]["runbook_url"] = f"https://docs.example/runbook#{alert.anchor}"  # type: ignore[index]  # a dict
    assert ours == expected
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    done = subprocess.run(
        [require_tool("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_place_for_the_runbook_there_is_no_link() -> None:
    rule = render_values({"prometheusRule": {"enabled": True}}).one("PrometheusRule")
    (group,) = rule["spec"]["groups"]
    assert group == yaml.safe_load(alerting.FILE.read_text())["groups"][0]


def test_the_dashboard_is_that_of_the_program() -> None:
    found = render("monitoring").one("ConfigMap", "release-moorline-dashboard")
    assert json.loads(found["data"]["moorline.json"]) == json.loads(dashboard.dashboard_text())
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "MQTT"}


def test_people_reach_pods_that_are_ready() -> None:
    manifests = render("secured")
    ingress = manifests.one("Ingress", "release-moorline-admin")
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    service = manifests.one("Service", path["backend"]["service"]["name"])
    assert service["spec"].get("publishNotReadyAddresses", False) is False
    selector = service["spec"]["selector"]
    labels = manifests.deployment["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert [port["name"] for port in service["spec"]["ports"]] == ["admin"]
    assert ingress["spec"]["tls"] == [{"hosts": ["mqtt-admin.example"], "secretName": "admin-example"}]
    assert rule["host"] == "mqtt-admin.example"


def test_metrics_are_scraped_once() -> None:
    """The ServiceMonitor finds one Service, not that of the Ingress too."""
    manifests = render("secured")
    wanted = manifests.one("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    found = [
        each for each in manifests.of_kind("Service") if wanted.items() <= each["metadata"]["labels"].items()
    ]
    assert [each["metadata"]["name"] for each in found] == ["release-moorline-admin"]


def test_an_ingress_needs_no_class_and_no_annotations() -> None:
    ingress = {"enabled": True, "host": "a.example", "tlsSecretName": "certificate"}
    found = render_values({"adminIngress": ingress, **ADMIN}).one("Ingress", "release-moorline-admin")
    assert "ingressClassName" not in found["spec"]
    assert "annotations" not in found["metadata"]


def test_cases_with_these_values_are_golden() -> None:
    assert {"monitoring", "secured"} <= set(CASES)
