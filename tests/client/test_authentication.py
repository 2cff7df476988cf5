"""Enhanced authentication where nodes and connections come and go meanwhile; `tests/node` has the rest."""

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from broker import build_mode
from broker.auth import Continue, Exchange, Identity, Outcome, Success
from broker.client import Hub, disconnect_users
from broker.client.authenticating import authenticate, on_auth
from broker.client.client import Client
from broker.mqtt import Auth, Connect, Packet, Properties, ProtocolError, ReasonCode
from tests.listeners.visiting import visit

pure_only = pytest.mark.skipif(
    build_mode() != "pure", reason="compiled, nothing takes a client but a real one"
)

METHOD = Properties(authentication_method="m", authentication_data=b"data")
CONTINUE = ReasonCode.CONTINUE_AUTHENTICATION
CONNECT = Connect("c", 5, True, 0, "name", None, None, METHOD)


class Script:
    """An Authentication Method, and its one exchange, which answers what it is told to."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.got: list[bytes | None] = []
        self.begun: list[tuple[str, str | None]] = []

    def begin(self, client_id: str, username: str | None) -> Exchange:
        self.begun.append((client_id, username))
        return self

    async def step(self, client_data: bytes | None) -> Outcome:
        self.got.append(client_data)
        return self.outcomes.pop(0)


class Room:
    """A client of a node that runs its tasks when the test says so."""

    def __init__(self) -> None:
        self.tasks: list[Coroutine[object, object, None]] = []
        self.held: list[Callable[[], None]] = []
        self.sent: list[Packet] = []
        self.accepted: list[Success] = []
        self.given_up = 0
        self.delayed: list[str | None] = []
        self.pulse = SimpleNamespace(in_doubt=False)
        hub = SimpleNamespace(
            pulse=self.pulse,
            hold=self.held.append,
            tick=lambda: 0.0,
            after_input=lambda *_: None,
            spawn=self.tasks.append,
            settings=SimpleNamespace(connection=SimpleNamespace(connect_timeout_seconds=5.0)),
            guard=None,
            authenticators={},
            banning=SimpleNamespace(begin_delay=self._begin_delay),
        )
        self.client = SimpleNamespace(
            hub=hub,
            client_id="c",
            peer="here",
            is_closed=False,
            authentication=None,
            visit=visit(),
            connection=SimpleNamespace(authentication_method="m"),
            answer=self.sent.append,
            close_for_bug=self._give_up,
        )

    def _begin_delay(self, username: str | None, now: float) -> float:
        self.delayed.append(username)
        return 0.0

    def _give_up(self) -> None:
        self.given_up += 1

    def connect(self, script: Script, accept: Callable[[Success], None] | None = None) -> None:
        self.client.hub.authenticators["m"] = script
        accept = accept or self.accepted.append
        authenticate(cast(Client, self.client), CONNECT, "m", accept, lambda failure: None)

    def auth(self, reason_code: ReasonCode) -> None:
        on_auth(cast(Client, self.client), Auth(reason_code, METHOD))

    def run(self) -> None:
        """What was spawned."""

        async def all_of_them() -> None:
            for task in self.tasks:
                await task

        anyio.run(all_of_them)
        self.tasks.clear()


@pure_only
def test_the_method_learns_what_the_client_has_said() -> None:
    room = Room()
    script = Script(Continue(b"more"), Success("name"))
    room.connect(script)
    assert room.sent == []
    room.run()
    asked = Properties(authentication_method="m", authentication_data=b"more")
    assert room.sent == [Auth(ReasonCode.CONTINUE_AUTHENTICATION, asked)]
    room.auth(ReasonCode.CONTINUE_AUTHENTICATION)
    room.run()
    assert room.accepted == [Success("name")]
    assert script.begun == [("c", "name")]
    assert script.got == [b"data", b"data"]


def test_it_is_not_the_clients_turn_while_a_step_is_under_way() -> None:
    room = Room()
    room.connect(Script(Continue()))
    with pytest.raises(ProtocolError):
        room.auth(ReasonCode.CONTINUE_AUTHENTICATION)
    room.run()


def test_who_has_gone_meanwhile_is_not_accepted() -> None:
    room = Room()
    room.connect(Script(Success("name")))
    room.client.is_closed = True
    room.run()
    assert room.accepted == []


@pure_only
def test_nothing_comes_of_it_while_the_node_is_in_doubt() -> None:
    room = Room()
    room.connect(Script(Success("name")))
    room.pulse.in_doubt = True
    room.run()
    assert room.accepted == []
    room.pulse.in_doubt = False
    (go_on,) = room.held
    go_on()
    assert room.accepted == [Success("name")]


@pure_only
def test_an_error_behind_it_ends_the_connection_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also when it comes later, as the node was in doubt: nobody is above who would notice."""
    room = Room()

    def fail(_success: Success) -> None:
        raise OverflowError

    room.pulse.in_doubt = True
    room.connect(Script(Success("name")), fail)
    room.run()
    room.pulse.in_doubt = False
    for action in room.held:
        action()
    assert room.given_up == 1
    assert [record.message for record in caplog.records] == ["client not answered"]


@pure_only
def test_a_step_that_may_prove_something_waits_for_those_who_guess() -> None:
    """At CONNECT, and as often as the client begins again."""
    room = Room()
    room.connect(Script(Continue(b"1", "ann"), Continue(b"2"), Success("ann"), Continue(b"3", "ann")))
    for reason_code in (None, CONTINUE, CONTINUE, ReasonCode.REAUTHENTICATE):
        if reason_code is not None:
            room.auth(reason_code)
        room.run()
    assert room.delayed == [None, "ann", None, None]
    assert room.accepted == [Success("ann")]


@pure_only
def test_another_authentication_counts_from_then_on() -> None:
    """Until when, and who the client is."""
    room = Room()
    ends: list[str] = []
    renewed: list[Identity] = []
    rights = SimpleNamespace(
        identity=Identity("ann"), governs_publishing=True, replace_identity=renewed.append
    )
    room.client.expiry = SimpleNamespace(cancel=lambda: ends.append("cancelled"))
    room.client.rights, room.client.subscriber = rights, None
    second = Identity("ann", frozenset({"g"}))
    room.connect(Script(Success("ann"), Success("ann", None, Identity("ann")), Success("ann", None, second)))
    room.run()
    room.auth(ReasonCode.REAUTHENTICATE)
    room.run()
    assert (ends, renewed, room.client.expiry) == (["cancelled"], [], None)
    room.auth(ReasonCode.REAUTHENTICATE)
    room.run()
    assert renewed == [second]
    assert room.given_up == 0


@pure_only
def test_who_was_found_out_by_what_does_not_hold_any_more_goes_when_the_doubt_is_over() -> None:
    """It is held itself until then, and let in before."""
    held: list[Callable[[], None]] = []
    closed: list[ReasonCode] = []
    client = SimpleNamespace(rights=None, client_id="c", username="ann", address="", is_closed=False)
    client.close = lambda reason_code, _: closed.append(reason_code)
    hub = SimpleNamespace(connections=[client], when_sure=held.append)
    disconnect_users(cast(Hub, hub), {"ann"}, {"s"})
    client.rights = SimpleNamespace(identity=Identity("ann", source="s"))
    assert closed == []
    for action in held:
        action()
    assert closed == [ReasonCode.NOT_AUTHORIZED]
