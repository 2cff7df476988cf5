"""A connection that is not accepted yet: it comes to an end whatever happens. And where clients are."""

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from broker import build_mode
from broker.auth import Authenticator, AuthenticatorChain, Credentials, Identity, Link
from broker.client import Client, Entrance, Hub, Origin
from broker.client.admitting import admit
from broker.mqtt import MQTT_5, Connack, Connect, ConnectionLimits, Decoder, Packet, ReasonCode, State, encode
from broker.observability.metrics import Counters
from broker.observability.offences import Offences
from tests.listeners.visiting import visit

pytestmark = pytest.mark.skipif(
    build_mode() != "pure", reason="a compiled Client takes no Hub but a real one"
)

CONNECT = Connect("c", MQTT_5, True, 0)
TIMEOUT_SECONDS = 5.0


class Wire:
    """In place of a transport."""

    def __init__(self, peer: object) -> None:
        self.written = b""
        self.is_closed = False
        self.is_lost = False
        self._peer = peer

    def get_extra_info(self, name: str) -> object:
        assert name in ("peername", "peercert")
        return self._peer if name == "peername" else None

    def write(self, data: bytes) -> None:
        assert not self.is_lost  # uvloop raises RuntimeError then
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""


class Silent:
    """Never says who anybody is."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        raise AssertionError("its task is not run")


class Place:
    """A node with one connection."""

    def __init__(
        self, peer: object = ("127.0.0.1", 5), kind: str = "tcp", origin: Origin | None = None
    ) -> None:
        self.now = 100.0
        self.is_redis_away = False
        self.tasks: list[Coroutine[object, object, None]] = []
        self.watched: list[float] = []
        self.counters = Counters()
        link = Link("silent", cast(Authenticator, Silent()))
        chain = AuthenticatorChain([link], timeout_seconds=1, skips_failures=False, allows_anonymous=False)
        limits = ConnectionLimits(connect_timeout_seconds=TIMEOUT_SECONDS)
        self.hub = SimpleNamespace(
            settings=SimpleNamespace(connection=limits, outbound_buffer_bytes=1000, connections_maximum=0),
            ready=[],
            counters=self.counters,
            offences=Offences(self.counters),
            connections=set(),
            events=SimpleNamespace(is_wanted=False),
            is_stopping=False,
            rewriting=None,
            tracing=None,
            guard=SimpleNamespace(chain_of=lambda _: chain, counters=self.counters),
            pulse=SimpleNamespace(in_doubt=False),
            wheel=SimpleNamespace(watch_by=lambda _, deadline: self.watched.append(deadline)),
            tick=lambda: self.now,
            after_input=lambda *_: None,
            when_sure=lambda action: action(),
            is_redis_away=lambda: self.is_redis_away,
            spawn=self.tasks.append,
            on_lost=lambda *_: None,
        )
        self.hub.handlers = {Connect: self._on_connect}
        self.wire = Wire(peer)
        self.client = Client(cast(Hub, self.hub), Entrance(kind), origin, visit())
        self.client.connection_made(self.wire)

    def _on_connect(self, client: Client, packet: Packet) -> None:
        assert isinstance(packet, Connect)
        admit(client, packet, self.accept, lambda reason_code, reason: client.close(reason_code, reason))

    def accept(self) -> None:
        """Not here."""
        raise AssertionError("accepted")

    def close(self) -> None:
        """Leaves no task behind."""
        for task in self.tasks:
            task.close()

    def answer(self) -> ReasonCode:
        """Of the CONNACK that was sent."""
        packets: list[Packet] = []
        Decoder(False, 1000, MQTT_5).feed(self.wire.written, packets)
        (connack,) = packets
        assert isinstance(connack, Connack)
        return ReasonCode(connack.reason_code)


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_connect_that_nobody_answers_ends_at_the_deadline(place: Place) -> None:
    """Whatever has become of the task: it never runs here."""
    place.client.data_received(encode(CONNECT, MQTT_5))
    assert place.client.connection.state is State.AUTHENTICATING
    assert place.watched == [place.now + TIMEOUT_SECONDS]
    assert place.client.check_deadline(place.now + TIMEOUT_SECONDS - 0.1) == place.now + TIMEOUT_SECONDS
    assert place.client.check_deadline(place.now + TIMEOUT_SECONDS) == 0.0
    assert place.answer() is ReasonCode.SERVER_UNAVAILABLE
    assert place.wire.is_closed
    assert place.counters.connects["late"] == 1
    place.close()


def test_while_redis_is_away_it_is_held(place: Place) -> None:
    """As all clients are; once Redis is back it has its time again."""
    place.client.data_received(encode(CONNECT, MQTT_5))
    place.is_redis_away = True
    late = place.now + TIMEOUT_SECONDS
    assert place.client.check_deadline(late) == late + TIMEOUT_SECONDS
    place.is_redis_away = False
    assert place.client.check_deadline(late + TIMEOUT_SECONDS) == 0.0
    assert place.wire.is_closed
    place.close()


def test_who_sends_no_connect_is_not_held(place: Place) -> None:
    place.is_redis_away = True
    assert place.client.check_deadline(place.now + TIMEOUT_SECONDS) == 0.0
    assert place.wire.is_closed
    assert place.wire.written == b""


def test_an_error_after_the_verdict_is_answered_and_told_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when it comes later, as the node was in doubt: then nobody is above who would notice."""
    held: list[Callable[[], None]] = []
    place.hub.when_sure = held.append

    async def authenticate(_self: object, _credentials: object) -> Identity:
        return Identity("ann")

    monkeypatch.setattr(AuthenticatorChain, "authenticate", authenticate)
    monkeypatch.setattr("broker.client.admitting.admit_as", lambda *_: 1 / 0)
    place.client.data_received(encode(CONNECT, MQTT_5))
    anyio.run(_run, place.tasks)
    for action in held:
        action()
    assert place.answer() is ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
    assert [record.message for record in caplog.records] == ["client not answered"]


def test_a_connection_that_ends_in_doubt_is_written_to_no_more(place: Place) -> None:
    """Its end is held, behind what is still to be done for it; the transport is gone at once."""
    held: list[Callable[[], None]] = []
    place.hub.hold = held.append
    place.client.data_received(encode(CONNECT, MQTT_5))
    place.hub.pulse.in_doubt = True
    place.client.connection_lost(None)
    place.wire.is_lost = True
    place.hub.pulse.in_doubt = False
    place.client.close(ReasonCode.NOT_AUTHORIZED, "the verdict that was held before")
    (lose,) = held
    place.hub.empty = SimpleNamespace(set=lambda: None)
    place.hub.wheel.unwatch = lambda _: None
    lose()
    assert place.wire.written == b""
    assert place.counters.connections == 0
    place.close()


async def _run(tasks: list[Coroutine[object, object, None]]) -> None:
    for task in tasks:
        await task


@pytest.mark.parametrize(
    ("peer", "kind", "origin", "address", "shown"),
    [
        (("192.0.2.7", 5), "tcp", None, "192.0.2.7", "192.0.2.7:5"),
        (("2001:db8::7", 5, 0, 0), "tls", None, "2001:db8::7", "tls:[2001:db8::7]:5"),
        (("fe80::1%eth0", 5, 0, 2), "ws", None, "fe80::1", "ws:[fe80::1%eth0]:5"),
        (("::ffff:192.0.2.7", 5, 0, 0), "tcp", None, "192.0.2.7", "[::ffff:192.0.2.7]:5"),
        (("10.0.0.1", 5), "tls", Origin("192.0.2.7", 6), "192.0.2.7", "tls:192.0.2.7:6"),
        ("", "unix", None, "", "unix"),
        (None, "unix", None, "", "unix"),
        ("", "unix", Origin("192.0.2.7", 6), "192.0.2.7", "unix:192.0.2.7:6"),
        (None, "tcp", None, "", "unknown"),
    ],
)
def test_where_a_client_is(peer: object, kind: str, origin: Origin | None, address: str, shown: str) -> None:
    """For rules, and for people who read logs."""
    client = Place(peer, kind, origin).client
    assert (client.address, client.peer) == (address, shown)


def test_a_client_without_a_connection_is_nowhere() -> None:
    client = Client(cast(Hub, Place().hub), Entrance(), None, visit())
    assert client.address == ""
