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
from typing import Final

from broker.listeners.admission import Gate, Visit
from broker.listeners.introducing import Introduction, MakeProtocol, Taken, drop, name_of
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
    ) -> None:
        self._listening = listening
        self._kind = int(listening.family), int(listening.type), listening.proto
        self._gate = gate
        self._introduction = introduction
        self._knows_hosts = introduction is None or introduction.proxies is None
        self._make_protocol = make_protocol
        self._spawn = spawn
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
                drop(taken)
                continue
            host = str(peer[0]) if self._knows_hosts and isinstance(peer, tuple) else ""
            visit = self._gate.enter(host)
            if visit is None:
                drop(taken)
                continue  # it costs others nothing of the rate
            if self._introduction is None:
                self._open(taken, visit, peer)
            else:
                taken.setblocking(False)
                self._spawn(self._introduction.welcome(taken, visit, peer))
            seconds = self._gate.pause_seconds()
            if seconds:
                self._rest(seconds)
                return

    def _take(self) -> tuple[Taken, object]:
        """As `accept` of the socket does it."""
        handle, peer = self._listening._accept()  # type: ignore[attr-defined]  # what `accept` calls
        return Taken(*self._kind, handle), peer

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
        logger.debug("connection not opened: %s", error, exc_info=True, extra={"peer": name_of(peer)})
    else:
        waiter.add_done_callback(partial(_go_on, opening, visit, peer))
