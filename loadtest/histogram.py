"""A histogram of latencies with logarithmic buckets, as HdrHistogram has them.

128 buckets per power of two: a percentile is at most 0.8 % above the true value, whatever its size; memory
doesn't depend on the number of values. Below 256 us each microsecond has its own bucket.
"""

import operator
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

_SUB_BITS: Final = 7
_EXACT_BELOW: Final = 2 << _SUB_BITS
HIGHEST_MICROSECONDS: Final = (1 << 32) - 1
"""71 minutes; longer latencies are counted here."""


def bucket_of(microseconds: int) -> int:
    """Number of the bucket of a value between 0 and HIGHEST_MICROSECONDS."""
    shift = microseconds.bit_length() - _SUB_BITS - 1
    return microseconds if shift <= 0 else (shift << _SUB_BITS) + (microseconds >> shift)


def bucket_end(bucket: int) -> int:
    """The highest value that is counted in this bucket."""
    if bucket < _EXACT_BELOW:
        return bucket
    shift = (bucket >> _SUB_BITS) - 1
    return ((bucket - (shift << _SUB_BITS) + 1) << shift) - 1


_BUCKETS: Final = bucket_of(HIGHEST_MICROSECONDS) + 1


class Histogram:
    """Counts of latencies in microseconds."""

    __slots__ = ("counts", "maximum")

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self.maximum = 0

    def record(self, microseconds: int, times: int = 1) -> None:
        """Count one value `times` times. A negative one (clocks of two cores) counts as 0."""
        value = min(max(microseconds, 0), HIGHEST_MICROSECONDS)
        self.counts[bucket_of(value)] += times
        if value > self.maximum:
            self.maximum = value

    def add(self, other: "Histogram") -> None:
        """Count all that `other` has counted too."""
        self.counts = list(map(operator.add, self.counts, other.counts))
        self.maximum = max(self.maximum, other.maximum)

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def percentile(self, percent: float) -> int:
        """The value (microseconds) that `percent` of all values do not exceed; 0 if there are none."""
        return self.percentiles(percent)[0]

    def percentiles(self, *percents: float) -> list[int]:
        """Several of them, in one pass."""
        seen = list(accumulate(self.counts))
        total = seen[-1]
        if not total:
            return [0] * len(percents)
        # At least one value: a percentile is one that was there.
        places = [bisect_left(seen, max(total * percent / 100, 1)) for percent in percents]
        return [min(bucket_end(place), self.maximum) for place in places]


@dataclass(frozen=True, slots=True)
class Latency:
    """The percentiles of one run, in milliseconds."""

    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float

    @classmethod
    def of(cls, histogram: Histogram) -> "Latency | None":
        """The summary of a histogram; None if it is empty."""
        if not histogram.total:
            return None
        return cls(*(value / 1000 for value in histogram.percentiles(50, 90, 99, 99.9, 100)))
