"""AUTH: enhanced authentication at CONNECT, and again on an open connection [4.12].

Until the first authentication has succeeded the client has no session, and nothing of it is claimed. While a
later one is under way all goes on as before; if it fails the connection ends.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from broker.auth import Continue, Denied, EnhancedAuthenticator, Failure, Outcome, Success
from broker.client.admitting import end_in_time, note_verdict
from broker.client.authentication import Authentication
from broker.client.client import Client
from broker.client.consulting import act
from broker.client.enforcing import delay
from broker.client.renewing import renew_identity
from broker.mqtt import Auth, Connect, Packet, Properties, ProtocolError, ReasonCode
from broker.observability.logs import get_logger

_UNKNOWN: Final = Failure(
    "this Authentication Method is not known here", ReasonCode.BAD_AUTHENTICATION_METHOD
)

logger = get_logger(__name__)


class _Flow:
    """What becomes of the outcomes. `accept` goes on with the CONNECT, `refuse` answers it."""

    __slots__ = ("_accept", "_client", "_first", "_refuse")

    def __init__(
        self, client: Client, accept: Callable[[Success], None], refuse: Callable[[Failure], None]
    ) -> None:
        self._client = client
        self._accept = accept
        self._refuse = refuse
        self._first: Success | None = None

    def settle(self, outcome: Outcome) -> None:
        """A step has been answered."""
        client = self._client
        client.hub.tick()
        if client.hub.pulse.in_doubt:
            client.hub.hold(lambda: self.settle(outcome))
            return
        if client.is_closed:
            return
        act(client, partial(self._answer, outcome))
        client.hub.after_input()

    def _answer(self, outcome: Outcome) -> None:
        client = self._client
        first = self._first
        if not isinstance(outcome, Continue):
            client.visit.settle()
        if isinstance(outcome, Continue):  # [MQTT-4.12.0-2]
            self._send(ReasonCode.CONTINUE_AUTHENTICATION, outcome.data)
        elif isinstance(outcome, Failure):
            self._fail(outcome)
        elif first is None:
            self._first = outcome
            self._accept(outcome)
        elif outcome.username != first.username:  # the session is the first one's
            self._fail(Failure("authenticated as somebody else"))
        else:  # [MQTT-4.12.1-2]
            logger.info("authenticated again", extra={"client_id": client.client_id, "peer": client.peer})
            if outcome.identity is not None:
                end_in_time(client, outcome.identity)
            self._send(ReasonCode.SUCCESS, outcome.data)
            if outcome.identity is not None and not client.is_closed:
                renew_identity(client, outcome.identity)

    def _send(self, reason_code: ReasonCode, data: bytes | None) -> None:
        method = self._client.connection.authentication_method  # [MQTT-4.12.0-5]
        properties = Properties(authentication_method=method, authentication_data=data)
        self._client.answer(Auth(reason_code, properties))

    def _fail(self, failure: Failure) -> None:
        if self._first is None:  # [MQTT-4.12.0-4]
            self._refuse(failure)
            return
        logger.warning(
            "not authenticated again", extra={"client_id": self._client.client_id, "reason": failure.reason}
        )
        username = failure.username or self._first.username
        note_verdict(self._client, username, Denied(failure.reason_code), "authenticate")
        self._client.close(ReasonCode.NOT_AUTHORIZED, failure.reason)  # [MQTT-4.12.1-2]


def authenticate(
    client: Client,
    connect: Connect,
    method: str,
    accept: Callable[[Success], None],
    refuse: Callable[[Failure], None],
) -> None:
    """Begins the authentication of a CONNECT that names a method, if that is known where it came in."""
    hub = client.hub
    authenticator = _known(client, method)
    if authenticator is None:  # [MQTT-4.12.0-1]
        refuse(_UNKNOWN)
        return
    flow = _Flow(client, accept, refuse)
    client.authentication = Authentication(
        authenticator,
        client.client_id,
        connect.username,
        hub.settings.connection.connect_timeout_seconds,
        hub.spawn,
        flow.settle,
        lambda username: delay(hub.banning, username, time.monotonic()),
    )
    properties = connect.properties
    client.authentication.begin(properties.authentication_data if properties is not None else None)


def _known(client: Client, method: str) -> EnhancedAuthenticator | None:
    hub = client.hub
    if hub.guard is None:
        return hub.authenticators.get(method)
    return hub.guard.chain_of(client.entrance.name).method(method, hub.authenticators)


def on_auth(client: Client, packet: Packet) -> None:
    """The client's next step, or the beginning of another authentication."""
    assert isinstance(packet, Auth)
    if client.authentication is None:  # [MQTT-4.12.0-7]
        raise ProtocolError("AUTH without an Authentication Method at CONNECT")
    client.authentication.take(packet)
