"""Takes connections from a listening socket, as far as its gate lets them in. Something may come before there
is a protocol object: the header of a proxy, TLS. That is a short task, which may fail or take too long, and
ends nothing but its own connection.

Not a server of the event loop: that one has no way to take none for a while, makes a transport before anybody
can be asked, and tells nobody of a TLS handshake that failed.
"""

import _socket
import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, Protocol

import anyio

from broker.client import Origin
from broker.listeners.admission import Gate, Visit
from broker.listeners.proxied import HeaderRefused, Proxies
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally

ACCEPT_BATCH: Final = 8
"""Connections taken at once; then others have their turn. With 64 those who knock kept them waiting longer: a
storm of WebSockets that come to nothing raised p99 of the others to 61 ms in place of 39 (`make attacks`)."""

_PAUSE_SECONDS: Final = 1.0
_SHORTEST_SECONDS: Final = 0.001
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: nothing of the connection stays in the kernel
_TOO_LATE: Final = {"proxy_timeout", "tls_timeout"}

logger = get_logger(__name__)

MakeProtocol = Callable[[Origin | None, Visit], asyncio.BaseProtocol]


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


class _Taken(socket.socket):
    """A connection. Family and type are the numbers that they are: as members of enumerations, made anew each
    of the five times that somebody asks, they were 7 us of a connection's 100."""

    __slots__ = ()

    family = _socket.socket.family  # type: ignore[assignment]  # a number, which equals the member
    type = _socket.socket.type  # type: ignore[assignment]  # a number, which equals the member


class Acceptor:
    """Gives each connection a protocol object once the proxy has said where it is from, and TLS is agreed on;
    as far as there is one, and the other. Both together may take `timeout_seconds`. `listening` does so."""

    def __init__(
        self,
        listening: socket.socket,
        gate: Gate,
        proxies: Proxies | None,
        secure: Secure | None,
        make_protocol: MakeProtocol,
        spawn: Callable[[Coroutine[object, object, None]], None],
        failed: Tally,
        timeout_seconds: float,
        is_banned: Callable[[str], bool],
    ) -> None:
        self._listening = listening
        self._kind = int(listening.family), int(listening.type), listening.proto
        self._gate = gate
        self._proxies = proxies
        self._secure = secure
        self._make_protocol = make_protocol
        self._spawn = spawn
        self._failed = failed
        self._timeout_seconds = timeout_seconds
        self._is_banned = is_banned
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Takes no more connections. May be called again."""
        if self._listening.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                taken, peer = self._take()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # The machine has no more to give: trying at once again would only burn the processor.
                    logger.error("no connections taken for %g s: %s", _PAUSE_SECONDS, error.strerror)
                    self._rest(_PAUSE_SECONDS)
                return  # the others: nobody waits any more
            if self._keeps_out(peer):
                _drop(taken)
                continue
            host = str(peer[0]) if self._proxies is None and isinstance(peer, tuple) else ""
            visit = self._gate.enter(host)
            if visit is None:
                _drop(taken)
                continue  # it costs others nothing of the rate
            if self._proxies is None and self._secure is None:
                self._open(taken, visit, peer)
            else:
                taken.setblocking(False)
                self._spawn(self._welcome(taken, visit, peer))
            seconds = self._gate.pause_seconds()
            if seconds:
                self._rest(seconds)
                return

    def _take(self) -> tuple[_Taken, object]:
        """As `accept` of the socket does it."""
        handle, peer = self._listening._accept()  # type: ignore[attr-defined]  # what `accept` calls
        return _Taken(*self._kind, handle), peer

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _keeps_out(self, peer: object) -> bool:
        return isinstance(peer, tuple) and self._is_banned(str(peer[0]))

    def _open(self, taken: socket.socket, visit: Visit, peer: object) -> None:
        """There is a transport at once, and nothing more to be done when it has told its protocol object: so
        there is no task, which would be more work than all else in here."""
        opening = self._loop.connect_accepted_socket(partial(self._make_protocol, None, visit), taken)
        _go_on(opening, visit, peer)

    async def _welcome(self, taken: socket.socket, visit: Visit, peer: object) -> None:
        failure: str | None = "interrupted"
        try:
            with anyio.CancelScope() as scope:
                visit.when_evicted(scope.cancel)  # until there is a protocol object that knows better
                failure = await self._introduce(taken, visit, peer)
        finally:
            if failure is not None:
                visit.leave()
        if failure in _TOO_LATE:
            visit.gate.admission.offences.refuse("handshake_timeout_seconds", peer=_name(peer))

    async def _introduce(self, taken: socket.socket, visit: Visit, peer: object) -> str | None:
        """Why it came to nothing; None if there is a protocol object."""
        deadline = self._loop.time() + self._timeout_seconds
        origin: Origin | None = None
        if taken.family != socket.AF_UNIX:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._proxies is not None:
            try:
                origin = await self._proxies.origin_of(taken, peer, self._timeout_seconds)
            except HeaderRefused as refused:
                self._failed.add(refused.metric)
                logger.debug("connection of a proxy refused: %s", refused, extra={"peer": _name(peer)})
                return refused.metric
            if origin is not None and (self._keeps_out(origin) or not visit.come_from(origin.host)):
                _drop(taken)
                return "refused"
        make_protocol = partial(self._make_protocol, origin, visit)
        if self._secure is None:
            await self._loop.connect_accepted_socket(make_protocol, taken)
            return None
        left_seconds = max(_SHORTEST_SECONDS, deadline - self._loop.time())
        return await self._secure(taken, make_protocol, _name(origin or peer), left_seconds)


def _drop(taken: socket.socket) -> None:
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    taken.close()


def _go_on(
    opening: Coroutine["asyncio.Future[object]", None, object], visit: Visit, peer: object, _: object = None
) -> None:
    """As a task would."""
    try:
        waiter = opening.send(None)
    except StopIteration:  # there is a protocol object, which leaves when it has ended
        return
    except (Exception, asyncio.CancelledError) as error:  # the top of this connection
        visit.leave()
        logger.debug("connection not opened: %s", error, exc_info=True, extra={"peer": _name(peer)})
    else:
        waiter.add_done_callback(partial(_go_on, opening, visit, peer))


def _name(peer: object) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)
