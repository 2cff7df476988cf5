"""What our own pod says, and what of us is to be published there. No I/O.

The cost of deleting it is an annotation that the ReplicaSet controller reads when it has to choose: it
deletes the pod with the lowest first. So it is the number of connections, and the lowest of all once we
drain. Every change of a pod is told to all who watch it, so small changes wait.

Whether it serves is a condition, for pods whose readiness gates name it: then the pod counts as ready only
while the condition is True.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
SERVING: Final = "moorline.io/serving"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"

LOWEST_COST: Final = -(2**31)
HIGHEST_COST: Final = 2**31 - 1
CHANGE_SHARE: Final = 0.05
CHANGE_LEAST: Final = 10
SMALL_CHANGES_AFTER: Final = 10
"""Intervals until any change is published."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What matters of a pod. `serving` is None if it has no such condition."""

    uid: str
    is_being_deleted: bool
    deletion_cost: str | None
    has_gate: bool
    serving: str | None
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class State:
    """What this process is at the moment. `reasons` why it is not ready."""

    connections: int
    is_ready: bool
    is_draining: bool
    reasons: tuple[str, ...] = ()


def parse_pod(content: Mapping[str, Any]) -> Pod:
    """From the JSON of the API; what is absent counts as empty."""
    metadata = content.get("metadata") or {}
    gates = (content.get("spec") or {}).get("readinessGates") or ()
    conditions = (content.get("status") or {}).get("conditions") or ()
    return Pod(
        uid=metadata.get("uid", ""),
        is_being_deleted=metadata.get("deletionTimestamp") is not None,
        deletion_cost=(metadata.get("annotations") or {}).get(DELETION_COST),
        has_gate=any(gate.get("conditionType") == SERVING for gate in gates),
        serving=next((each.get("status") for each in conditions if each.get("type") == SERVING), None),
        labels=metadata.get("labels") or {},
    )


def deletion_cost(state: State) -> int:
    """Within 32 bits, as the controller wants it."""
    return LOWEST_COST if state.is_draining else min(state.connections, HIGHEST_COST)


def is_worth_publishing(cost: int, published: str | None, intervals: float) -> bool:
    """Whether `cost` is to take the place of what is there, so many intervals after that was published."""
    if published is None or str(cost) == published:
        return published is None
    try:
        before = int(published)
    except ValueError:  # somebody else's, which the controller can't read either
        return True
    if cost == LOWEST_COST or before < 0:
        return True
    is_large = abs(cost - before) >= max(CHANGE_LEAST, CHANGE_SHARE * before)
    return intervals >= (1 if is_large else SMALL_CHANGES_AFTER)


def cost_patch(uid: str, cost: int) -> dict[str, Any]:
    """A strategic merge patch; refused if the pod of this name is another one by now."""
    return {"metadata": _precondition(uid) | {"annotations": {DELETION_COST: str(cost)}}}


def serving_patch(uid: str, state: State, before: str | None, now: str) -> dict[str, Any]:
    """A strategic merge patch of `pods/status`: other conditions stay. `now`: RFC 3339."""
    status = serving_status(state)
    condition: dict[str, Any] = {"type": SERVING, "status": status}
    if state.is_draining:
        condition |= {"reason": "Draining", "message": "sends its clients away"}
    elif state.is_ready:
        condition |= {"reason": "Serving", "message": "takes clients"}
    else:
        condition |= {"reason": "NotReady", "message": "; ".join(state.reasons)}
    if before != status:
        condition["lastTransitionTime"] = now
    return {"metadata": _precondition(uid), "status": {"conditions": [condition]}}


def serving_status(state: State) -> str:
    """Of the condition."""
    return "True" if state.is_ready and not state.is_draining else "False"


def _precondition(uid: str) -> dict[str, Any]:
    return {"uid": uid} if uid else {}
