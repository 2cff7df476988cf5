"""What the page says of Kubernetes and of rebalancing."""

from broker.observability.chores import LABELS_MAXIMUM, ChoreCounters, chore_metrics


def _samples(counters: ChoreCounters) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in chore_metrics(counters)
        for sample in metric.samples
    }


def test_each_counter_reaches_the_page() -> None:
    counters = ChoreCounters()
    assert _samples(counters) == {
        ("moorline_rebalance_turn",): 0,
        ("moorline_rebalanced_clients_total",): 0,
    }
    counters.has_turn = True
    counters.rebalanced = 7
    for code in ("200", "200", "429"):
        counters.count_request("patch", code)
    assert _samples(counters) == {
        ("moorline_rebalance_turn",): 1,
        ("moorline_rebalanced_clients_total",): 7,
        ("moorline_kubernetes_requests_total", "patch", "200"): 2,
        ("moorline_kubernetes_requests_total", "patch", "429"): 1,
    }


def test_labels_are_bounded() -> None:
    counters = ChoreCounters()
    for code in range(2 * LABELS_MAXIMUM):
        counters.count_request("get", str(code))
    assert len(counters.kubernetes_requests) == LABELS_MAXIMUM + 1
    assert counters.kubernetes_requests["get", "other"] == LABELS_MAXIMUM
