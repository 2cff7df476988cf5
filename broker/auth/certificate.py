"""Clients that have proved who they are to the listener, by a certificate of an authority that it trusts."""

from collections.abc import Callable, Mapping
from typing import Final

from broker.auth.access import Credentials, Denied, Identity, Verdict
from broker.auth.peer_certificate import PeerCertificate
from broker.mqtt import ReasonCode

SOURCE: Final = "certificate"

_NAMES: Final[Mapping[str, Callable[[PeerCertificate], str | None]]] = {
    "common_name": lambda certificate: certificate.common_name,
    "subject": lambda certificate: certificate.subject,
    "san_dns": lambda certificate: next(iter(certificate.dns_names), None),
    "san_email": lambda certificate: next(iter(certificate.emails), None),
    "san_uri": lambda certificate: next(iter(certificate.uris), None),
}


class Certificates:
    """`username`: which part of it is the user name, as in the setting. A client without a certificate is for
    others to judge; one with a certificate that has no such name is nobody's."""

    def __init__(self, username: str) -> None:
        self._name = _NAMES[username]

    async def authenticate(self, credentials: Credentials) -> Verdict:
        """For as long as the certificate is valid."""
        certificate = credentials.certificate
        if certificate is None:
            return None
        name = self._name(certificate)
        if not name or not name.isprintable():
            return Denied(ReasonCode.NOT_AUTHORIZED)
        return Identity(name, deadline=certificate.expiry, source=SOURCE)
