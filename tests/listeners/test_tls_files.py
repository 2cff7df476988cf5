"""What handshakes make of the files of a listener, in memory; and files that are just being replaced."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from broker.listeners.tls_files import TlsFiles, read_tls_files
from broker.settings import ListenerSettings
from tests.listeners.authority import DAY, Authority
from tests.listeners.frames import trusting
from tests.tools import Certificate


class Site:
    """A root, an authority below it, and their clients."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = Authority(directory, "root")
        self.below = Authority(directory, "below", self.root)
        self.server = self.root.server("localhost")
        self.client = self.below.issue("client")

    def settings(self, **table: object) -> ListenerSettings:
        pair = {"certificate": self.server.file, "key": self.server.key}
        return ListenerSettings.model_validate({"address": "mqtts://127.0.0.1:0", **pair, **table})

    def crl(self, *lists: bytes) -> Path:
        file = self.directory / "crl.pem"
        file.write_bytes(b"".join(lists))
        return file

    def context(self, own: Certificate | None) -> ssl.SSLContext:
        context = trusting(str(self.root.file))
        if own is not None:
            context.load_cert_chain(own.file, own.key)
        return context


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


def _shake_hands(
    files: TlsFiles, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Server and client; SSLError of the one that is not content."""
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = files.context.wrap_bio(here, there, server_side=True)
    client = context.wrap_bio(there, here, server_hostname="localhost", session=session)
    left = {client, server}
    while left:
        for side in (client, server):
            try:
                side.do_handshake()
                left.discard(side)
            except ssl.SSLWantReadError:
                continue
    server.write(b"hello")
    assert client.read() == b"hello"
    return server, client


def test_each_authority_is_trusted_by_itself(site: Site) -> None:
    """Also one in between, without the root: it is that one whose clients may connect."""
    files = read_tls_files(site.settings(client_ca=site.below.file))
    server, _ = _shake_hands(files, site.context(site.client))
    assert server.getpeercert()
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        _shake_hands(files, site.context(site.root.issue("of-the-root")))


def test_which_lists_are_looked_at(site: Site) -> None:
    table = {"client_ca": site.root.file, "crl": site.crl(site.below.crl())}
    _shake_hands(read_tls_files(site.settings(**table)), site.context(site.client))
    whole = site.settings(**table, crl_check="chain")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get certificate CRL"):
        _shake_hands(read_tls_files(whole), site.context(site.client))
    site.crl(site.below.crl(), site.root.crl())
    _shake_hands(read_tls_files(whole), site.context(site.client))
    site.crl(site.below.crl(), site.root.crl(Certificate(site.below.file, site.below.file)))
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        _shake_hands(read_tls_files(whole), site.context(site.client))


def test_a_list_that_should_have_been_replaced_lets_nobody_in(site: Site) -> None:
    old = read_tls_files(site.settings(client_ca=site.root.file, crl=site.crl(site.below.crl(lasts=-DAY))))
    with pytest.raises(ssl.SSLCertVerificationError, match="CRL has expired"):
        _shake_hands(old, site.context(site.client))


def test_who_is_revoked_is_known_by_issuer_and_number(site: Site) -> None:
    files = read_tls_files(
        site.settings(client_ca=site.root.file, crl=site.crl(site.root.crl(), site.below.crl(site.client)))
    )
    assert files.have_revoked(_der(site.client))
    assert not files.have_revoked(_der(site.below.issue("other")))
    assert not files.have_revoked(_der(site.server))
    assert files.have_revoked(b"of which nobody can tell")


def _der(certificate: Certificate) -> bytes:
    return x509.load_pem_x509_certificate(certificate.file.read_bytes()).public_bytes(
        serialization.Encoding.DER
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_which_sessions_are_resumed(site: Site, version: ssl.TLSVersion) -> None:
    """None of older files; with TLS 1.3 none of clients that have a certificate."""
    context = site.context(site.client)
    context.maximum_version = version
    is_old = version is ssl.TLSVersion.TLSv1_2
    for table, is_resumed in (({}, True), ({"client_ca": site.root.file}, is_old)):
        files = read_tls_files(site.settings(**table))
        _, first = _shake_hands(files, context)
        server, second = _shake_hands(files, context, first.session)
        assert second.session_reused == is_resumed
        assert bool(server.getpeercert()) == bool(table)
        _, third = _shake_hands(read_tls_files(site.settings(**table)), context, first.session)
        assert not third.session_reused  # by a newer context


def test_a_file_that_is_just_being_replaced(tmp_path: Path) -> None:
    """Whatever is wrong with it then, it is told as a mistake."""
    site = Site(tmp_path)
    crl = site.crl(site.below.crl())
    settings = site.settings(
        client_ca=site.root.file,
        crl=crl,
        more_certificates=[{"certificate": site.server.file, "key": site.server.key}],
    )
    assert read_tls_files(settings).revoked
    for file in (crl, site.root.file, site.server.key, site.server.file):
        content = file.read_bytes()
        for broken in (b"", content[: len(content) // 2], b"-----BEGIN X509 CRL-----\nxyz\n"):
            file.write_bytes(broken)
            with pytest.raises(ValueError, match=str(tmp_path)):
                read_tls_files(settings)
        file.unlink()
        with pytest.raises(ValueError, match="No such file"):
            read_tls_files(settings)
        file.write_bytes(content)
    assert read_tls_files(settings).revoked
