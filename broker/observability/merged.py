"""The pages of several processes as one: each sample with the name of the worker it came from."""

from collections.abc import Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

LABEL = "worker"


def merge(own: Iterable[Metric], pages: Mapping[str, str]) -> list[Metric]:
    """Our own metrics as they are, and those on the pages, by worker, with the label `worker`.

    Each metric is there once, whoever has it. Raises ValueError for a page that is none.
    """
    merged: dict[str, Metric] = {}
    for metric in own:
        _add(merged, metric, {})
    for worker, page in pages.items():
        for metric in text_string_to_metric_families(page):
            _add(merged, metric, {LABEL: worker})
    return list(merged.values())


def _add(merged: dict[str, Metric], metric: Metric, labels: dict[str, str]) -> None:
    whole = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
    for sample in metric.samples:
        whole.add_sample(sample.name, {**labels, **sample.labels}, sample.value)


def worker_metrics(workers: Iterable[tuple[str, bool, int]]) -> list[Metric]:
    """What a parent knows of its workers: name, whether it answers, and how often it was started again."""
    up = GaugeMetricFamily("moorline_worker_up", "1 if the worker answers.", labels=[LABEL])
    restarts = CounterMetricFamily(
        "moorline_worker_restarts", "Times that the worker was started again.", labels=[LABEL]
    )
    for name, is_up, count in workers:
        up.add_metric([name], is_up)
        restarts.add_metric([name], count)
    return [up, restarts]


def own_process() -> list[Metric]:
    """Of this process: memory, CPU time, files, garbage collection."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return list(registry.collect())


def render(metrics: Iterable[Metric]) -> bytes:
    """A page of content type CONTENT_TYPE."""
    registry = CollectorRegistry()
    registry.register(_Given(metrics))
    return generate_latest(registry)


class _Given:
    """A collector of what is there already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        """prometheus_client calls it."""
        return self._metrics
