"""Counters of what a process does beside serving: requests to the Kubernetes API, rebalancing."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

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


def chore_metrics(counters: ChoreCounters) -> Iterator[Metric]:
    """As Prometheus has them."""
    yield GaugeMetricFamily(
        "moorline_rebalance_turn", "1 if this process rebalances the cluster.", int(counters.has_turn)
    )
    yield CounterMetricFamily(
        "moorline_rebalanced_clients", "Clients sent away to even out the nodes.", counters.rebalanced
    )
    requests = CounterMetricFamily(
        "moorline_kubernetes_requests", "Requests to the Kubernetes API.", labels=["verb", "code"]
    )
    for (verb, code), count in counters.kubernetes_requests.items():
        requests.add_metric([verb, code], count)
    yield requests
