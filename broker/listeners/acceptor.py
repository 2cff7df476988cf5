"""Takes connections from a listening socket, as far as its gate lets them in.

Not a server of the event loop: that one has no way to take none for a while, makes a transport before anybody
can be asked, and tells nobody of a TLS handshake that failed.
"""

import asyncio
import errno
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Final

from broker.listeners.admission import Gate, Visit
from broker.observability.logs import get_logger

ACCEPT_BATCH: Final = 64
"""Connections taken at once; then others have their turn."""

_PAUSE_SECONDS: Final = 1.0
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: nothing of the connection stays in the kernel

logger = get_logger(__name__)

MakeProtocol = Callable[[Visit], asyncio.BaseProtocol]


class Acceptor(ABC):
    """Of any kind; what becomes of a connection is its own. It listens already."""

    def __init__(self, listening: socket.socket, gate: Gate, make_protocol: MakeProtocol) -> None:
        self._listening = listening
        self._gate = gate
        self._make_protocol = make_protocol
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

    @abstractmethod
    def _open(self, taken: socket.socket, visit: Visit, peer: str) -> None:
        """Gives it a protocol object, soon. If that fails, the visit has to be left."""

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                taken, peer = self._listening.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # The machine has no more to give: trying at once again would only burn the processor.
                    logger.error("no connections taken for %g s: %s", _PAUSE_SECONDS, error.strerror)
                    self._rest(_PAUSE_SECONDS)
                return  # the others: nobody waits any more
            host, port = peer[:2] if isinstance(peer, tuple) else ("", 0)
            visit = self._gate.enter(host)
            if visit is None:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                taken.close()
                continue  # it costs others nothing of the rate
            taken.setblocking(False)
            self._open(taken, visit, f"{host}:{port}")
            seconds = self._gate.pause_seconds()
            if seconds:
                self._rest(seconds)
                return

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)


class PlainAcceptor(Acceptor):
    """Without TLS. Nothing has to be waited for, so there is a bare task for each: one of a task group would
    be a tenth of what a connection costs."""

    def _open(self, taken: socket.socket, visit: Visit, peer: str) -> None:
        opening = self._loop.create_task(
            self._loop.connect_accepted_socket(partial(self._make_protocol, visit), taken)
        )
        opening.add_done_callback(partial(_opened, visit, peer))


def _opened(visit: Visit, peer: str, opening: "asyncio.Task[object]") -> None:
    """By now there is a protocol object, which leaves when it has ended."""
    error = None if opening.cancelled() else opening.exception()
    if opening.cancelled() or error is not None:
        visit.leave()
        logger.debug("connection not opened: %s", error, extra={"peer": peer})
