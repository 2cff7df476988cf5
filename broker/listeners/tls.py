"""TLS, before there is a protocol object: the handshake is a short task, which may fail or take too long, and
ends nothing but its own connection."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Final

from broker.listeners.tls_files import CurrentFiles, UnreadableCertificate, accepted
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally

ACCEPT_BATCH: Final = 64
"""Connections taken at once; then others have their turn."""

_PAUSE_SECONDS: Final = 1.0
_BAD_CERTIFICATE: Final = {
    "CERTIFICATE_VERIFY_FAILED",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE",
    UnreadableCertificate.reason,
}
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

logger = get_logger(__name__)


class SecureAcceptor:
    """Takes connections from a listening socket, and gives each a protocol object once TLS is agreed on.

    Not a server of the event loop with `ssl`: that one tells nobody of a handshake that failed. Each uses
    the files as they are when it begins.
    """

    def __init__(
        self,
        listening: socket.socket,
        files: CurrentFiles,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        spawn: Callable[[Coroutine[object, object, None]], None],
        failed: Tally,
        timeout_seconds: float,
    ) -> None:
        self._listening = listening
        self._files = files
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
                taken, peer = self._listening.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(error)
                return  # the others: nobody waits any more
            taken.setblocking(False)
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._shake_hands(taken, f"{peer[0]}:{peer[1]}"))

    def _rest(self, error: OSError) -> None:
        """The machine has no more to give: trying at once again would only burn the processor."""
        logger.error("no connections taken for %g s: %s", _PAUSE_SECONDS, error.strerror)
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    async def _shake_hands(self, taken: socket.socket, peer: str) -> None:
        accepted.set(taken)
        try:
            await self._loop.connect_accepted_socket(
                self._make_protocol,
                taken,
                ssl=self._files.context,
                ssl_handshake_timeout=self._timeout_seconds,
            )
        except OSError as error:
            self._failed.add(_kind(error))
            logger.debug("TLS handshake failed: %s", _reason(error), extra={"peer": peer})


def _kind(error: OSError) -> str:
    if isinstance(error, ConnectionAbortedError):  # how both event loops say that time is up
        return "tls_timeout"
    if isinstance(error, ssl.SSLError) and error.reason in _BAD_CERTIFICATE:
        return "client_certificate"
    return "tls"


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate of the client: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
