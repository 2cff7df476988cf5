"""An authority as people run one: certificates of servers and clients, good ones and bad ones, and lists of
those that were revoked."""

import datetime
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.tools import Certificate

DAY = datetime.timedelta(days=1)


def name_of(common_name: str | None, organization: str | None = None) -> x509.Name:
    """Of a subject."""
    parts = [(NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts if text is not None])


@dataclass
class Authority:
    """Writes its files to `directory`. One with an `issuer` is in between."""

    directory: Path
    name: str = "authority"
    issuer: "Authority | None" = None
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        issuer = self.issuer or self
        self.subject = name_of(self.name)
        self.certificate = (
            _builder(self.subject, issuer.subject, self.key.public_key(), DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(issuer.key, hashes.SHA256())
        )
        self.file = self.directory / f"{self.name}.crt"
        self.file.write_bytes(_pem(self.certificate))

    def issue(
        self,
        common_name: str | None,
        *,
        alternatives: Sequence[x509.GeneralName] = (),
        organization: str | None = None,
        lasts: datetime.timedelta = DAY,
        file: str | None = None,
    ) -> Certificate:
        """A certificate, with that of this authority behind it; `lasts` below zero: it has expired."""
        made = Certificate(
            self.directory / f"{file or common_name}.crt", self.directory / f"{file or common_name}.key"
        )
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name_of(common_name, organization), self.subject, key.public_key(), lasts)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        signed = builder.sign(self.key, hashes.SHA256())
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        made.file.write_bytes(_pem(signed) + (_pem(self.certificate) if self.issuer is not None else b""))
        return made

    def server(self, *names: str, file: str | None = None) -> Certificate:
        """For these DNS names."""
        return self.issue(names[0], alternatives=[x509.DNSName(name) for name in names], file=file)

    def crl(self, *revoked: Certificate, lasts: datetime.timedelta = DAY) -> bytes:
        """The list of these; PEM."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.subject)
            .last_update(now - 2 * DAY)
            .next_update(now + lasts)
        )
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial_of(certificate))
                .revocation_date(now - DAY)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def with_other_bytes(issuer: Authority, certificate: Certificate, old: bytes, new: bytes) -> None:
    """Has something in the certificate that no tool would put there; signed all the same."""
    file = certificate.file
    signed = x509.load_pem_x509_certificate(file.read_bytes()).tbs_certificate_bytes
    assert old in signed
    changed = signed.replace(old, new)
    ecdsa_with_sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    signature = issuer.key.sign(changed, ec.ECDSA(hashes.SHA256()))
    whole = changed + ecdsa_with_sha256 + bytes([0x03, len(signature) + 1, 0]) + signature
    file.write_text(ssl.DER_cert_to_PEM_cert(b"\x30\x82" + len(whole).to_bytes(2) + whole))


def serial_of(certificate: Certificate) -> int:
    """Of the first in the file."""
    return x509.load_pem_x509_certificate(certificate.file.read_bytes()).serial_number


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lasts: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + lasts)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
