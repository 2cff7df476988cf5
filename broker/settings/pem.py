"""What certificates and revocation lists say. Imported where that is needed only: it takes 10 MB.

All of it is about files that were looked at by OpenSSL before; ValueError says in one line what is wrong.
"""

from collections.abc import Mapping
from pathlib import Path

from cryptography import x509


def server_names(file: Path) -> tuple[str, ...]:
    """The DNS names of the first certificate, in lower case; with a wildcard they begin with `*.`."""
    certificate = _certificates(file)[0]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        return ()
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def certificate_expiry(file: Path) -> float:
    """When the first of its certificates ends, in seconds since 1970."""
    return min(certificate.not_valid_after_utc.timestamp() for certificate in _certificates(file))


def revocation_expiry(file: Path) -> float | None:
    """When the first of its lists has to be replaced; None if they don't say."""
    updates = [crl.next_update_utc for crl in _revocation_lists(file)]
    return min((update.timestamp() for update in updates if update is not None), default=None)


def revoked_serials(file: Path) -> Mapping[bytes, frozenset[int]]:
    """Serial numbers by issuer (DER)."""
    serials: dict[bytes, frozenset[int]] = {}
    for crl in _revocation_lists(file):
        issuer = crl.issuer.public_bytes()
        serials[issuer] = serials.get(issuer, frozenset()).union(entry.serial_number for entry in crl)
    return serials


def issuer_and_serial(certificate: bytes) -> tuple[bytes, int]:
    """Of a certificate (DER), as in `revoked_serials`."""
    read = x509.load_der_x509_certificate(certificate)
    return read.issuer.public_bytes(), read.serial_number


def _certificates(file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _revocation_lists(file: Path) -> list[x509.CertificateRevocationList]:
    begin, end = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"
    blocks = [begin + block.partition(end)[0] + end for block in _read(file).split(begin)[1:]]
    try:
        return [x509.load_pem_x509_crl(block) for block in blocks]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
