"""What a certificate says of who a client is."""

import asyncio
import time
from dataclasses import replace

import pytest

from broker.auth import Credentials, Denied, Identity, PeerCertificate, peer_certificate
from broker.auth.certificate import SOURCE, Certificates
from broker.mqtt import ReasonCode

TOLD = {
    "subject": (
        (("countryName", "DE"),),
        (("organizationName", "A, B+C"),),
        (("commonName", "pump"), ("userId", "7")),
        (("1.2.3", " # "),),
    ),
    "issuer": ((("commonName", "ca"),),),
    "version": 3,
    "serialNumber": "29B5",
    "notAfter": "Nov 28 18:12:28 2026 GMT",
    "subjectAltName": (
        ("DNS", "a.example"), ("email", "x@example"), ("DNS", "b.example"), ("URI", "urn:x"),
        ("IP Address", "127.0.0.1"),
    ),
}  # fmt: skip
CERTIFICATE = PeerCertificate(
    r"1.2.3=\ #\ ,CN=pump+UID=7,O=A\, B\+C,C=DE",
    "CN=ca",
    "29B5",
    1_795_889_548.0,
    "pump",
    ("a.example", "b.example"),
    ("x@example",),
    ("urn:x",),
)


def test_what_the_ssl_module_tells() -> None:
    assert peer_certificate(TOLD) == CERTIFICATE
    assert time.gmtime(CERTIFICATE.expiry)[:6] == (2026, 11, 28, 18, 12, 28)
    assert CERTIFICATE.key == "29B5 CN=ca"


@pytest.mark.parametrize("told", [None, {}, b"x"])
def test_none_that_was_verified(told: object) -> None:
    assert peer_certificate(told) is None


def test_names_that_look_alike_are_written_otherwise() -> None:
    """No value of one attribute can be taken for several."""
    one = {**TOLD, "subject": ((("commonName", "x,O=Acme"),),)}
    two = {**TOLD, "subject": ((("organizationName", "Acme"),), (("commonName", "x"),))}
    subjects = [made.subject for told in (one, two) if (made := peer_certificate(told)) is not None]
    assert subjects == [r"CN=x\,O\=Acme", "CN=x,O=Acme"]


def _judge(username: str, certificate: PeerCertificate | None) -> Identity | Denied | None:
    credentials = Credentials("c", "admin", b"secret", "127.0.0.1", "tls", certificate)
    return asyncio.run(Certificates(username).authenticate(credentials))


@pytest.mark.parametrize(
    ("username", "expected"),
    [
        ("common_name", "pump"),
        ("subject", CERTIFICATE.subject),
        ("san_dns", "a.example"),
        ("san_email", "x@example"),
        ("san_uri", "urn:x"),
    ],
)
def test_what_the_user_name_is(username: str, expected: str) -> None:
    """And how long: as long as the certificate is valid."""
    assert _judge(username, CERTIFICATE) == Identity(expected, deadline=CERTIFICATE.expiry, source=SOURCE)


@pytest.mark.parametrize("name", [None, "", "a\nb", "a\0b"])
def test_a_certificate_without_a_name_is_nobodys(name: str | None) -> None:
    denied = Denied(ReasonCode.NOT_AUTHORIZED)
    assert _judge("common_name", replace(CERTIFICATE, common_name=name)) == denied
    assert _judge("san_uri", replace(CERTIFICATE, uris=())) == denied


def test_who_has_none_is_for_others_to_judge() -> None:
    assert _judge("common_name", None) is None
