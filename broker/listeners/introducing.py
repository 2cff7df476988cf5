"""What comes before there is a protocol object: the header of a proxy, TLS. A short task, which may fail or
take too long, and ends nothing but its own connection."""

import _socket
import asyncio
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import anyio

from broker.client import Origin, Peer
from broker.listeners.admission import Visit
from broker.listeners.proxied import HeaderRefused, Proxies
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally

_SHORTEST_SECONDS: Final = 0.001
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: nothing of the connection stays in the kernel
_TOO_LATE: Final = {"proxy_timeout", "tls_timeout"}

logger = get_logger(__name__)

MakeProtocol = Callable[[Peer | None, Visit], asyncio.BaseProtocol]


class Secure(Protocol):
    """Agrees on TLS."""

    async def __call__(
        self,
        taken: socket.socket,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        peer: str,
        timeout_seconds: float,
    ) -> str | None:
        """Why it came to nothing, by the name that it is counted by; None if there is a protocol object."""


class Taken(socket.socket):
    """A connection. Family and type are the numbers that they are: as members of enumerations, made anew each
    of the five times that somebody asks, they were 7 us of a connection's 100."""

    __slots__ = ()

    family = _socket.socket.family  # type: ignore[assignment]  # a number, which equals the member
    type = _socket.socket.type  # type: ignore[assignment]  # a number, which equals the member


class Introduction:
    """Of the connections of one listener. The proxy and TLS together may take `timeout_seconds`."""

    def __init__(
        self,
        proxies: Proxies | None,
        secure: Secure | None,
        make_protocol: MakeProtocol,
        failed: Tally,
        timeout_seconds: float,
        is_banned: Callable[[str], bool],
    ) -> None:
        self.proxies = proxies
        self._secure = secure
        self._make_protocol = make_protocol
        self._failed = failed
        self._timeout_seconds = timeout_seconds
        self._is_banned = is_banned

    async def welcome(self, taken: socket.socket, visit: Visit, peer: object) -> None:
        """Gives the connection its protocol object, or ends it."""
        failure: str | None = "interrupted"
        try:
            with anyio.CancelScope() as scope:
                visit.when_evicted(scope.cancel)  # until there is a protocol object that knows better
                failure = await self._introduce(taken, visit, peer)
        finally:
            if failure is not None:
                visit.leave()
        if failure in _TOO_LATE:
            visit.gate.admission.offences.refuse("handshake_timeout_seconds", peer=name_of(peer))

    async def _introduce(self, taken: socket.socket, visit: Visit, peer: object) -> str | None:
        """Why it came to nothing; None if there is a protocol object."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        origin: Origin | None = None
        if self.proxies is not None:
            try:
                origin = await self.proxies.origin_of(taken, peer, self._timeout_seconds)
            except HeaderRefused as refused:
                self._failed.add(refused.metric)
                logger.debug("connection of a proxy refused: %s", refused, extra={"peer": name_of(peer)})
                return refused.metric
            if origin is not None and (self._is_banned(origin.host) or not visit.come_from(origin.host)):
                drop(taken)
                return "refused"
        make_protocol = partial(self._make_protocol, origin, visit)
        if self._secure is None:
            await loop.connect_accepted_socket(make_protocol, taken)
            return None
        left_seconds = max(_SHORTEST_SECONDS, deadline - loop.time())
        return await self._secure(taken, make_protocol, name_of(origin or peer), left_seconds)


def drop(taken: socket.socket) -> None:
    """Nothing is left of the connection."""
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    taken.close()


def name_of(peer: object) -> str:
    """For the log."""
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)
