"""Several pages of metrics as one."""

from prometheus_client.parser import text_string_to_metric_families

from broker.observability.merged import merge, own_process, render, worker_metrics
from broker.observability.metrics import Counters
from broker.observability.page import MetricsPage


def _page(name: str, connections: int, round_trip: float) -> str:
    counters = Counters(name, "1.0")
    counters.connections = connections
    counters.messages_dropped.add("queue_full", connections)
    counters.redis_round_trip.observe(round_trip)
    return MetricsPage(counters).render().decode()


def test_each_sample_says_whose_it_is() -> None:
    pages = {"n-1": _page("n-1", 3, 0.003), "n-2": _page("n-2", 4, 0.02)}
    lines = render(merge(own_process(), pages)).decode().splitlines()
    for line in (
        'moorline_node{name="n-1",version="1.0",worker="n-1"} 1.0',
        'moorline_connections{worker="n-1"} 3.0',
        'moorline_connections{worker="n-2"} 4.0',
        'moorline_messages_dropped_total{qos="1-2",reason="queue_full",worker="n-2"} 4.0',
        'moorline_redis_round_trip_seconds_bucket{le="0.005",worker="n-1"} 1.0',
        'moorline_redis_round_trip_seconds_bucket{le="0.005",worker="n-2"} 0.0',
        'moorline_redis_round_trip_seconds_bucket{le="+Inf",worker="n-2"} 1.0',
        'moorline_redis_round_trip_seconds_count{worker="n-2"} 1.0',
    ):
        assert line in lines
    assert len({line for line in lines if line.startswith("process_resident_memory_bytes")}) == 3
    heads = [line for line in lines if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))


def test_nothing_is_lost_on_the_way() -> None:
    """Every sample of a page is there with the same value and the label."""
    page = _page("n-1", 3, 0.003)
    merged = render(merge([], {"n-1": page})).decode()
    expected = {
        (sample.name, frozenset({**sample.labels, "worker": "n-1"}.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(merged)
        for sample in family.samples
    } == expected
    assert [line for line in merged.splitlines() if line.startswith("#")] == [
        line for line in page.splitlines() if line.startswith("#")
    ]


def test_what_a_parent_knows_of_its_workers() -> None:
    lines = render(worker_metrics([("n-1", True, 0), ("n-2", False, 7)])).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'moorline_worker_up{worker="n-1"} 1.0',
        'moorline_worker_up{worker="n-2"} 0.0',
        'moorline_worker_restarts_total{worker="n-1"} 0.0',
        'moorline_worker_restarts_total{worker="n-2"} 7.0',
    ]


def test_what_is_given_stays_as_it_is() -> None:
    own = own_process()
    before = [len(metric.samples) for metric in own]
    merge(own, {"n-1": _page("n-1", 1, 0.1)})
    assert [len(metric.samples) for metric in own] == before
