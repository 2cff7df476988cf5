"""The last life sign comes before the node leaves: one after that would be refused, as of a dead node."""

from collections.abc import Sequence
from typing import cast

import anyio
import pytest

from cluster import heartbeat
from cluster.heartbeat import Heartbeat
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError, NodeGone, StoreUnavailable
from cluster.store.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class OneServer:
    """A store that only `join` asks anything."""

    is_cluster = False


class Lane:
    """Takes requests in order and answers after a moment."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.has_beaten = anyio.Event()
        self.refuses_to_leave = False

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        if len(self.asked) == 3:
            self.has_beaten.set()
        await anyio.sleep(0.02)
        if request[0] == "leave" and self.refuses_to_leave:
            raise ItemError("no")
        return [1, 1]

    def heartbeat(self) -> Heartbeat:
        store = cast(Store, OneServer())
        return Heartbeat(store, "node-1", self.ask, lambda _: None, lambda: b"busy")


async def test_no_beat_after_the_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 0.01)
    lane = Lane()
    beating = lane.heartbeat()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beating.run)
            await lane.has_beaten.wait()
            await beating.leave()
    assert [request[0] for request in lane.asked[-2:]] == ["beat", "leave"]
    assert lane.asked[0] == ["beat", "m", "node-1", b"busy"]


class Side:
    """A store that is away at first, then takes three calls."""

    def __init__(self) -> None:
        self.calls: list[Sequence[Request]] = []

    async def call(self, requests: Sequence[Request], *, function: str) -> list[Reply]:
        self.calls.append(requests)
        if len(self.calls) == 1:
            raise StoreUnavailable("away")
        if len(self.calls) == 4:
            raise NodeGone("declared dead")
        return [[1, 1]]


async def test_it_beats_while_there_are_no_batches_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a node that has much to load would be dead to the others before it serves."""
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 0.01)
    side = Side()
    beating = Heartbeat(cast(Store, side), "node-1", Lane().ask, lambda _: None, lambda: b"busy")
    with anyio.fail_after(5), pytest.raises(NodeGone):
        await beating.run_beside()
    assert side.calls == [[["beat", "m", "node-1", False]]] * 4


async def test_who_can_not_leave_says_so(caplog: pytest.LogCaptureFixture) -> None:
    lane = Lane()
    lane.refuses_to_leave = True
    await lane.heartbeat().leave()
    assert "could not leave" in caplog.text
