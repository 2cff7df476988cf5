"""How long failed requests wait."""

from cluster.kubernetes.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoff


def test_waits_grow_with_jitter_up_to_a_limit() -> None:
    backoff = Backoff()
    bound = FIRST_SECONDS
    for _ in range(12):
        assert bound / 2 <= backoff.after_failure() <= bound
        bound = min(2 * bound, LONGEST_SECONDS)
    assert bound == LONGEST_SECONDS
    backoff.reset()
    assert backoff.after_failure() <= FIRST_SECONDS


def test_pods_do_not_wait_alike() -> None:
    assert len({Backoff().after_failure() for _ in range(20)}) > 10


def test_the_server_is_heeded() -> None:
    assert Backoff().after_failure(7.0) == 7.0
