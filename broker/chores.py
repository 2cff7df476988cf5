"""What a process does beside serving, once for all its nodes: it tells Kubernetes how it is, and takes its
turn at evening out the cluster. Nothing that fails in here harms a client.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from broker.observability.chores import ChoreCounters
from broker.observability.logs import get_logger
from broker.settings import ClusterSettings, Settings
from cluster.control import Desk
from cluster.drain import Departure
from cluster.kubernetes.environment import PodIdentity, Whereabouts, find_pod, whereabouts
from cluster.kubernetes.pod import Pod, State
from cluster.rebalance import TURN_SECONDS, Rebalancer, RedisTurn, Turn

if TYPE_CHECKING:  # the package may be missing
    from cluster.kubernetes.api import Api

logger = get_logger(__name__)


@dataclass(slots=True)
class Chores:
    """Made before anything else, so that a start that makes no sense ends with a message."""

    settings: Settings
    stopping: Departure
    desk: Desk
    counters: ChoreCounters
    place: Whereabouts
    pod: PodIdentity | None
    api: "Api | None"
    rebalancer: Rebalancer = field(init=False)

    def __post_init__(self) -> None:
        self.rebalancer = self._rebalancer()

    async def run(self, state: Callable[[], State]) -> None:
        """Until cancelled. `state` tells how this process is."""
        async with anyio.create_task_group() as tasks:
            if self.pod is not None and self.api is not None:
                tasks.start_soon(_run_logged, self._upkeep(self.pod, self.api, state))
            tasks.start_soon(_run_logged, self.rebalancer.run)

    def change(self, cluster: ClusterSettings) -> None:
        """From the next look on."""
        self.rebalancer.change(
            cluster.rebalance_clients_per_minute,
            cluster.rebalance_quiet_seconds,
            cluster.rebalance_tolerance,
        )

    def _upkeep(
        self, pod: PodIdentity, api: "Api", state: Callable[[], State]
    ) -> Callable[[], Awaitable[None]]:
        from cluster.kubernetes.upkeep import PodUpkeep  # not above: see `_connected`

        return PodUpkeep(
            api,
            pod,
            self.settings.kubernetes.publish_interval_seconds,
            state,
            on_deleted=lambda: self.stopping.begin("the pod is being deleted"),
            on_pod=self._note_zone,
        ).run

    def _note_zone(self, pod: Pod) -> None:
        self.place.zone = self.place.zone or pod.labels.get(self.settings.kubernetes.zone_label, "")

    def _rebalancer(self) -> Rebalancer:
        cluster = self.settings.cluster
        return Rebalancer(
            self.desk,
            self._turn(),
            cluster.rebalance_clients_per_minute,
            cluster.rebalance_quiet_seconds,
            cluster.rebalance_tolerance,
            self._count_shed,
            self._note_turn,
        )

    def _turn(self) -> Turn:
        """A Lease where there are Leases: everybody can see it there, and it outlives any Redis."""
        us = f"{self.settings.node.name}.{os.urandom(4).hex()}"
        if self.pod is None or self.api is None:
            return RedisTurn(self.desk, us)
        from cluster.kubernetes.lease import LeaseTurn  # not above: see `_connected`

        return LeaseTurn(self.api, self.pod.namespace, self.settings.kubernetes.lease_name, us, TURN_SECONDS)

    def _count_shed(self, clients: int) -> None:
        self.counters.rebalanced += clients

    def _note_turn(self, has_turn: bool) -> None:
        self.counters.has_turn = has_turn


def plan(settings: Settings, stopping: Departure, desk: Desk, counters: ChoreCounters) -> Chores:
    """Raises StartError if Kubernetes has to be used, and something is missing for that."""
    kubernetes = settings.kubernetes
    pod, missing = find_pod(kubernetes.enabled, kubernetes.kubeconfig, os.environ)
    if missing:
        logger.warning("the Kubernetes API is not used: %s", "; ".join(missing))
    api = None if pod is None else _connected(settings, counters)
    return Chores(settings, stopping, desk, counters, whereabouts(os.environ), pod, api)


def _connected(settings: Settings, counters: ChoreCounters) -> "Api":
    # Not above: the package may be missing, and costs memory where there is no Kubernetes.
    from cluster.kubernetes.api import Api, connect

    kubernetes = settings.kubernetes
    return Api(connect(kubernetes.kubeconfig), kubernetes.api_timeout_seconds, counters.count_request)


async def _run_logged(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:  # the top of this task
        logger.exception("a chore failed; it is not done any more until the next start")
