"""`/api/v1/overview`: what is in it, what it costs however many look, what is left while Redis is away."""

from typing import cast

import anyio
import pytest

from broker.admin import overview
from broker.admin.overview import Overview
from broker.observability.health import Health
from broker.observability.metrics import Counters
from cluster.alarms import Alarm
from cluster.control import Control, Desk, NodeState
from cluster.drain import Departure
from cluster.node_info import NodeInfo
from cluster.store.errors import StoreUnavailable
from cluster.store.server_state import ServerState

pytestmark = pytest.mark.anyio

SERVER = ServerState(
    server="Redis",
    version="7.0",
    round_trip_ms=0.2,
    memory_used_bytes=1000,
    memory_maximum_bytes=0,
    memory_policy="noeviction",
    is_append_only=True,
    is_written=True,
    operations_per_second=5,
    connected_clients=4,
    uptime_seconds=60,
    replicas=0,
    address="127.0.0.1:6379",
)
OURS = Alarm("redis_away", "critical", "a", 0, 1.0, 1.0, "Redis does not answer")
THEIRS = Alarm("loop_lag", "warning", "b", 0, 0.5, 0.1, "it is late")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Alarms:
    own = (OURS,)

    async def all(self) -> list[Alarm]:
        """Of both nodes."""
        return [OURS, THEIRS]


class Cluster:
    """In the place of a Control."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self.asked = 0
        self.trouble: Exception | None = None
        self.delay_seconds = 0.0

    async def nodes(self) -> list[NodeState]:
        """One that says all, one that has said nothing yet."""
        self.asked += 1
        await anyio.sleep(self.delay_seconds)
        if self.trouble is not None:
            raise self.trouble
        info = NodeInfo("a", "1.0", sessions=3, messages_received=10, queued=7, said_ms=1_700_000_000_000)
        return [NodeState("a.1", True, info), NodeState("b.2", False, None)]

    async def server(self) -> ServerState:
        """Well."""
        return SERVER

    async def session_count(self) -> int:
        """Some."""
        return 5

    async def retained_count(self) -> int:
        """Some."""
        return 6


def overview_of(cluster: Cluster | None) -> Overview:
    health, desk = Health(), Desk(Departure(), ["a"])
    health.started()
    if cluster is not None:
        health.redis_back()
        desk.control = cast(Control, cluster)
    return Overview(health, Counters("a", "1.0"), desk)


async def test_what_is_in_it() -> None:
    made = await overview_of(Cluster()).get()
    assert made["answers"] == {"name": "a", "version": "1.0", "ready": True, "reasons": []}
    one, two = cast(list[dict[str, object]], made["nodes"])
    assert (one["sessions"], one["messages_received"], one["queued"]) == (3, 10, 7)
    assert (one["said_ms"], one["draining"], one["started"]) == (1_700_000_000_000, False, None)
    assert two == {"name": "b", "incarnation": "b.2", "alive": False}
    assert cast(dict[str, object], made["redis"])["memory_used_bytes"] == 1000
    assert (made["persistent_sessions"], made["retained"]) == (5, 6)
    assert [alarm["name"] for alarm in cast(list[dict[str, object]], made["alarms"])] == [
        "redis_away",
        "loop_lag",
    ]


async def test_ten_that_look_cost_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.delay_seconds = 0.01
    made = overview_of(cluster)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(made.get)
    await made.get()
    assert cluster.asked == 1
    monkeypatch.setattr(overview, "KEPT_SECONDS", 0.0)
    await made.get()
    assert cluster.asked == 2


@pytest.mark.parametrize("way", ["refuses", "hangs", "never reached"])
async def test_while_redis_is_away(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    if way == "refuses":
        cluster.trouble = StoreUnavailable("refused")
    elif way == "hangs":
        monkeypatch.setattr(overview, "_STORE_SECONDS", 0.01)
        cluster.delay_seconds = 10
    made = await overview_of(None if way == "never reached" else cluster).get()
    reason = {"refuses": "refused", "hangs": "no answer", "never reached": "not reached yet"}[way]
    assert made["redis"] == {"state": "away", "reason": reason}
    assert (made["nodes"], made["retained"]) == (None, None)
    assert len(cast(list[object], made["alarms"])) == (0 if way == "never reached" else 1)
