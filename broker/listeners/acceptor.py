"""Takes connections from a listening socket, as far as its gate lets them in. What may come before there is a
protocol object is a task (`broker.listeners.introducing`); where nothing does there is none.

Not a server of the event loop: that one has no way to take none for a while, makes a transport before anybody
can be asked, and tells nobody of a TLS handshake that failed.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, cast

from broker.listeners.admission import Gate, Visit
from broker.listeners.introducing import Introduction, MakeProtocol, drop, name_of
from broker.listeners.transports import Transports
from broker.listeners.wires import Wires
from broker.observability.logs import get_logger

ACCEPT_BATCH: Final = 8
"""Connections taken at once; then others have their turn. With 64 those who knock kept them waiting longer: a
storm of WebSockets that come to nothing raised p99 of the others to 61 ms in place of 39 (`make attacks`)."""

_PAUSE_SECONDS: Final = 1.0
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

logger = get_logger(__name__)


class Acceptor:
    """Gives each connection a protocol object, once it has been introduced where that is asked. `listening`
    does so."""

    def __init__(
        self,
        listening: socket.socket,
        gate: Gate,
        introduction: Introduction | None,
        make_protocol: MakeProtocol,
        spawn: Callable[[Coroutine[object, object, None]], None],
        is_banned: Callable[[str], bool],
        wires: Wires | None,
    ) -> None:
        if listening.family != socket.AF_UNIX:
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # and so those that it takes
        self._listening = listening
        self._transports = Transports(listening)
        self._gate = gate
        self._introduction = introduction
        self._knows_hosts = introduction is None or introduction.proxies is None
        self._make_protocol = make_protocol
        self._spawn = spawn
        self._is_banned = is_banned
        self._wires = wires
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
                handle, peer = self._take()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # The machine has no more to give: trying at once again would only burn the processor.
                    logger.error("no connections taken for %g s: %s", _PAUSE_SECONDS, error.strerror)
                    self._rest(_PAUSE_SECONDS)
                return  # the others: nobody waits any more
            host = str(peer[0]) if isinstance(peer, tuple) else ""
            if host and self._is_banned(host):
                drop(self._transports.socket(handle))
                continue
            visit = self._gate.enter(host if self._knows_hosts else "")
            if visit is None:
                drop(self._transports.socket(handle))
                continue  # it costs others nothing of the rate
            if self._introduction is None:
                self._open(handle, visit, peer)
            else:
                taken = self._transports.socket(handle)
                taken.setblocking(False)
                self._spawn(self._introduction.welcome(taken, visit, peer))
            seconds = self._gate.pause_seconds()
            if seconds:
                self._rest(seconds)
                return

    def _take(self) -> tuple[int, object]:
        """As `accept` of the socket does it."""
        taken = self._listening._accept()  # type: ignore[attr-defined]  # what `accept` calls
        return cast(tuple[int, object], taken)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _open(self, handle: int, visit: Visit, peer: object) -> None:
        make_protocol = partial(self._make_protocol, peer if isinstance(peer, tuple) else None, visit)
        if self._wires is None:
            self._transports.open(handle, make_protocol, partial(_note_failure, visit, peer))
            return
        try:
            self._wires.open(handle, make_protocol, self._transports)
        except Exception as error:  # noqa: BLE001  # the top of this connection: noted
            _note_failure(visit, peer, error)


def _note_failure(visit: Visit, peer: object, error: BaseException) -> None:
    visit.leave()
    logger.debug("connection not opened: %s", error, exc_info=error, extra={"peer": name_of(peer)})
