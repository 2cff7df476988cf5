"""The exchange of enhanced authentication on one connection [4.12]: whose turn it is.

Each step runs in a task of its own, as the method may have to ask others. Until it has answered it is not
the client's turn; nor is it when no exchange is under way, but to begin one.
"""

from collections.abc import Awaitable, Callable, Coroutine

import anyio

from broker.auth import Continue, EnhancedAuthenticator, Exchange, Failure, Outcome
from broker.mqtt import Auth, ProtocolError, ReasonCode
from broker.observability.logs import get_logger

logger = get_logger(__name__)


class Authentication:
    """Of one connection, from its CONNECT to its end: the first authentication, and those that the client
    begins later.

    `settle` is told each outcome; `spawn` runs a task. A step takes at most `timeout_seconds`. Before one
    that may prove that the client is some user, `delay` waits, if too many have failed to prove it.
    """

    __slots__ = (
        "_authenticator",
        "_claimed",
        "_client_id",
        "_delay",
        "_exchange",
        "_settle",
        "_spawn",
        "_timeout_seconds",
        "_username",
        "is_clients_turn",
    )

    def __init__(
        self,
        authenticator: EnhancedAuthenticator,
        client_id: str,
        username: str | None,
        timeout_seconds: float,
        spawn: Callable[[Coroutine[object, object, None]], None],
        settle: Callable[[Outcome], None],
        delay: Callable[[str | None], Awaitable[None]],
    ) -> None:
        self._authenticator = authenticator
        self._client_id = client_id
        self._username = username
        self._timeout_seconds = timeout_seconds
        self._spawn = spawn
        self._settle = settle
        self._delay = delay
        self._claimed: str | None = None  # who it wants to be
        self._exchange: Exchange | None = None
        self.is_clients_turn = False

    def begin(self, data: bytes | None) -> None:
        """The first step, with what the client has sent along."""
        self._exchange = self._authenticator.begin(self._client_id, self._username)
        self._spawn(self._step(self._exchange, data))

    def take(self, auth: Auth) -> None:
        """An AUTH of the client. Raises ProtocolError if it is not its turn."""
        data = auth.properties.authentication_data if auth.properties is not None else None
        if auth.reason_code == ReasonCode.REAUTHENTICATE:  # [MQTT-4.12.1-1]
            if self._exchange is not None:
                raise ProtocolError("re-authentication while an authentication is under way")
            self.begin(data)
            return
        if self._exchange is None or not self.is_clients_turn:  # [MQTT-4.12.0-3]
            raise ProtocolError("AUTH without being asked for it")
        self.is_clients_turn = False
        self._spawn(self._step(self._exchange, data))

    async def _step(self, exchange: Exchange, data: bytes | None) -> None:
        outcome: Outcome
        try:
            await self._delay(self._claimed)
            with anyio.fail_after(self._timeout_seconds):
                outcome = await exchange.step(data)
        except TimeoutError:
            logger.error("an Authentication Method did not answer in time", extra=self._who())
            outcome = Failure("authentication takes too long", ReasonCode.UNSPECIFIED_ERROR)
        except Exception:  # the top of this task, and not our code
            logger.exception("an Authentication Method failed", extra=self._who())
            outcome = Failure("authentication failed", ReasonCode.UNSPECIFIED_ERROR)
        self.is_clients_turn = isinstance(outcome, Continue)
        self._claimed = outcome.username if isinstance(outcome, Continue) else None
        if not self.is_clients_turn:
            self._exchange = None
        self._settle(outcome)

    def _who(self) -> dict[str, object]:
        return {"client_id": self._client_id}
