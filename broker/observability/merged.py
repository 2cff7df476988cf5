"""The pages of several processes as one: each sample with the name of the worker it came from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from broker.observability.definition import Definition

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


WorkerState = tuple[str, bool, int]
"""Of a worker: name, whether it answers, and how often it was started again."""

DEFINITIONS: Final[tuple[Definition[Sequence[WorkerState]], ...]] = (
    Definition(
        "gauge",
        "moorline_worker_up",
        "1 if the worker answers, by worker.",
        lambda workers: [(name, int(is_up)) for name, is_up, _ in workers],
        (LABEL,),
    ),
    Definition(
        "counter",
        "moorline_worker_restarts",
        "Times that the worker was started again, by worker.",
        lambda workers: [(name, count) for name, _, count in workers],
        (LABEL,),
    ),
)


def worker_metrics(workers: Sequence[WorkerState]) -> list[Metric]:
    """What a parent knows of its workers."""
    return [definition.family(workers) for definition in DEFINITIONS]


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
