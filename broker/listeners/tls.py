"""TLS, before there is a protocol object: the handshake fails or takes too long, and ends nothing but its own
connection."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

from broker.listeners.tls_files import CurrentFiles, UnreadableCertificate, accepted
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally

_BAD_CERTIFICATE: Final = {
    "CERTIFICATE_VERIFY_FAILED",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE",
    UnreadableCertificate.reason,
}

logger = get_logger(__name__)


class Handshake:
    """Of a listener; each uses the files as they are when it begins.

    Not that of a server of the event loop with `ssl`: that one tells nobody of one that failed.
    """

    def __init__(self, files: CurrentFiles, failed: Tally) -> None:
        self._files = files
        self._failed = failed

    async def __call__(
        self,
        taken: socket.socket,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        peer: str,
        timeout_seconds: float,
    ) -> None:
        """Gives the connection a protocol object, if it comes to that. Runs in a task of its own."""
        accepted.set(taken)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                make_protocol,
                taken,
                ssl=self._files.context,
                ssl_handshake_timeout=timeout_seconds,
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
