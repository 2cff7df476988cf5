"""What a NetworkPolicy allows and a Role permits, by the rules of Kubernetes: for what the chart writes."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.helm.chart import Manifest, Manifests

Labels = Mapping[str, str]
PORTS: Final = {"mqtt": 1883, "tls": 8883, "web": 8084, "admin": 8080, "valkey": 6379}
"""Names of ports of our pods."""


@dataclass(frozen=True)
class Peer:
    """The other side of a connection: a pod, or an address outside."""

    labels: Labels = field(default_factory=dict)
    namespace: Labels | None = None  # None: that of the release
    address: str = "203.0.113.7"
    is_pod: bool = True


def outside(address: str) -> Peer:
    """No pod."""
    return Peer(address=address, is_pod=False)


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a selector of labels fits; the chart uses `matchLabels` only."""
    assert set(selector) <= {"matchLabels"}
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def allows(
    policies: Iterable[Manifest], pod: Labels, direction: str, peer: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """Whether the policies let this pod talk (`Egress`), or be talked to (`Ingress`)."""
    ours = [
        policy["spec"]
        for policy in policies
        if selects(policy["spec"]["podSelector"], pod) and direction in policy["spec"]["policyTypes"]
    ]
    if not ours:
        return True
    side = "from" if direction == "Ingress" else "to"
    rules = [rule for spec in ours for rule in spec.get(direction.lower(), [])]
    return any(
        _port_fits(rule.get("ports", []), port, protocol) and _peer_fits(rule.get(side, []), peer)
        for rule in rules
    )


def _port_fits(ports: list[Manifest], port: int, protocol: str) -> bool:
    numbers = [(PORTS.get(each["port"], each["port"]), each["protocol"]) for each in ports]
    return not ports or (port, protocol) in numbers


def _peer_fits(peers: list[Manifest], peer: Peer) -> bool:
    return not peers or any(_one_fits(each, peer) for each in peers)


def _one_fits(rule: Manifest, peer: Peer) -> bool:
    if "ipBlock" in rule:
        return ipaddress.ip_address(peer.address) in ipaddress.ip_network(rule["ipBlock"]["cidr"])
    if not peer.is_pod:
        return False
    if "namespaceSelector" in rule:
        in_namespace = selects(rule["namespaceSelector"], peer.namespace or {})
    else:
        in_namespace = peer.namespace is None
    return in_namespace and selects(rule.get("podSelector", {}), peer.labels)


def may(manifests: Manifests, account: str, verb: str, group: str, resource: str, name: str = "") -> bool:
    """Whether the Roles of the release permit it to this account; cluster roles there must be none."""
    assert not manifests.of_kind("ClusterRole")
    assert not manifests.of_kind("ClusterRoleBinding")
    bound = {
        binding["roleRef"]["name"]
        for binding in manifests.of_kind("RoleBinding")
        if any(subject["name"] == account for subject in binding["subjects"])
    }
    rules = [
        rule
        for role in manifests.of_kind("Role")
        if role["metadata"]["name"] in bound
        for rule in role["rules"]
    ]
    return any(
        verb in rule["verbs"]
        and group in rule["apiGroups"]
        and resource in rule["resources"]
        and (not rule.get("resourceNames") or name in rule["resourceNames"])
        for rule in rules
    )
