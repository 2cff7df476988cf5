"""`/api/v1/overview`: all that the first page of the dashboard shows, in one call.

What it costs is bounded by time and not by who looks: a process makes a new one at most each second, and
gives the same one to everybody. Counts are as the nodes have said with their last life sign; who wants rates
takes two answers and the moments in them.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from broker.admin.alarms import shown_alarm
from broker.admin.describe import describe
from broker.admin.exchange import answer, time_text
from broker.observability.health import Health
from broker.observability.metrics import Counters
from cluster.alarms import Alarm, in_order
from cluster.control import Control, Desk, NodeState
from cluster.store.errors import StoreError

KEPT_SECONDS: Final = 1.0
ALARMS: Final = 20
_STORE_SECONDS: Final = 1.5
_COUNTED: Final = (
    "connections", "sessions", "messages_received", "messages_sent", "bytes_received", "bytes_sent",
    "said_ms", "queued", "backlog",
)  # fmt: skip
"""Of what nodes say of themselves."""


def overview_routes(health: Health, counters: Counters, desk: Desk) -> list[BaseRoute]:
    """Below `/api/v1`."""
    overview = Overview(health, counters, desk)

    @describe("cluster", "Nodes, counts and Redis, for a first look; up to a second old.")
    async def get(_: Request) -> Response:
        return answer(await overview.get())

    return [Route("/overview", get, methods=["GET"])]


class Overview:
    """The last one, and how to make the next."""

    def __init__(self, health: Health, counters: Counters, desk: Desk) -> None:
        self._health = health
        self._counters = counters
        self._desk = desk
        self._made: dict[str, object] = {}
        self._made_at = float("-inf")
        self._making = anyio.Lock()

    async def get(self) -> dict[str, object]:
        """At most KEPT_SECONDS old; whoever asks while one is made waits for that one."""
        async with self._making:
            if time.monotonic() - self._made_at >= KEPT_SECONDS:
                self._made = await self._make()
                self._made_at = time.monotonic()
        return self._made

    async def _make(self) -> dict[str, object]:
        control = self._desk.control
        ready = self._health.ready()
        made: dict[str, object] = {
            "at_ms": time.time_ns() // 1_000_000,
            "answers": {
                "name": self._counters.node_name,
                "version": self._counters.version,
                "ready": ready.ok,
                "reasons": list(ready.reasons),
            },
            "redis": {"state": "away", "reason": "not reached yet"},
            "nodes": None,
            "persistent_sessions": None,
            "retained": None,
            "alarms": [],
        }
        if control is not None:
            try:
                with anyio.fail_after(_STORE_SECONDS):
                    made |= await _of_store(control)
            except (StoreError, TimeoutError) as error:
                made["redis"] = {"state": "away", "reason": str(error) or "no answer"}
                made["alarms"] = _shown(control.alarms.own)
        return made


async def _of_store(control: Control) -> dict[str, object]:
    nodes = await control.nodes()
    return {
        "redis": {"state": "ok", **asdict(await control.server())},
        "nodes": [_node(node) for node in nodes],
        "persistent_sessions": await control.session_count(),
        "retained": await control.retained_count(),
        "alarms": _shown(await control.alarms.all()),
    }


def _shown(alarms: Sequence[Alarm]) -> list[dict[str, object]]:
    """The worst of them."""
    return [shown_alarm(alarm) for alarm in in_order(alarms)[:ALARMS]]


def _node(node: NodeState) -> dict[str, object]:
    info = node.info
    told: dict[str, object] = {"name": node.name, "incarnation": node.incarnation, "alive": node.is_alive}
    if info is None:
        return told
    counted = {name: getattr(info, name) for name in _COUNTED}
    started = time_text(info.started_ms) if info.started_ms else None
    return told | {"version": info.version, "draining": info.draining, "started": started, **counted}
