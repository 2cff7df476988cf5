"""A rate."""

from broker.observability.token_bucket import TokenBucket


def test_what_is_beyond_the_burst_is_paid_for() -> None:
    bucket = TokenBucket(10.0, 5.0, 0.0)
    assert bucket.take(5, 0.0) == 0.0
    assert bucket.take(2, 0.0) == 0.2
    assert bucket.take(1, 0.0) == 0.3  # behind those
    assert bucket.take(1, 0.4) == 0.0
    assert bucket.take(5, 100.0) == 0.0
    assert bucket.take(1, 100.0) == 0.1  # no more than the burst was there


def test_one_if_it_is_there() -> None:
    bucket = TokenBucket(10.0, 1.0, 0.0)
    assert bucket.take_if_there(0.0)
    assert not bucket.take_if_there(0.05)
    assert bucket.take_if_there(0.11)
