"""Since when something of a client stands still, look by look."""

from dataclasses import dataclass, field
from typing import cast

import anyio
import pytest

from broker import build_mode
from broker.client.client import Client
from broker.client.standing import HELD_UP_SECONDS, READING_PAUSED, WINDOW_FULL, Standing
from broker.observability.events import HELD_UP, WENT_ON, Event, Events
from broker.session import Session
from tests.session.wire import Link, message

pure_only = pytest.mark.skipif(
    build_mode() != "pure", reason="compiled, events take no client but a real one"
)


@dataclass
class HubOfOne:
    """As much of a hub as tells events."""

    events: Events = field(default_factory=Events)
    redis_offset_ms: int = 0


@dataclass
class Here:
    """As much of a client as is looked at."""

    session: Session | None
    hub: HubOfOne = field(default_factory=HubOfOne)
    client_id: str = "c"
    epoch: int = 1
    is_closed: bool = False
    is_reading: bool = True


class Place:
    """A client with a window of two, and what is told of it."""

    def __init__(self) -> None:
        self.link = Link()
        self.session = self.link.session(window=2)
        self.here = Here(self.session)
        self.told: list[tuple[str, object]] = []
        self.here.hub.events.add(self._note)
        self.clients = {"c": cast(Client, self.here)}
        self.standing = Standing(self.clients)

    def _note(self, event: Event) -> None:
        self.told.append((event.kind, event.fields["reason"]))

    def look(self, now: float) -> tuple[float, float, float]:
        """How long something stands: in flight, in its PUBREL phase, reading."""
        stands = self.standing.look(self.clients["c"], now)
        self.standing._stands = {"c": stands} if stands is not None else {}
        if stands is None:
            return 0.0, 0.0, 0.0
        times = (stands.oldest_since, stands.releasing_since, stands.paused_since)
        first, second, third = (now - each if each else 0.0 for each in times)
        return first, second, third

    def send(self, qos: int = 1) -> None:
        assert self.session.direct is not None
        self.session.direct.deliver(message(), qos, False)


@pytest.fixture
def place() -> Place:
    return Place()


def test_the_oldest_in_flight(place: Place) -> None:
    assert place.look(100.0) == (0.0, 0.0, 0.0)
    assert place.standing.find(place.clients["c"]) is None
    place.send()
    assert place.look(101.0)[0] == 0.0
    place.send()
    assert place.look(104.0)[0] == 3.0
    place.session.outbound.puback(1)
    assert place.look(105.0)[0] == 0.0
    assert place.look(106.0)[0] == 1.0
    place.session.outbound.puback(2)
    assert place.look(107.0) == (0.0, 0.0, 0.0)


def test_an_exchange_in_its_last_phase(place: Place) -> None:
    place.send(qos=2)
    place.look(100.0)
    place.session.outbound.pubrec(1, 0)
    assert place.look(101.0) == (0.0, 0.0, 0.0)
    assert place.look(105.0) == (0.0, 4.0, 0.0)


def test_reading_that_is_paused(place: Place) -> None:
    place.here.is_reading = False
    place.look(100.0)
    assert place.look(103.0) == (0.0, 0.0, 3.0)
    place.here.is_reading = True
    assert place.look(104.0) == (0.0, 0.0, 0.0)


def test_another_connection_begins_anew(place: Place) -> None:
    place.send()
    place.look(100.0)
    place.here.epoch = 2
    assert place.look(105.0)[0] == 0.0
    place.here.is_closed = True
    assert place.standing.look(place.clients["c"], 106.0) is None
    place.here.session = None
    assert place.standing.look(place.clients["c"], 106.0) is None


@pure_only
def test_what_stands_for_long_is_told_once_and_when_it_goes_on(place: Place) -> None:
    place.send()
    place.send()
    place.look(100.0)
    place.look(100.0 + HELD_UP_SECONDS - 1)
    assert place.told == []
    for later in range(3):
        place.look(100.0 + HELD_UP_SECONDS + later)
    assert place.told == [(HELD_UP, WINDOW_FULL)]
    place.session.outbound.puback(1)
    place.look(120.0)
    assert place.told[1:] == [(WENT_ON, WINDOW_FULL)]
    place.session.outbound.puback(2)
    place.look(121.0)
    assert len(place.told) == 2


@pure_only
def test_what_goes_on_all_at_once_is_told_too(place: Place) -> None:
    place.here.is_reading = False
    place.look(100.0)
    place.look(100.0 + HELD_UP_SECONDS)
    place.here.is_reading = True
    place.look(112.0)
    place.look(113.0)
    assert place.told == [(HELD_UP, READING_PAUSED), (WENT_ON, READING_PAUSED)]


def test_room_in_the_window_is_not_held_up(place: Place) -> None:
    place.send()
    place.look(100.0)
    place.look(200.0)
    assert place.told == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_round_looks_at_all(place: Place, anyio_backend: str) -> None:
    place.send()
    with anyio.move_on_after(2.5):
        await place.standing.run()
    assert place.standing.find(place.clients["c"]) is not None
