"""How all workers together are, looked at once a second: for Kubernetes, which knows one pod."""

import anyio

from broker.supervisor.crew import Crew
from cluster.control import Desk
from cluster.drain import Departure
from cluster.kubernetes.pod import State
from cluster.store.errors import StoreError

LOOK_SECONDS = 1.0


class Outlook:
    """`state` is what was seen last."""

    def __init__(self, crew: Crew, desk: Desk, stopping: Departure) -> None:
        self._crew = crew
        self._desk = desk
        self._stopping = stopping
        self.state = State(0, is_ready=False, is_draining=False, reasons=("starting",))

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            ready = await self._crew.ready()
            self.state = State(await self._connections(), ready.ok, self._stopping.is_set(), ready.reasons)
            await anyio.sleep(LOOK_SECONDS)

    async def _connections(self) -> int:
        """Of all workers, by what they say with their life signs; as before while Redis is away."""
        control = self._desk.control
        names = {worker.name for worker in self._crew.workers}
        try:
            with anyio.fail_after(LOOK_SECONDS):
                nodes = await control.nodes() if control is not None else []
        except (StoreError, TimeoutError):
            return self.state.connections
        return sum(
            node.info.connections
            for node in nodes
            if node.is_alive and node.name in names and node.info is not None
        )
