"""How long a worker waits for its next start."""

import pytest

from broker.supervisor.backoff import FIRST_SECONDS, LONGEST_SECONDS, STEADY_SECONDS, Backoff


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff()
    waits = [backoff.after(0.0) for _ in range(8)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_SECONDS, LONGEST_SECONDS])


def test_whoever_ran_for_a_while_starts_again_at_once() -> None:
    backoff = Backoff()
    for _ in range(8):
        backoff.after(STEADY_SECONDS - 0.1)
    assert backoff.after(STEADY_SECONDS) == FIRST_SECONDS
    assert backoff.after(0.0) == 2 * FIRST_SECONDS
