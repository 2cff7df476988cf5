"""Values that the chart refuses, and that the message says what to do."""

import pytest

from tests.helm.chart import CHART, Refused, Values, render_values, run_helm

NO_REDIS = {"existingSecret": {"name": ""}}

SCHEMA: list[tuple[str, Values]] = [
    ("'replicas' not allowed", {"replicas": 3}),
    ("'tagg' not allowed", {"image": {"tagg": "1"}}),
    ("at '/replicaCount'", {"replicaCount": 0}),
    ("at '/replicaCount'", {"replicaCount": "three"}),
    ("at '/image/digest'", {"image": {"digest": "latest"}}),
    ("at '/redis/url'", {"redis": {"url": "unix:///tmp/redis.sock"}}),
    ("at '/service/type'", {"service": {"type": "ExternalName"}}),
    ("at '/rollout/maxSurge'", {"rollout": {"maxSurge": "all"}}),
    ("at '/drain/timeoutSeconds'", {"drain": {"timeoutSeconds": 601}}),
    ("at '/probes/liveness/httpGet'", {"probes": {"liveness": {"httpGet": {"path": "/"}}}}),
    ("at '/listenHosts'", {"listenHosts": []}),
    ("at '/autoscaling/targetCPU'", {"autoscaling": {"targetCPU": "70%"}}),
    # Settings of the broker: name, group, kind, bounds, choices.
    ("'queue_limt' not allowed", {"config": {"session": {"queue_limt": 1}}}),
    ("'sessions' not allowed", {"config": {"sessions": {"queue_limit": 1}}}),
    ("at '/config/session/queue_limit'", {"config": {"session": {"queue_limit": "many"}}}),
    ("at '/config/mqtt/receive_maximum'", {"config": {"mqtt": {"receive_maximum": 65_536}}}),
    ("at '/config/session/queue_policy'", {"config": {"session": {"queue_policy": "drop_all"}}}),
    ("'key'", {"secretConfig": [{"setting": "redis.prefix", "secretName": "s"}]}),
]
"""What the schema refuses: part of the message, values."""

CHECKS: list[tuple[str, Values]] = [
    ("say allowAnonymous=true", {"allowAnonymous": False}),
    (
        "redis.existingSecret.name (a Secret with the\nURL), redis.url, or valkey.enabled=true",
        {"redis": NO_REDIS},
    ),
    ("given: redis.url, redis.existingSecret.name.", {"redis": {"url": "redis://r:6379"}}),
    ("given: redis.existingSecret.name, valkey.enabled.", {"valkey": {"enabled": True}}),
    ("decided by another value: listenHosts", {"config": {"node": {"listen": ["0.0.0.0:1883"]}}}),
    ("decided by another value: drain.timeoutSeconds", {"config": {"node": {"shutdown_timeout_seconds": 5}}}),
    ("decided by another value: drain.pauseSeconds", {"config": {"cluster": {"drain_pause_seconds": 5}}}),
    ("decided by another value: replicaCount", {"config": {"node": {"workers": 2}}}),
    ("decided by another value: kubernetes.enabled", {"config": {"kubernetes": {"enabled": False}}}),
    (
        "session.queue_limit is given twice",
        {
            "config": {"session": {"queue_limit": 5}},
            "secretConfig": [{"setting": "session.queue_limit", "secretName": "s", "key": "k"}],
        },
    ),
    (
        "decided by another value: redis.url or redis.existingSecret",
        {"secretConfig": [{"setting": "redis.url", "secretName": "s", "key": "k"}]},
    ),
    ("give one of them", {"autoscaling": {"enabled": True}, "replicaCount": 3}),
    (
        "minReplicas (5) is more than autoscaling.maxReplicas (4)",
        {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}},
    ),
    ("needs something to go by", {"autoscaling": {"enabled": True, "targetCPU": ""}}),
    ("minAvailable or maxUnavailable; set the other", {"podDisruptionBudget": {"minAvailable": 1}}),
    ("needs minAvailable or maxUnavailable", {"podDisruptionBudget": {"maxUnavailable": None}}),
    ("maxUnavailable is 0", {"podDisruptionBudget": {"maxUnavailable": 0}}),
    ("minAvailable is 3 of 3 pods", {"podDisruptionBudget": {"minAvailable": 3, "maxUnavailable": None}}),
    (
        "minAvailable is 2 of 2 pods",
        {
            "autoscaling": {"enabled": True, "minReplicas": 2},
            "podDisruptionBudget": {"minAvailable": 2, "maxUnavailable": None},
        },
    ),
    ("minAvailable is 100% of", {"podDisruptionBudget": {"minAvailable": "100%", "maxUnavailable": None}}),
    ("are both 0", {"rollout": {"maxSurge": "0%", "maxUnavailable": 0}}),
    ("podAntiAffinity must be none", {"affinity": {"podAntiAffinity": {"x": []}}}),
    ("say where Prometheus is", {"serviceMonitor": {"enabled": True}}),
    ("must be at least 2", {"tests": {"failOver": True}, "replicaCount": 1}),
]
"""What the templates refuse."""


@pytest.mark.parametrize(("message", "values"), SCHEMA, ids=[message for message, _ in SCHEMA])
def test_the_schema(message: str, values: Values) -> None:
    with pytest.raises(Refused, match="values don't meet the specifications of the schema") as refused:
        render_values(values)
    assert message in str(refused.value)


@pytest.mark.parametrize(("message", "values"), CHECKS, ids=[message for message, _ in CHECKS])
def test_the_checks(message: str, values: Values) -> None:
    with pytest.raises(Refused) as refused:
        render_values(values)
    assert message in str(refused.value)
    assert "specifications of the schema" not in str(refused.value)


@pytest.mark.parametrize("values", [SCHEMA[0][1], CHECKS[0][1]], ids=["schema", "checks"])
def test_helm_3_refuses_too(values: Values) -> None:
    with pytest.raises(Refused):
        render_values(values, helm="helm3")


def test_nothing_given() -> None:
    with pytest.raises(Refused, match="say allowAnonymous=true"):
        run_helm("helm", "template", "release", str(CHART))


def test_as_a_part_of_another_chart() -> None:
    """Helm hands `global` down to it."""
    assert render_values({"global": {"imageRegistry": "registry.example"}}).deployment
