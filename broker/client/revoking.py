"""Certificates that are revoked while their clients are connected, or come in.

The handshake looks at the list of the authority by itself. It may have begun before there was a newer one, so
who sends CONNECT is looked at again, and those who have done that before, when there is one.
"""

from typing import Final, Protocol, cast

import anyio.lowlevel

from broker.client.client import Client
from broker.client.hub import Hub
from broker.client.noting import note_sent_away
from broker.mqtt import ReasonCode

REVOKED: Final = "the certificate was revoked"

_CLIENTS_AT_A_TIME: Final = 50


class _Tls(Protocol):
    """As of `ssl.SSLObject`."""

    def getpeercert(self, binary_form: bool, /) -> bytes | None: ...


def is_revoked(client: Client) -> bool:
    """Whether it came with a certificate that does not count any more."""
    known = client.entrance.is_revoked
    if known is None or client.transport is None:
        return False
    tls = cast(_Tls | None, client.transport.get_extra_info("ssl_object"))
    certificate = tls.getpeercert(True) if tls is not None else None
    return certificate is not None and known(certificate)


async def disconnect_revoked(hub: Hub, listener: str) -> None:
    """Those of a listener, with pauses for what else there is to do."""
    for number, client in enumerate(list(hub.connections), 1):
        if client.entrance.name == listener and not client.is_closed and is_revoked(client):
            note_sent_away(client, "certificate")
            client.close(ReasonCode.NOT_AUTHORIZED, REVOKED)
        if number % _CLIENTS_AT_A_TIME == 0:
            hub.after_input()
            await anyio.lowlevel.checkpoint()
    hub.after_input()
