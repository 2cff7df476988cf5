"""Buckets and percentiles."""

import random

import pytest

from loadtest.histogram import HIGHEST_MICROSECONDS, Histogram, Latency, bucket_end, bucket_of


def test_small_values_have_a_bucket_each() -> None:
    assert [bucket_of(value) for value in range(256)] == list(range(256))
    assert [bucket_end(bucket) for bucket in range(256)] == list(range(256))


@pytest.mark.parametrize(
    "value", [255, 256, 257, 511, 512, 1000, 65_535, 65_536, 10**6, 10**9, HIGHEST_MICROSECONDS]
)
def test_a_bucket_holds_its_values_with_less_than_one_percent_error(value: int) -> None:
    bucket = bucket_of(value)
    assert bucket_end(bucket - 1) < value <= bucket_end(bucket)
    assert bucket_end(bucket) <= value * 1.008


def test_percentiles_are_those_of_a_sorted_list_within_one_percent() -> None:
    rng = random.Random(7)
    values = [int(rng.lognormvariate(6, 1.5)) for _ in range(20_000)]
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    values.sort()
    for percent in (50, 90, 99, 99.9):
        exact = values[int(len(values) * percent / 100) - 1]
        assert exact <= histogram.percentile(percent) <= exact * 1.01 + 1


def test_the_maximum_is_exact_and_a_run_counts_as_often_as_it_is_long() -> None:
    histogram = Histogram()
    histogram.record(123_457, times=3)
    histogram.record(10, times=97)
    assert histogram.total == 100
    assert histogram.percentile(97) == 10
    assert histogram.percentile(98) == 123_457
    assert Latency.of(histogram) == Latency(p50=0.01, p90=0.01, p99=123.457, p99_9=123.457, max=123.457)


def test_values_outside_are_counted_at_the_ends() -> None:
    histogram = Histogram()
    histogram.record(-5)
    histogram.record(HIGHEST_MICROSECONDS * 3)
    assert histogram.percentile(50) == 0
    assert histogram.percentile(100) == HIGHEST_MICROSECONDS


def test_two_histograms_add_up() -> None:
    one, other = Histogram(), Histogram()
    one.record(5)
    other.record(7, times=2)
    one.add(other)
    assert (one.total, one.maximum, one.percentile(50)) == (3, 7, 7)


def test_several_percentiles_are_found_at_once() -> None:
    histogram = Histogram()
    for value in range(1, 101):
        histogram.record(value)
    assert histogram.percentiles(0, 50, 99, 100) == [1, 50, 99, 100]


def test_nothing_counted_has_no_latency() -> None:
    assert Histogram().percentile(50) == 0
    assert Latency.of(Histogram()) is None
