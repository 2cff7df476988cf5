"""Server-sent events: as they are written, and when they end."""

from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest

from broker.admin import streams
from broker.admin.streams import EventStream, Voice

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Peer:
    """Who asks, and what it gets."""

    def __init__(self) -> None:
        self.body = b""
        self.started: dict[str, Any] = {}
        self.is_over = False
        self.gone = anyio.Event()
        self.reads = anyio.Event()
        self.reads.set()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.started = dict(message)
            return
        await self.reads.wait()
        self.body += message["body"]
        self.is_over = not message["more_body"]


async def test_what_is_said() -> None:
    async def tell(voice: Voice) -> None:
        await voice.say("packet", b'{"a":1}', "7-0")
        await voice.say("end", b"{}")

    peer = Peer()
    await EventStream(tell, anyio.sleep_forever)({}, peer.receive, peer.send)
    assert peer.started["status"] == 200
    assert peer.body == b':\n\nid: 7-0\nevent: packet\ndata: {"a":1}\n\nevent: end\ndata: {}\n\n'
    assert peer.is_over


async def test_it_ends_with_whoever_asked() -> None:
    ends = []

    async def tell(_: Voice) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append(True)

    peer = Peer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(EventStream(tell, anyio.sleep_forever).__call__, {}, peer.receive, peer.send)
        await anyio.wait_all_tasks_blocked()
        assert ends == []
        peer.gone.set()
    assert ends == [True]


async def test_it_ends_in_order_when_the_process_does() -> None:
    stopping = anyio.Event()

    async def tell(voice: Voice) -> None:
        stopping.set()
        await anyio.sleep_forever()

    peer = Peer()
    await EventStream(tell, stopping.wait)({}, peer.receive, peer.send)
    assert peer.is_over


async def test_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.01)

    async def tell(_: Voice) -> None:
        await anyio.sleep(0.1)

    peer = Peer()
    await EventStream(tell, anyio.sleep_forever)({}, peer.receive, peer.send)
    assert peer.body.count(b":\n\n") > 2


async def test_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "WRITE_SECONDS", 0.05)

    async def tell(voice: Voice) -> None:
        peer.reads = anyio.Event()
        await voice.say("packet", b"{}")

    peer = Peer()
    await EventStream(tell, anyio.sleep_forever)({}, peer.receive, peer.send)
    assert peer.body == b":\n\n"
    assert not peer.is_over
