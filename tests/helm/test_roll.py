"""Clients move once in a roll: the arithmetic of docs/kubernetes.md, by the rules of a Deployment.

They are simulated second by second with the values of the chart: new pods are started as far as `maxSurge`
allows; old ones end as far as those that are available, ready for `minReadySeconds`, allow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.helm.chart import render

LONG_SECONDS = 3600
PODS = 3


@dataclass(frozen=True)
class Rollout:
    """The values that decide."""

    surge: int
    unavailable: int
    min_ready_seconds: int
    pause_seconds: int


@dataclass(frozen=True)
class Roll:
    """When each old pod was told to end, and each new one was ready."""

    ended: list[int]
    ready: list[int]
    pause_seconds: int

    def old_pods_met(self) -> int:
        """The most old pods in the Service at a time when clients of an ended one have been told to go."""
        moments = [ended + self.pause_seconds for ended in self.ended]
        return max(sum(ended > moment for ended in self.ended) for moment in moments)

    def fewest_in_service(self) -> int:
        """The fewest pods that take clients, at any time."""
        moments = sorted({0, *self.ended, *self.ready})
        return min(
            sum(ended > moment for ended in self.ended) + sum(ready <= moment for ready in self.ready)
            for moment in moments
        )


def _rollout(case: str) -> Rollout:
    manifests = render(case)
    spec = manifests.deployment["spec"]
    strategy = spec["strategy"]["rollingUpdate"]
    return Rollout(
        surge=_pods(strategy["maxSurge"], up=True),
        unavailable=_pods(strategy["maxUnavailable"], up=False),
        min_ready_seconds=spec["minReadySeconds"],
        pause_seconds=int(manifests.environment["MOORLINE_CLUSTER__DRAIN_PAUSE_SECONDS"]),
    )


def _pods(share: int | str, *, up: bool) -> int:
    """Kubernetes rounds a surge up, and what may be missing down."""
    if isinstance(share, int):
        return share
    hundredths = int(share.removesuffix("%")) * PODS
    return -(-hundredths // 100) if up else hundredths // 100


def _roll(rollout: Rollout, start_seconds: Callable[[int], int]) -> Roll:
    """`start_seconds` tells how long the i-th new pod takes until it is ready."""
    ready: list[int] = []
    ended: list[int] = []
    for now in range(LONG_SECONDS):
        old = PODS - len(ended)
        room = PODS + rollout.surge - old - len(ready)
        for _ in range(min(room, PODS - len(ready))):
            ready.append(now + start_seconds(len(ready)))
        available = sum(moment + rollout.min_ready_seconds <= now for moment in ready)
        missing = len(ready) - available
        may_end = old + len(ready) - (PODS - rollout.unavailable) - missing
        ended += [now] * max(0, min(may_end, old))
        if available == PODS and len(ended) == PODS:
            return Roll(ended, ready, rollout.pause_seconds)
    raise AssertionError("the roll doesn't end")


@pytest.mark.parametrize("apart", [0, 3, 7])
def test_by_default_clients_meet_new_pods_only(apart: int) -> None:
    roll = _roll(_rollout("minimal"), lambda number: 5 + number * apart)
    assert roll.old_pods_met() == 0
    assert roll.fewest_in_service() >= PODS


def test_new_pods_that_are_ready_too_far_apart_let_clients_move_twice() -> None:
    """The limit that the page tells: `drain.pauseSeconds`."""
    rollout = _rollout("minimal")
    last = rollout.pause_seconds
    assert _roll(rollout, lambda number: 5 + (last if number == 2 else 0)).old_pods_met() == 0
    assert _roll(rollout, lambda number: 5 + (last + 1 if number == 2 else 0)).old_pods_met() == 1


def test_without_room_for_all_clients_may_meet_old_pods() -> None:
    rollout = Rollout(surge=1, unavailable=0, min_ready_seconds=10, pause_seconds=0)
    roll = _roll(rollout, lambda number: 5)
    assert roll.old_pods_met() == PODS - 1
    assert roll.fewest_in_service() >= PODS


def test_the_small_cluster_rolls_within_its_room() -> None:
    assert _rollout("small-cluster").surge == 1
    assert _roll(_rollout("small-cluster"), lambda number: 5).fewest_in_service() >= PODS


@pytest.mark.parametrize(("pods", "moves"), [(3, 1.8), (1000, 2.7)])
def test_how_often_clients_of_the_first_pod_move_one_by_one(pods: int, moves: float) -> None:
    """1 + E(j) moves, with j old pods left: each of the pods is as likely to take a client as any other."""
    further = [0.0]
    for left in range(1, pods):
        further.append(sum(1 + further[less] for less in range(left)) / pods)
    assert 1 + further[-1] == pytest.approx((1 + 1 / pods) ** (pods - 1))
    assert 1 + further[-1] == pytest.approx(moves, abs=0.05)
