"""What TLS of a listener may be told, and mistakes in it; each is a ValueError of one line."""

import ssl
from pathlib import Path
from typing import Final

from pydantic import ValidationInfo, field_validator

from broker.settings.certificate import check_readable, load_certificate
from broker.settings.group import RESTORING, Group

DEFAULT_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # forward secrecy, and none that was ever broken

_STRENGTH_BITS: Final = 128


class CertificatePair(Group):
    """One more certificate of a listener."""

    certificate: Path
    key: Path

    @field_validator("key")
    @classmethod
    def _fits(cls, key: Path, info: ValidationInfo) -> Path:
        certificate: Path | None = info.data.get("certificate")
        if certificate is not None and info.context != RESTORING:
            load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
            from broker.settings.pem import server_names  # large, and hardly anybody needs it

            if not server_names(certificate):
                raise ValueError(
                    f"{certificate} has no DNS name (subjectAltName) by which it could be chosen"
                )
        return key


def check_authorities(file: Path) -> None:
    """That there are certificates in the file."""
    if _stored(file)["x509"] == 0:
        raise ValueError(f"{file} is no PEM file with certificates of authorities")


def check_revocations(file: Path) -> None:
    """That there are revocation lists in the file, and nothing else: a certificate would be trusted."""
    stored = _stored(file)
    if stored["crl"] == 0:
        raise ValueError(f"{file} is no PEM file with revocation lists")
    if stored["x509"]:
        raise ValueError(f"{file} has certificates in it: only revocation lists belong there")


def check_ciphers(ciphers: str) -> None:
    """That OpenSSL knows some of them, and that each hides what is sent and from whom it is."""
    if "@" in ciphers:
        raise ValueError("has an @: the level of security stays as it is")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError:
        raise ValueError("OpenSSL knows no cipher of that name") from None
    weak = [
        str(cipher["name"])
        for cipher in context.get_ciphers()
        if cipher["strength_bits"] < _STRENGTH_BITS or cipher["auth"] == "auth-null"
    ]
    if weak:
        raise ValueError(f"too weak: {', '.join(weak)}")


def _stored(file: Path) -> dict[str, int]:
    check_readable(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        return {"x509": 0, "crl": 0}
    return context.cert_store_stats()
