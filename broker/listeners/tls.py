"""What comes before there is a protocol object, the header of a proxy and TLS: a short task, which may fail
or take too long, and ends nothing but its own connection."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

from broker.client import Origin
from broker.errors import StartError
from broker.listeners.proxied import HeaderRefused, Proxies
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally
from broker.settings import ListenerSettings, load_certificate

ACCEPT_BATCH: Final = 64
"""Connections taken at once; then others have their turn."""

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy, and none that was ever broken
_PAUSE_SECONDS: Final = 1.0
_SHORTEST_SECONDS: Final = 0.001
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

logger = get_logger(__name__)


def make_context(settings: ListenerSettings) -> ssl.SSLContext:
    """What a listener offers. StartError if its files are not what they were when the settings were read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    # A client that asks for something else gets no answer, and may go on: it is not refused.
    context.set_alpn_protocols(["http/1.1"] if settings.address.kind.is_websocket else ["mqtt"])
    assert settings.certificate is not None
    assert settings.key is not None
    try:
        load_certificate(context, settings.certificate, settings.key)
    except ValueError as error:
        raise StartError(f"can't listen on {settings.address}: {error}") from None
    return context


class Acceptor:
    """Takes connections from a listening socket, and gives each a protocol object once the proxy has said
    where it is from, and TLS is agreed on; as far as there is one, and the other.

    Not a server of the event loop with `ssl`: that one tells nobody of a handshake that failed.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext | None,
        proxies: Proxies | None,
        make_protocol: Callable[[Origin | None], asyncio.BaseProtocol],
        spawn: Callable[[Coroutine[object, object, None]], None],
        failed: Tally,
        timeout_seconds: float,
    ) -> None:
        self._listening = listening
        self._context = context
        self._proxies = proxies
        self._make_protocol = make_protocol
        self._spawn = spawn
        self._failed = failed
        self._timeout_seconds = timeout_seconds
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
                accepted, peer = self._listening.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(error)
                return  # the others: nobody waits any more
            accepted.setblocking(False)
            if accepted.family != socket.AF_UNIX:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._welcome(accepted, peer))

    def _rest(self, error: OSError) -> None:
        """The machine has no more to give: trying at once again would only burn the processor."""
        logger.error("no connections taken for %g s: %s", _PAUSE_SECONDS, error.strerror)
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    async def _welcome(self, accepted: socket.socket, peer: object) -> None:
        deadline = self._loop.time() + self._timeout_seconds
        origin: Origin | None = None
        if self._proxies is not None:
            try:
                origin = await self._proxies.origin_of(accepted, peer, self._timeout_seconds)
            except HeaderRefused as refused:
                self._failed.add(refused.metric)
                logger.debug("connection of a proxy refused: %s", refused, extra={"peer": _name(peer)})
                return
        try:
            await self._loop.connect_accepted_socket(
                partial(self._make_protocol, origin),
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._time_left(deadline),
            )
        except OSError as error:
            # ConnectionAbortedError is how both event loops say that time is up.
            is_late = isinstance(error, ConnectionAbortedError)
            self._failed.add("tls_timeout" if is_late else "tls")
            logger.debug("TLS handshake failed: %s", _reason(error), extra={"peer": _name(origin or peer)})

    def _time_left(self, deadline: float) -> float | None:
        """For the handshake; None if there is none, which is all that may be said then."""
        return None if self._context is None else max(_SHORTEST_SECONDS, deadline - self._loop.time())


def _name(peer: object) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
