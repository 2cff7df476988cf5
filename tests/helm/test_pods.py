"""The pods: hardened, probed, drained, spread; and what they have in common with the rest of the release."""

import math

import pytest

import broker
from tests.helm.chart import CASES, NEW, OLD, Manifest, Manifests, render, render_values

EACH_CASE = pytest.mark.parametrize("case", CASES)
SELECTOR = {
    "app.kubernetes.io/name": "moorline",
    "app.kubernetes.io/instance": "release",
    "app.kubernetes.io/component": "broker",
}


@EACH_CASE
def test_every_pod_is_hardened(case: str) -> None:
    for name, pod in render(case).pod_specifications():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


@EACH_CASE
def test_only_pods_that_ask_the_api_have_a_token(case: str) -> None:
    manifests = render(case)
    with_token = {
        name
        for name, pod in manifests.pod_specifications()
        if pod["automountServiceAccountToken"] is not False
    }
    asking = {"release-moorline-test-fail-over"}
    if manifests.environment["MOORLINE_KUBERNETES__ENABLED"] == "true":
        asking.add(manifests.deployment["metadata"]["name"])
    assert with_token <= asking
    for account in manifests.of_kind("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_the_ids_are_those_of_the_images() -> None:
    pods = dict(render("trial").pod_specifications())
    assert pods["release-moorline"]["securityContext"]["runAsUser"] == 10001
    assert pods["release-moorline-valkey"]["securityContext"]["runAsUser"] == 999


@EACH_CASE
def test_the_broker_has_no_volume_of_its_own(case: str) -> None:
    """Only files of settings and secrets, read-only, and never by subPath: that would not follow a change."""
    volumes = render(case).pod.get("volumes", [])
    assert all(set(volume) in ({"name", "configMap"}, {"name", "secret"}) for volume in volumes)
    assert all(each["secret"]["defaultMode"] == 0o440 for each in volumes if "secret" in each)
    mounts = render(case).container.get("volumeMounts", [])
    assert all(mount["readOnly"] and "subPath" not in mount for mount in mounts)
    assert {mount["name"] for mount in mounts} == {volume["name"] for volume in volumes}


# The end of a pod


@EACH_CASE
def test_the_grace_period_follows_from_the_settings(case: str) -> None:
    manifests = render(case)
    pause = float(manifests.environment["MOORLINE_CLUSTER__DRAIN_PAUSE_SECONDS"])
    stop = float(manifests.environment["MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS"])
    assert manifests.pod["terminationGracePeriodSeconds"] == math.ceil(pause) + math.ceil(stop) + 10
    if "MOORLINE_ADMIN__TOKENS_FILE" in manifests.environment:  # it would have to have a token
        assert "lifecycle" not in manifests.container
    else:
        assert manifests.container["lifecycle"]["preStop"]["exec"]["command"] == ["moorline", "ctl", "drain"]


def test_ctl_finds_the_node() -> None:
    """At a loopback address: the API is not on others."""
    environment = render("load-balancer").environment
    assert environment["MOORLINE_ADMIN_URL"] == "http://127.0.0.1:8081"
    assert environment["MOORLINE_NODE__ADMIN"] == "0.0.0.0:8080,[::]:8080,127.0.0.1:8081"
    assert environment["MOORLINE_NODE__LISTEN"] == "0.0.0.0:1883,[::]:1883"


def test_new_pods_are_all_there_before_an_old_one_sends_clients_away() -> None:
    """All are started at once, none may be missing, an ending one waits longer than it takes to see it."""
    manifests = render("minimal")
    strategy = manifests.deployment["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}
    probe = manifests.container["readinessProbe"]
    noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert noticed < float(manifests.environment["MOORLINE_CLUSTER__DRAIN_PAUSE_SECONDS"])
    spec = manifests.deployment["spec"]
    assert spec["minReadySeconds"] > 0
    probe = manifests.container["startupProbe"]
    assert (
        probe["periodSeconds"] * probe["failureThreshold"] + spec["minReadySeconds"]
        < spec["progressDeadlineSeconds"]
    )


# Probes


@EACH_CASE
def test_probes(case: str) -> None:
    container = render(case).container
    paths = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    is_https = "MOORLINE_ADMIN__CERTIFICATE" in render(case).environment
    rest = {"port": "admin", **({"scheme": "HTTPS"} if is_https else {})}
    assert paths == {
        "startupProbe": {"path": "/healthz", **rest},
        "readinessProbe": {"path": "/readyz", **rest},
        "livenessProbe": {"path": "/healthz", **rest},
    }
    assert {"name": "admin", "containerPort": 8080, "protocol": "TCP"} in container["ports"]


def test_a_restart_is_the_slowest_answer() -> None:
    """A pod is taken out of the Service long before it would be killed for being slow."""
    container = render("minimal").container
    seconds = {
        name: container[name]["periodSeconds"] * container[name]["failureThreshold"]
        for name in ("readinessProbe", "livenessProbe", "startupProbe")
    }
    assert seconds["readinessProbe"] * 3 <= seconds["livenessProbe"] <= seconds["startupProbe"]


def test_readiness_is_also_what_the_node_says_of_itself() -> None:
    assert render("minimal").pod["readinessGates"] == [{"conditionType": "moorline.io/serving"}]


# Placement


def test_pods_keep_apart_within_a_roll() -> None:
    manifests = render("locked-down")
    (term,) = manifests.pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"] == {"matchLabels": SELECTOR}
    assert term["matchLabelKeys"] == ["pod-template-hash"]
    (constraint,) = manifests.pod["topologySpreadConstraints"]
    assert constraint["matchLabelKeys"] == ["pod-template-hash"]
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert constraint["labelSelector"] == {"matchLabels": SELECTOR}


def test_older_clusters_are_not_asked_for_what_they_do_not_know() -> None:
    (term,) = render("minimal", OLD).pod["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert "matchLabelKeys" not in term["podAffinityTerm"]
    (term,) = render("minimal", NEW).pod["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["podAffinityTerm"]["matchLabelKeys"] == ["pod-template-hash"]


def test_what_is_given_stays_as_it_is() -> None:
    constraint = {"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
                  "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": []}  # fmt: skip
    manifests = render_values({"topologySpreadConstraints": [constraint], "podAntiAffinity": "none"})
    assert manifests.pod["topologySpreadConstraints"] == [constraint]
    assert "affinity" not in manifests.pod


# Numbers of pods


def test_the_autoscaler_decides_alone() -> None:
    manifests = render("autoscaling")
    assert "replicas" not in manifests.deployment["spec"]
    autoscaler = manifests.one("HorizontalPodAutoscaler")["spec"]
    assert autoscaler["scaleTargetRef"] == _reference(manifests.deployment)
    assert autoscaler["metrics"][0]["containerResource"]["container"] == manifests.container["name"]
    assert render("minimal").deployment["spec"]["replicas"] == 3


def _reference(manifest: Manifest) -> dict[str, str]:
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "name": manifest["metadata"]["name"],
    }


def _annotations(manifests: Manifests) -> dict[str, str]:
    found: dict[str, str] = manifests.deployment["spec"]["template"]["metadata"].get("annotations", {})
    return found


def test_pods_are_rolled_when_settings_or_the_url_change() -> None:
    before = _annotations(render_values({"config": {"session": {"queue_limit": 5}}}))
    after = _annotations(render_values({"config": {"session": {"queue_limit": 6}}}))
    assert before.keys() == after.keys() == {"checksum/config"}
    assert before != after
    none = {"existingSecret": {"name": ""}}
    one = _annotations(render_values({"redis": none | {"url": "redis://:one@r"}}))
    other = _annotations(render_values({"redis": none | {"url": "redis://:other@r"}}))
    assert one != other
    assert len(one["checksum/redis"]) == 6  # too little to check guesses of the password


def test_no_secret_is_in_the_pod() -> None:
    manifests = render("url")
    assert "s3cret" not in str(manifests.deployment)
    assert manifests.references["MOORLINE_REDIS__URL"] == {
        "secretKeyRef": {"name": "release-moorline-redis", "key": "url"}
    }
    assert manifests.one("Secret", "release-moorline-redis")


def test_the_image_is_that_of_the_release_or_pinned() -> None:
    assert render("minimal").container["image"] == f"moorline:{broker.__version__}"
    digest = "registry.example/moorline@sha256:" + "fedcba9876543210" * 4
    assert {container["image"] for container in _own_containers(render("extras"))} == {digest}


def _own_containers(manifests: Manifests) -> list[Manifest]:
    names = {"moorline", "round-trip", "fail-over"}
    return [
        container
        for _, pod in manifests.pod_specifications()
        for container in pod["containers"]
        if container["name"] in names
    ]
