"""Values that the chart refuses, and that the message says what to do."""

import pytest

from tests.helm.chart import CHART, Refused, Values, render_values, run_helm

TLS = {"scheme": "mqtts", "port": 8883}
INGRESS = {"enabled": True, "host": "mqtt.example", "tlsSecretName": "certificate"}
TOKENS: Values = {"admin": {"tokens": {"secretName": "tokens"}}}
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
    ("at '/listeners/tls/scheme'", {"listeners": {"tls": {"scheme": "tls", "port": 8883}}}),
    ("'port'", {"listeners": {"tls": {"scheme": "mqtts"}}}),
    (
        "'mount_pont' not allowed",
        {"listeners": {"a": {"scheme": "mqtt", "port": 1884, "settings": {"mount_pont": "a"}}}},
    ),
    ("invalid propertyName 'admin'", {"listeners": {"admin": {"scheme": "mqtt", "port": 1884}}}),
    ("'names' not allowed", {"tls": {"certManager": {"issuerRef": {"names": "x"}}}}),
    ("at '/prometheusRule/runbookURL'", {"prometheusRule": {"runbookURL": "here"}}),
    ("'key'", {"secretConfig": [{"setting": "redis.prefix", "secretName": "s"}]}),
]
"""What the schema refuses: part of the message, values."""

CHECKS: list[tuple[str, Values]] = [
    ("also say allowAnonymous=true", {"allowAnonymous": False}),
    (
        "Nothing asks clients who they are",
        {"allowAnonymous": False, "config": {"auth": {"certificate_username": "off"}}},
    ),
    (
        "both auth.rules and auth.rulesConfigMap.name",
        {"auth": {"rules": "[groups]", "rulesConfigMap": {"name": "r"}}},
    ),
    ("there has to be something in listeners", {"service": {"plain": False}}),
    ("listeners.tls is mqtts, which needs a certificate", {"listeners": {"tls": TLS}}),
    (
        "both tls.secretName and tls.certManager.enabled",
        {"tls": {"secretName": "s", "certManager": {"enabled": True, "issuerRef": {"name": "i"}}}},
    ),
    ("give tls.certManager.issuerRef.name", {"tls": {"certManager": {"enabled": True}}}),
    (
        "listeners.b.port: 1884 is the port of listeners.a.",
        {"listeners": {"a": {"scheme": "mqtt", "port": 1884}, "b": {"scheme": "ws", "port": 1884}}},
    ),
    ("is the port of the admin address", {"listeners": {"a": {"scheme": "mqtt", "port": 8081}}}),
    (
        "listeners.a.path: only ws and wss have one",
        {"listeners": {"a": {"scheme": "mqtt", "port": 1884, "path": "/mqtt"}}},
    ),
    (
        "Prometheus needs one: serviceMonitor.tokenSecret",
        {
            "admin": {"tokens": {"secretName": "t"}},
            "serviceMonitor": {"enabled": True},
            "networkPolicy": {"enabled": False},
        },
    ),
    ("adminIngress.enabled would let everybody steer the cluster", {"adminIngress": INGRESS}),
    (
        "would show metrics to everybody",
        {"adminIngress": INGRESS, "config": {"admin": {"open_metrics": True}}, **TOKENS},
    ),
    ("give adminIngress.host", {"adminIngress": {**INGRESS, "host": ""}, **TOKENS}),
    ("give adminIngress.tlsSecretName", {"adminIngress": {**INGRESS, "tlsSecretName": ""}, **TOKENS}),
    ("say where the ingress controller", {"adminIngress": INGRESS, **TOKENS}),
    (
        "auth.password_file is given twice",
        {"auth": {"passwordFile": {"secretName": "s"}}, "config": {"auth": {"password_file": "/x"}}},
    ),
    (
        "redis.ca_file is given twice",
        {
            "redis": {"tls": {"ca": {"secretName": "s"}}},
            "secretConfig": [{"setting": "redis.ca_file", "secretName": "s", "key": "k"}],
        },
    ),
    (
        "tests.failOver takes plain MQTT",
        {
            "tests": {"failOver": True},
            "service": {"plain": False},
            "tls": {"secretName": "s"},
            "listeners": {"tls": TLS},
        },
    ),
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
    with pytest.raises(Refused, match="Nothing asks clients who they are"):
        run_helm("helm", "template", "release", str(CHART))


@pytest.mark.parametrize(
    "values",
    [
        {"auth": {"passwordFile": {"secretName": "users"}}},
        {"auth": {"jwtKeys": {"secretName": "keys"}}},
        {"config": {"auth": {"jwt_keys_url": "https://issuer.example/keys"}}},
        {"config": {"auth": {"authenticators": ["ours"]}}},
        {"config": {"auth": {"certificate_username": "common_name"}}},
        {"secretConfig": [{"setting": "auth.jwt_keys_url", "secretName": "s", "key": "k"}]},
    ],
)
def test_whoever_asks_clients_need_not_let_everybody_in(values: Values) -> None:
    manifests = render_values({"allowAnonymous": False, **values})
    assert manifests.environment["MOORLINE_NODE__ALLOW_ANONYMOUS"] == "false"


def test_as_a_part_of_another_chart() -> None:
    """Helm hands `global` down to it."""
    assert render_values({"global": {"imageRegistry": "registry.example"}}).deployment
