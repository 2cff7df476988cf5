"""What a metric is: its name, kind and meaning, and where its values are. One definition makes what
`/metrics` says, what docs/metrics.md says, and what alerts and panels may refer to.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

Kind = Literal["counter", "gauge", "histogram"]
Buckets = list[tuple[str, float]]


class Distribution(Protocol):
    """What a histogram has."""

    @property
    def sum(self) -> float:
        """Of all values."""

    def buckets(self) -> Buckets:
        """Upper bound and how many values are not above it; the last one is `+Inf`."""


Value = float | Distribution
Labels = str | tuple[str, ...]
Reading = Value | Iterable[tuple[Labels, Value]] | None
"""One value, or one for each combination of labels; None if it is not known."""

Source = TypeVar("Source")


@dataclass(frozen=True, slots=True)
class Definition(Generic[Source]):
    """A metric of what `read` finds in a source. `name` is without the `_total` that counters get in the
    text. `help` is for everybody, plain text; `note` is added in the documentation, and may have links."""

    kind: Kind
    name: str
    help: str
    read: Callable[[Source], Reading]
    labels: tuple[str, ...] = ()
    note: str = ""

    @property
    def unit(self) -> str:
        """As the name tells it, or nothing."""
        return next((unit for unit in ("seconds", "bytes") if self.name.endswith(f"_{unit}")), "")

    @property
    def series(self) -> str:
        """What it is called in a query; of a histogram, its buckets."""
        return self.name + {"counter": "_total", "gauge": "", "histogram": "_bucket"}[self.kind]

    def family(self, source: Source) -> Metric:
        """As of now."""
        return _family(self, list(_samples(self.read(source))))


def _samples(reading: Reading) -> Iterator[tuple[tuple[str, ...], Value]]:
    if reading is None:
        return
    if isinstance(reading, Iterable):
        for labels, value in reading:
            yield (labels,) if isinstance(labels, str) else labels, value
    else:
        yield (), reading


def _family(
    definition: Definition[Source], values: Iterable[tuple[tuple[str, ...], Value]]
) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    names, text = definition.name, definition.help
    if definition.kind == "histogram":
        histogram = HistogramMetricFamily(names, text, labels=definition.labels)
        for labels, value in values:
            assert not isinstance(value, float | int), definition.name
            histogram.add_metric(labels, value.buckets(), value.sum)
        return histogram
    make = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    family = make(names, text, labels=definition.labels)
    for labels, value in values:
        assert isinstance(value, float | int), definition.name
        family.add_metric(labels, value)
    return family
