"""What a look through the clients finds: open QoS 2 exchanges, how long they have been, and backlogs."""

from types import SimpleNamespace
from typing import cast

import pytest

from broker import build_mode
from broker.client import surveying
from broker.client.client import Client
from broker.client.hub import Hub
from broker.client.surveying import WATCHED, Survey, probe
from broker.observability.sounding import Soundings
from broker.session import Message, Outbox, Session
from tests.routing.room import Room, new_queue

pytestmark = pytest.mark.anyio


class Site:
    """Clients of a room, as a node has them."""

    def __init__(self) -> None:
        self.room = Room()
        self.now = 0.0
        self.clients: dict[str, object] = {}
        self.hub = cast(
            Hub,
            SimpleNamespace(
                clients=self.clients,
                settings=SimpleNamespace(direct_queue_limit=10),
                tick=lambda: self.now,
            ),
        )
        self.soundings = Soundings()
        self.survey = Survey(self.hub, self.soundings, lambda: self.now)

    def connect(self, client_id: str, *, is_persistent: bool = False) -> Session:
        session = self.room.connect(client_id, queue=new_queue() if is_persistent else None)
        self.clients[client_id] = SimpleNamespace(session=session, is_closed=False)
        return session

    async def look(self, seconds: float = 0.0) -> None:
        """After so long."""
        self.now += seconds
        await self.survey.look()

    def oldest(self) -> tuple[float, float]:
        """In and out."""
        return self.soundings.oldest_exchange["in"], self.soundings.oldest_exchange["out"]

    def open(self) -> dict[tuple[str, str], int]:
        """Those that there are."""
        return {key: count for key, count in self.soundings.exchanges.items() if count}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site() -> Site:
    return Site()


def _message(payload: bytes = b"x") -> Message:
    return Message("t", payload, 2, False)


async def test_exchanges_by_direction_and_phase(site: Site) -> None:
    session = site.connect("a")
    assert session.direct is not None
    session.direct.deliver(_message(), 2, False)
    session.direct.deliver(_message(), 2, False)
    session.outbound.pubrec(1, 0)
    session.inbound.begin(9)
    await site.look()
    assert site.open() == {("out", "sent"): 1, ("out", "released"): 1, ("in", "received"): 1}
    session.inbound.settle(9)
    session.outbound.pubcomp(1)
    await site.look()
    assert site.open() == {("out", "sent"): 1, ("in", "routed"): 1}


async def test_the_age_is_that_of_the_oldest(site: Site) -> None:
    session = site.connect("a")
    assert session.direct is not None
    session.direct.deliver(_message(), 2, False)
    await site.look(5)
    session.direct.deliver(_message(), 2, False)
    await site.look(60)
    assert site.oldest() == (0, 60)
    session.outbound.pubrec(1, 0)  # it goes on, and is the same one
    await site.look(10)
    assert site.oldest() == (0, 70)
    session.outbound.pubcomp(1)
    await site.look(1)
    assert site.oldest()[1] < 70
    session.outbound.pubrec(2, 0)
    session.outbound.pubcomp(2)
    await site.look(1)
    assert site.oldest() == (0, 0)


async def test_one_identifier_used_again_and_again_is_not_one_old_exchange(site: Site) -> None:
    session = site.connect("a")
    for _ in range(50):
        session.inbound.begin(1)
        await site.look(1)
        session.inbound.settle(1)
        await site.look(1)
        session.inbound.release(1)
    assert site.oldest()[0] <= 1
    session.inbound.begin(1)
    await site.look(1)
    await site.look(61)
    assert site.oldest()[0] == 61


async def test_those_of_a_client_that_has_gone_are_forgotten(site: Site) -> None:
    session = site.connect("a")
    session.inbound.begin(1)
    await site.look()
    await site.look(30)
    assert site.oldest()[0] == 30
    site.clients.clear()
    await site.look(1)
    assert site.oldest() == (0, 0)
    assert site.open() == {}


async def test_what_is_watched_is_bounded_and_makes_room(site: Site) -> None:
    sessions = [site.connect(f"c{number}") for number in range(WATCHED + 5)]
    for session in sessions:
        session.inbound.begin(1)
    await site.look()
    await site.look(10)
    assert site.oldest()[0] == 10
    assert site.open() == {("in", "received"): WATCHED + 5}
    for session in sessions[:WATCHED]:
        session.inbound.settle(1)
        session.inbound.release(1)
    await site.look()  # those that are over give their places to the others
    await site.look()
    await site.look(20)
    assert site.oldest()[0] == 20


async def test_backlogs(site: Site) -> None:
    session = site.connect("a")
    assert session.direct is not None
    window = session.outbound.window
    for number in range(window + 4):
        session.direct.deliver(_message(b"%d" % number), 1, False)
    site.connect("b")
    await site.look()
    assert site.soundings.backlog_messages == 4
    assert site.soundings.backlog_fullest == 0.4


async def test_it_goes_on_in_steps(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveying, "CLIENTS_PER_STEP", 2)
    monkeypatch.setattr(surveying, "STEP_SECONDS", 0.0)
    for number in range(5):
        site.connect(f"c{number}").inbound.begin(1)
    await site.look()
    assert site.open() == {("in", "received"): 5}


@pytest.mark.skipif(build_mode() == "compiled", reason="a compiled Client is not made without its parts")
async def test_of_those_who_are_sent_something_one_is_probed(site: Site) -> None:
    """Of the kind that has something at QoS 1; what is no client is passed by."""
    session = site.connect("a")
    assert session.direct is not None
    session.direct.deliver(Message("t", b"x", 1, False), 1, False)
    client = Client.__new__(Client)
    client.session = session
    session.outbox.sink = client
    other = site.connect("b")
    probe(site.hub, [other.outbox, session.outbox])
    assert session.outbound.puback(1)
    assert len(site.room.drops.take_probed()) == 1
    probe(site.hub, [session.outbox])
    probe(site.hub, cast(list[Outbox], []))
