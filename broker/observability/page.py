"""The text of `/metrics`."""

from collections.abc import Iterator
from math import isfinite
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from broker.observability.audit import audit_metrics
from broker.observability.bans import ban_metrics
from broker.observability.chores import chore_metrics
from broker.observability.definitions import DEFINITIONS
from broker.observability.forwards import forward_metrics
from broker.observability.metrics import Counters

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class NodeCollector:
    """Turns Counters into metrics at each scrape."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """All metrics of the node; prometheus_client calls it."""
        counters = self._counters
        for definition in DEFINITIONS:
            yield definition.family(counters)
        yield from chore_metrics(counters.chores)
        yield from ban_metrics(counters.bans)
        yield from forward_metrics(counters.forwards)
        yield from audit_metrics()


class MetricsPage:
    """The node's counters and those of its process."""

    def __init__(self, counters: Counters) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(counters))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """The page as of now, of content type CONTENT_TYPE."""
        return generate_latest(self._registry)

    def samples(self, beginning: str = "") -> list[dict[str, object]]:
        """What is on it, in values that JSON knows, of those whose names begin so. None: no finite number."""
        return [
            {
                "name": sample.name,
                "labels": sample.labels,
                "value": sample.value if isfinite(sample.value) else None,
            }
            for metric in self._registry.collect()
            for sample in metric.samples
            if sample.name.startswith(beginning)
        ]
