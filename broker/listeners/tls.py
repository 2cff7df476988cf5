"""TLS, before there is a protocol object: the handshake is a short task, which may fail or take too long, and
ends nothing but its own connection."""

import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

import anyio

from broker.listeners.acceptor import Acceptor, MakeProtocol
from broker.listeners.admission import Gate, Visit
from broker.listeners.tls_files import CurrentFiles, UnreadableCertificate, accepted
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally

_BAD_CERTIFICATE: Final = {
    "CERTIFICATE_VERIFY_FAILED",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE",
    UnreadableCertificate.reason,
}

logger = get_logger(__name__)


class SecureAcceptor(Acceptor):
    """Gives each connection a protocol object once TLS is agreed on. Each handshake uses the files as they
    are when it begins."""

    def __init__(
        self,
        listening: socket.socket,
        gate: Gate,
        make_protocol: MakeProtocol,
        files: CurrentFiles,
        spawn: Callable[[Coroutine[object, object, None]], None],
        failed: Tally,
        timeout_seconds: float,
    ) -> None:
        super().__init__(listening, gate, make_protocol)
        self._files = files
        self._spawn = spawn
        self._failed = failed
        self._timeout_seconds = timeout_seconds

    def _open(self, taken: socket.socket, visit: Visit, peer: str) -> None:
        self._spawn(self._shake_hands(taken, visit, peer))

    async def _shake_hands(self, taken: socket.socket, visit: Visit, peer: str) -> None:
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.set(taken)
        with anyio.CancelScope() as scope:
            visit.when_evicted(scope.cancel)  # until there is a protocol object that knows better
            try:
                await self._loop.connect_accepted_socket(
                    partial(self._make_protocol, visit),
                    taken,
                    ssl=self._files.context,
                    ssl_handshake_timeout=self._timeout_seconds,
                )
                return
            except OSError as error:
                kind = _kind(error)
                if kind == "tls_timeout":
                    visit.gate.admission.offences.refuse("handshake_timeout_seconds", peer=peer)
                self._failed.add(kind)
                logger.debug("TLS handshake failed: %s", _reason(error), extra={"peer": peer})
        visit.leave()


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
