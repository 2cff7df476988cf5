"""Takes connections from a listening socket, as far as its gate lets them in. What may come before there is a
protocol object is a task (`broker.listeners.introducing`); where nothing does there is none.

Not a server of the event loop: that one has no way to take none for a while, makes a transport before anybody
can be asked, and tells nobody of a TLS handshake that failed.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, cast

from broker.listeners.admission import Gate, Visit
from broker.listeners.introducing import Introduction, MakeProtocol, Taken, drop, name_of
from broker.observability.logs import get_logger

ACCEPT_BATCH: Final = 8
"""Connections taken at once; then others have their turn. With 64 those who knock kept them waiting longer: a
storm of WebSockets that come to nothing raised p99 of the others to 61 ms in place of 39 (`make attacks`)."""

_PAUSE_SECONDS: Final = 1.0
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

logger = get_logger(__name__)


class Handed:
    """A connection as far as uvloop wants to know it. A socket object costs three of a connection's hundred
    microseconds: making it asks the kernel whether it is one. Asyncio's own loops read from that object, and
    get one (`Taken`)."""

    __slots__ = ("_handle", "family", "type")

    def __init__(self, family: int, type: int, handle: int) -> None:
        self.family = family
        self.type = type
        self._handle = handle

    def fileno(self) -> int:
        """The number that the kernel knows it by."""
        return self._handle

    def close(self) -> None:
        """uvloop calls it when it has closed the connection: there is nothing left to be done."""

    def abandon(self) -> None:
        """Closes what no event loop has taken."""
        os.close(self._handle)


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
    ) -> None:
        self._listening = listening
        self._family = int(listening.family)
        self._type = int(listening.type)
        self._proto = listening.proto
        self._gate = gate
        self._introduction = introduction
        self._knows_hosts = introduction is None or introduction.proxies is None
        self._make_protocol = make_protocol
        self._spawn = spawn
        self._is_banned = is_banned
        self._loop = asyncio.get_running_loop()
        self._wants_sockets = isinstance(self._loop, asyncio.BaseEventLoop)
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
                drop(self._socket(handle))
                continue
            visit = self._gate.enter(host if self._knows_hosts else "")
            if visit is None:
                drop(self._socket(handle))
                continue  # it costs others nothing of the rate
            if self._introduction is None:
                self._open(handle, visit, peer)
            else:
                taken = self._socket(handle)
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

    def _socket(self, handle: int) -> Taken:
        return Taken(self._family, self._type, self._proto, handle)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _open(self, handle: int, visit: Visit, peer: object) -> None:
        """There is a transport at once, and nothing more to be done when it has told its protocol object: so
        there is no task, which would be more work than all else in here."""
        make_protocol = partial(self._make_protocol, peer if isinstance(peer, tuple) else None, visit)
        if self._wants_sockets:
            taken = self._socket(handle)
            if not _go_on(self._loop.connect_accepted_socket(make_protocol, taken), visit, peer):
                taken.close()
            return
        handed = Handed(self._family, self._type, handle)
        opening = self._loop.connect_accepted_socket(make_protocol, cast(socket.socket, handed))
        if not _go_on(opening, visit, peer):
            handed.abandon()


def _go_on(
    opening: Coroutine["asyncio.Future[object]", None, object], visit: Visit, peer: object, _: object = None
) -> bool:
    """As a task would. False if it has come to nothing."""
    try:
        waiter = opening.send(None)
    except StopIteration:  # there is a protocol object, which leaves when it has ended
        return True
    except (Exception, asyncio.CancelledError) as error:  # the top of this connection
        visit.leave()
        logger.debug("connection not opened: %s", error, exc_info=True, extra={"peer": name_of(peer)})
        return False
    waiter.add_done_callback(partial(_go_on, opening, visit, peer))
    return True
