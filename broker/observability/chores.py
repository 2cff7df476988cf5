"""Counters of what a process does beside serving: requests to the Kubernetes API, rebalancing."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from broker.observability.definition import Definition

LABELS_MAXIMUM = 64


class ChoreCounters:
    """One for a process; a node and the parent of several nodes both have one."""

    __slots__ = ("has_turn", "kubernetes_requests", "rebalanced")

    def __init__(self) -> None:
        self.has_turn = False
        self.rebalanced = 0
        self.kubernetes_requests: dict[tuple[str, str], int] = {}

    def count_request(self, verb: str, code: str) -> None:
        """To the Kubernetes API. Verbs are ours; what would make too many codes is counted as `other`."""
        counts = self.kubernetes_requests
        if (verb, code) not in counts and len(counts) >= LABELS_MAXIMUM:
            code = "other"
        counts[verb, code] = counts.get((verb, code), 0) + 1


DEFINITIONS: Final[tuple[Definition[ChoreCounters], ...]] = (
    Definition(
        "gauge",
        "moorline_rebalance_turn",
        "1 on the process that evens out the cluster by itself.",
        lambda c: int(c.has_turn),
    ),
    Definition(
        "counter",
        "moorline_rebalanced_clients",
        "Clients that were sent away to even out the nodes, counted by whoever gave the order.",
        lambda c: c.rebalanced,
    ),
    Definition(
        "counter",
        "moorline_kubernetes_requests",
        "Requests to the Kubernetes API, by verb and code of the answer.",
        lambda c: c.kubernetes_requests.items(),
        ("verb", "code"),
        "See [Kubernetes API](kubernetes-integration.md).",
    ),
)


def chore_metrics(counters: ChoreCounters) -> Iterator[Metric]:
    """As Prometheus has them."""
    return (definition.family(counters) for definition in DEFINITIONS)
