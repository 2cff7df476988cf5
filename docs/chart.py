"""The README and the schema of the Helm chart, made from the comments and defaults of its values.yaml.

So a value is written down once. What its default doesn't tell (choices, bounds, shapes) stands in RULES. What
`config` allows comes from the settings of the broker.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from broker.settings import ForwardSettings, ListenerSettings, groups

CHART: Final = Path(__file__).parent.parent / "helm" / "moorline"
README: Final = CHART / "README.md"
SCHEMA: Final = CHART / "values.schema.json"

Schema = dict[str, Any]

_DIGEST: Final[Schema] = {"pattern": "^(sha256:[0-9a-f]{64})?$"}
_PULL_POLICY: Final[Schema] = {"enum": ["Always", "IfNotPresent", "Never"]}
_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}
_PORTS: Final[Schema] = {"items": _PORT}
_OBJECTS: Final[Schema] = {"items": {"type": "object"}}
_STRINGS: Final[Schema] = {"items": {"type": "string"}}
_TEXTS: Final[Schema] = {"additionalProperties": {"type": "string"}}
_ANY_OBJECT: Final[Schema] = {"type": "object"}
_PROBE: Final[Schema] = {"additionalProperties": {"type": "integer", "minimum": 0}}
_HOURS: Final[Schema] = {"pattern": "^[0-9]+h$"}
_SHARE: Final[list[Schema]] = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+%$"}]

RULES: Final[Mapping[str, Schema]] = {
    "image.digest": _DIGEST,
    "image.pullPolicy": _PULL_POLICY,
    "imagePullSecrets": _OBJECTS,
    "commonLabels": _TEXTS,
    "commonAnnotations": _TEXTS,
    "replicaCount": {"type": ["integer", "null"], "minimum": 1},
    "redis.url": {"pattern": "^(rediss?(\\+(sentinel|cluster))?://.+)?$"},
    "tls.certManager.issuerRef": {
        "properties": {name: {"type": "string"} for name in ("name", "kind", "group")},
        "additionalProperties": False,
    },
    "tls.certManager.dnsNames": _STRINGS,
    "tls.certManager.duration": _HOURS,
    "tls.certManager.renewBefore": _HOURS,
    "valkey.image.digest": _DIGEST,
    "valkey.image.pullPolicy": _PULL_POLICY,
    "valkey.maxMemory": {"pattern": "^[0-9]+(kb|mb|gb)$"},
    "valkey.resources": _ANY_OBJECT,
    "secretConfig": {
        "items": {
            "type": "object",
            "required": ["setting", "secretName", "key"],
            "additionalProperties": False,
            "properties": {
                "setting": {"type": "string", "pattern": "^[a-z_]+\\.[a-z0-9_]+$"},
                "secretName": {"type": "string", "minLength": 1},
                "key": {"type": "string", "minLength": 1},
            },
        }
    },
    "drain.pauseSeconds": {"type": "number", "minimum": 0, "maximum": 600},
    "drain.timeoutSeconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 600},
    "rollout.maxSurge": {"type": ["integer", "string"], "anyOf": _SHARE},
    "rollout.maxUnavailable": {"type": ["integer", "string"], "anyOf": _SHARE},
    "rollout.minReadySeconds": {"minimum": 0},
    "rollout.progressDeadlineSeconds": {"minimum": 1},
    "serviceAccount.annotations": _TEXTS,
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "service.port": _PORT,
    "service.nodePort": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
    "service.sessionAffinity": {"enum": ["None", "ClientIP"]},
    "service.sessionAffinitySeconds": {"minimum": 1, "maximum": 86400},
    "service.externalTrafficPolicy": {"enum": ["Cluster", "Local"]},
    "service.loadBalancerSourceRanges": _STRINGS,
    "service.ipFamilyPolicy": {"enum": ["", "SingleStack", "PreferDualStack", "RequireDualStack"]},
    "service.annotations": _TEXTS,
    "listenHosts": {**_STRINGS, "minItems": 1},
    "autoscaling.minReplicas": {"minimum": 1},
    "autoscaling.maxReplicas": {"minimum": 1},
    "autoscaling.targetCPU": {"pattern": "^([0-9]+m?)?$"},
    "autoscaling.metrics": _OBJECTS,
    "autoscaling.behavior": _ANY_OBJECT,
    "podDisruptionBudget.maxUnavailable": {"type": ["integer", "string", "null"]},
    "podDisruptionBudget.minAvailable": {"type": ["integer", "string", "null"]},
    "podAntiAffinity": {"enum": ["soft", "hard", "none"]},
    "topologySpreadConstraints": _OBJECTS,
    "nodeSelector": _TEXTS,
    "tolerations": _OBJECTS,
    "resources": _ANY_OBJECT,
    "probes.startup": _PROBE,
    "probes.readiness": _PROBE,
    "probes.liveness": _PROBE,
    "podSecurityContext": _ANY_OBJECT,
    "securityContext": _ANY_OBJECT,
    "networkPolicy.clientsFrom": _OBJECTS,
    "networkPolicy.adminFrom": _OBJECTS,
    "networkPolicy.egress.redisTo": _OBJECTS,
    "networkPolicy.egress.redisPorts": _PORTS,
    "networkPolicy.egress.apiServerPorts": {**_PORTS, "minItems": 1},
    "networkPolicy.egress.extra": _OBJECTS,
    "serviceMonitor.labels": _TEXTS,
    "serviceMonitor.tokenSecret": {
        "properties": {name: {"type": "string", "minLength": 1} for name in ("name", "key")},
        "additionalProperties": False,
    },
    "serviceMonitor.tlsConfig": _ANY_OBJECT,
    "serviceMonitor.relabelings": _OBJECTS,
    "serviceMonitor.metricRelabelings": _OBJECTS,
    "prometheusRule.labels": _TEXTS,
    "prometheusRule.runbookURL": {"pattern": "^(https?://[^#]+)?$"},
    "prometheusRule.extraRules": _OBJECTS,
    "grafanaDashboard.labels": _TEXTS,
    "grafanaDashboard.annotations": _TEXTS,
    "adminIngress.annotations": _TEXTS,
    "podLabels": _TEXTS,
    "podAnnotations": _TEXTS,
    "deploymentAnnotations": _TEXTS,
    "extraEnv": _OBJECTS,
    "extraEnvFrom": _OBJECTS,
    "extraVolumes": _OBJECTS,
    "extraVolumeMounts": _OBJECTS,
    "extraContainers": _OBJECTS,
    "extraInitContainers": _OBJECTS,
    "extraManifests": {"items": {"type": ["object", "string"]}},
    "tests.resources": _ANY_OBJECT,
}
"""By value: what its schema has beside, or in place of, what its default tells."""

OWNED: Final = (
    "node.allow_anonymous",
    "node.listen",
    "node.admin",
    "node.name",
    "node.data_dir",
    "node.workers",
    "node.shutdown_timeout_seconds",
    "redis.url",
    "cluster.drain_pause_seconds",
    "kubernetes.enabled",
    "kubernetes.lease_name",
)
"""Settings that the chart decides on, by other values: no others must be in `_checks.tpl`."""

HEAD: Final = """\
<!-- Written by `make docs` from values.yaml. Change that file, not this one. -->
# Chart of Moorline

Installs the MQTT broker on Kubernetes 1.27 or newer, with Helm 3 or 4. How to choose the values, to scale and
to upgrade, and what to do in a disaster: [docs/kubernetes.md](../../docs/kubernetes.md).

    kubectl create secret generic moorline-redis --from-literal=url=redis://:password@redis.example:6379/0
    kubectl create secret generic moorline-users --from-file=passwords    # as `moorline passwd` writes it
    helm install moorline helm/moorline --set redis.existingSecret.name=moorline-redis \\
      --set auth.passwordFile.secretName=moorline-users

To try it without a Redis of your own:

    helm install moorline helm/moorline --set allowAnonymous=true,valkey.enabled=true

A value that isn't there, or has a shape that it can't have, is refused; so are values that don't go together.

| Value | Default | Meaning |
|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Value:
    """One value, or a group of values, of the chart."""

    path: str
    description: str
    default: object
    is_group: bool


@cache
def chart_values() -> tuple[Value, ...]:
    """All values that have a comment, in the order of the file."""
    text = (CHART / "values.yaml").read_text()
    described = _described(text)
    defaults = yaml.safe_load(text)
    return tuple(
        Value(
            path, description, _at(defaults, path), any(other.startswith(path + ".") for other in described)
        )
        for path, description in described.items()
    )


def _described(text: str) -> dict[str, str]:
    """Dotted name of each key with a comment above it -> that comment."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []  # the keys that the current line is inside of, with their indent
    comment: list[str] = []
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
            continue
        key = re.match(r"\s*([A-Za-z]\w*):", line)
        if key is not None:
            above = [(at, name) for at, name in above if at < indent] + [(indent, key[1])]
            if comment:
                found[".".join(name for _, name in above)] = " ".join(comment)
        comment = []
    return found


def _at(values: object, path: str) -> object:
    for name in path.split("."):
        assert isinstance(values, dict)
        values = values[name]
    return values


def chart_readme() -> str:
    """The whole page."""
    return HEAD + "".join(map(_row, chart_values()))


def _row(value: Value) -> str:
    default = "" if value.is_group else f"`{_shown(value.default)}`"
    return f"| `{value.path}` | {default} | {value.description.replace('|', '/')} |\n"


def _shown(default: object) -> str:
    return "" if default is None else json.dumps(default)


def values_schema() -> str:
    """The whole file."""
    root = _group("")
    # So that it can be a part of another chart, whose `global` Helm hands down.
    root["properties"]["global"] = {"type": "object"}
    root = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart moorline",
    } | root
    return json.dumps(root, indent=2) + "\n"


def _group(path: str) -> Schema:
    prefix = f"{path}." if path else ""
    members = [
        value
        for value in chart_values()
        if value.path.startswith(prefix) and "." not in value.path.removeprefix(prefix)
    ]
    properties = {value.path.removeprefix(prefix): _schema_of(value) for value in members}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema_of(value: Value) -> Schema:
    schema: Schema = {"description": value.description}
    if value.path == "config":
        return schema | config_schema()
    if value.path == "listeners":
        return schema | listeners_schema()
    if value.is_group:
        return schema | _group(value.path)
    return schema | _type_of(value.default) | RULES.get(value.path, {})


def _type_of(default: object) -> Schema:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return {} if default is None else {"type": kinds[type(default)]}


def config_schema() -> Schema:
    """The settings of the broker. Those that the chart decides on may pass: it refuses them in words."""
    properties: dict[str, Schema] = {name: _settings_group(model.model_fields) for name, model in groups()}
    properties["forwards"] = {
        "type": "object",
        "additionalProperties": _settings_group(ForwardSettings.model_fields),
    }
    for setting in OWNED:
        group, _, field = setting.partition(".")
        properties.setdefault(group, _settings_group({}))["properties"][field] = {}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def listeners_schema() -> Schema:
    """By name: where, and any other setting of a listener. Names are those of ports, too: 15 characters."""
    settings = _settings_group(ListenerSettings.model_fields)
    del settings["properties"]["address"]
    listener: Schema = {
        "type": "object",
        "required": ["scheme", "port"],
        "additionalProperties": False,
        "properties": {
            "scheme": {"enum": ["mqtt", "mqtts", "ws", "wss"]},
            "port": _PORT,
            "nodePort": _PORT,
            "path": {"type": "string", "pattern": "^/"},
            "settings": settings,
        },
    }
    names = {"pattern": "^[a-z]([a-z0-9-]{0,13}[a-z0-9])?$", "not": {"enum": ["mqtt", "admin"]}}
    return {"type": "object", "propertyNames": names, "additionalProperties": listener}


def _settings_group(fields: Mapping[str, FieldInfo]) -> Schema:
    properties = {name: setting_schema(info) for name, info in fields.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def setting_schema(info: FieldInfo) -> Schema:
    """What a setting may be, as far as JSON Schema can say it; the broker says the rest at its start."""
    annotation = info.annotation
    if get_origin(annotation) is Literal:
        return {"enum": list(get_args(annotation))}
    kinds: dict[object, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
    if annotation not in kinds or _has_parser(info):
        return {}
    return {"type": kinds[annotation]} | _bounds(info)


def _has_parser(info: FieldInfo) -> bool:
    """Whether it takes other values than those of its type: lists in one string, `auto`."""
    return any(type(each).__name__ == "BeforeValidator" for each in info.metadata)


def _bounds(info: FieldInfo) -> Schema:
    names = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "pattern": "pattern"}
    return {
        keyword: limit
        for bound in info.metadata
        for name, keyword in names.items()
        if (limit := getattr(bound, name, None)) is not None
    }
