"""What is published of a process, decided without any server."""

import pytest

from cluster.kubernetes.pod import (
    HIGHEST_COST,
    LOWEST_COST,
    Pod,
    State,
    deletion_cost,
    is_worth_publishing,
    parse_pod,
    serving_patch,
)


def test_costs_are_within_what_the_controller_reads() -> None:
    assert deletion_cost(State(12, is_ready=False, is_draining=False)) == 12
    assert deletion_cost(State(2**40, is_ready=True, is_draining=False)) == HIGHEST_COST == 2**31 - 1
    assert deletion_cost(State(12, is_ready=True, is_draining=True)) == LOWEST_COST == -(2**31)


@pytest.mark.parametrize(
    ("cost", "published", "intervals", "expected"),
    [
        (0, None, 0.0, True),
        (100, "100", 99.0, False),
        (110, "100", 1.0, True),
        (110, "100", 0.9, False),  # too soon
        (109, "100", 9.9, False),  # too little
        (109, "100", 10.0, True),  # but not for ever
        (1049, "1000", 1.0, False),
        (1050, "1000", 1.0, True),
        (950, "1000", 1.0, True),
        (LOWEST_COST, "100", 0.0, True),  # it drains
        (3, str(LOWEST_COST), 0.0, True),  # somebody else's, or an earlier container of this pod
        (3, "cheap", 0.0, True),
    ],
)
def test_small_changes_wait(cost: int, published: str | None, intervals: float, expected: bool) -> None:
    assert is_worth_publishing(cost, published, intervals) is expected


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"metadata": None, "spec": None, "status": None},
        {"metadata": {"annotations": None, "labels": None}},
    ],
)
def test_a_pod_that_says_nothing(content: dict[str, object]) -> None:
    assert parse_pod(content) == Pod("", False, None, False, None, {})


def test_the_time_of_a_transition_is_that_of_a_change() -> None:
    state = State(1, is_ready=True, is_draining=True)
    patch = serving_patch("u", state, "True", "now")
    assert patch["metadata"] == {"uid": "u"}
    (condition,) = patch["status"]["conditions"]
    assert (condition["status"], condition["reason"], condition["lastTransitionTime"]) == (
        "False",
        "Draining",
        "now",
    )
    again = serving_patch("", state, "False", "now")
    assert again["metadata"] == {}
    assert "lastTransitionTime" not in again["status"]["conditions"][0]
