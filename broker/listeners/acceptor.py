"""Takes connections on which something comes before there is a protocol object: the header of a proxy, TLS.
That is a short task, which may fail or take too long, and ends nothing but its own connection."""

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, Protocol

from broker.client import Origin
from broker.listeners.proxied import HeaderRefused, Proxies
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally

ACCEPT_BATCH: Final = 64
"""Connections taken at once; then others have their turn."""

_PAUSE_SECONDS: Final = 1.0
_SHORTEST_SECONDS: Final = 0.001
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

logger = get_logger(__name__)


class Secure(Protocol):
    """Agrees on TLS."""

    async def __call__(
        self,
        taken: socket.socket,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        peer: str,
        timeout_seconds: float,
    ) -> None: ...


class Acceptor:
    """Takes connections from a listening socket, and gives each a protocol object once the proxy has said
    where it is from, and TLS is agreed on; as far as there is one, and the other. Both together may take
    `timeout_seconds`."""

    def __init__(
        self,
        listening: socket.socket,
        proxies: Proxies | None,
        secure: Secure | None,
        make_protocol: Callable[[Origin | None], asyncio.BaseProtocol],
        spawn: Callable[[Coroutine[object, object, None]], None],
        failed: Tally,
        timeout_seconds: float,
        is_banned: Callable[[str], bool],
    ) -> None:
        self._listening = listening
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
                taken, peer = self._listening.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(error)
                return  # the others: nobody waits any more
            if self._keeps_out(peer):
                taken.close()
                continue
            taken.setblocking(False)
            if taken.family != socket.AF_UNIX:
                taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._welcome(taken, peer))

    def _rest(self, error: OSError) -> None:
        """The machine has no more to give: trying at once again would only burn the processor."""
        logger.error("no connections taken for %g s: %s", _PAUSE_SECONDS, error.strerror)
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _keeps_out(self, peer: object) -> bool:
        return isinstance(peer, tuple) and self._is_banned(str(peer[0]))

    async def _welcome(self, taken: socket.socket, peer: object) -> None:
        deadline = self._loop.time() + self._timeout_seconds
        origin: Origin | None = None
        if self._proxies is not None:
            try:
                origin = await self._proxies.origin_of(taken, peer, self._timeout_seconds)
            except HeaderRefused as refused:
                self._failed.add(refused.metric)
                logger.debug("connection of a proxy refused: %s", refused, extra={"peer": _name(peer)})
                return
        if self._keeps_out(origin):
            taken.close()
            return
        make_protocol = partial(self._make_protocol, origin)
        if self._secure is None:
            await self._loop.connect_accepted_socket(make_protocol, taken)
        else:
            left_seconds = max(_SHORTEST_SECONDS, deadline - self._loop.time())
            await self._secure(taken, make_protocol, _name(origin or peer), left_seconds)


def _name(peer: object) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)
