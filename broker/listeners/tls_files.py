"""The files of a secure listener, as handshakes use them, and as they change.

They are read as a whole: one of them that changes makes all contexts anew. A context knows nothing of the
sessions of others, so nobody resumes what newer files would not let in. Where clients have certificates no
sessions are resumed at all, with TLS 1.3: each connection proves who it is.
"""

import ssl
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any, Final

from broker.auth.watched import WatchedFile
from broker.observability.metrics import Counters
from broker.settings import ListenerSettings, load_certificate
from broker.settings.pem import (
    certificate_expiry,
    issuer_and_serial,
    revocation_expiry,
    revoked_serials,
    server_names,
)
from broker.settings.tls import check_authorities, check_revocations

accepted: Final[ContextVar[socket]] = ContextVar("accepted")
"""The socket of the handshake that runs."""

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY_MODES: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
_CRL_CHECKS: Final = {"leaf": ssl.VERIFY_CRL_CHECK_LEAF, "chain": ssl.VERIFY_CRL_CHECK_CHAIN}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What they say. Times are seconds since 1970, by file."""

    context: ssl.SSLContext
    certificate_expiries: Mapping[Path, float]
    crl_expiries: Mapping[Path, float]
    revoked: Mapping[bytes, frozenset[int]]

    def have_revoked(self, certificate: bytes) -> bool:
        """Whether its authority has revoked that certificate (DER), or nobody can tell."""
        try:
            issuer, serial = issuer_and_serial(certificate)
        except ValueError:  # OpenSSL has read it
            return True
        return serial in self.revoked.get(issuer, ())


class UnreadableCertificate(ssl.SSLError):
    """The certificate of a client is good, and has names that are no text."""

    reason = "CERTIFICATE_UNREADABLE"


class _Handshake(ssl.SSLObject):
    """Tells the peer why a handshake has failed. OpenSSL has the alert ready, but no event loop sends it. And
    what they will ask for after one that has not, has to be there."""

    outgoing: ssl.MemoryBIO | None = None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            self._tell()
            raise
        self.outgoing = None
        try:
            self.getpeercert()
        except UnicodeError:
            raise UnreadableCertificate from None

    def _tell(self) -> None:
        peer = accepted.get(None)
        alert = self.outgoing.read() if self.outgoing is not None else b""
        if peer is not None and alert:
            try:
                peer.send(alert)
            except OSError:
                return  # it has gone, or reads nothing


class _Context(ssl.SSLContext):
    sslobject_class = _Handshake

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *rest: Any, **named: Any
    ) -> _Handshake:
        wrapped = super().wrap_bio(incoming, outgoing, *rest, **named)
        assert isinstance(wrapped, _Handshake)
        wrapped.outgoing = outgoing
        return wrapped


def _paths(settings: ListenerSettings) -> list[Path]:
    pairs = [(pair.certificate, pair.key) for pair in settings.more_certificates]
    files = [settings.certificate, settings.key, settings.client_ca, settings.crl]
    return [file for file in (*files, *(file for pair in pairs for file in pair)) if file is not None]


class CurrentFiles:
    """Those that hold now. ValueError if the first are not good; others are not taken then."""

    def __init__(self, name: str, settings: ListenerSettings, counters: Counters) -> None:
        first, *others = _paths(settings)
        self._name = name
        self._counters = counters
        self._watched = WatchedFile(
            f"listeners.{name}",
            first,
            lambda _: read_tls_files(settings),
            counters.auth_reloads,
            beside=others,
        )
        self._files = self._watched.load()
        self._tell_expiries()

    @property
    def context(self) -> ssl.SSLContext:
        """For a handshake that begins now."""
        return self._files.context

    def is_revoked(self, certificate: bytes) -> bool:
        """Whether that (DER) is known by now. Handshakes look at it by themselves."""
        return self._files.have_revoked(certificate)

    async def follow(self, on_revoked: Callable[[], None]) -> None:
        """For ever. `on_revoked` is called when other certificates of clients are revoked than before."""

        def apply(files: TlsFiles) -> None:
            before, self._files = self._files, files
            self._tell_expiries()
            if files.revoked != before.revoked:
                on_revoked()

        await self._watched.run(apply)

    def _tell_expiries(self) -> None:
        for file, seconds in self._files.certificate_expiries.items():
            self._counters.certificate_expiries[self._name, str(file)] = seconds
        for file, seconds in self._files.crl_expiries.items():
            self._counters.crl_expiries[self._name, str(file)] = seconds


def read_tls_files(settings: ListenerSettings) -> TlsFiles:
    """ValueError says in one line which is not good."""
    try:
        return _read(settings)
    except OSError as error:  # OpenSSL's are some, too: of a file that is just being replaced
        raise ValueError(f"{', '.join(map(str, _paths(settings)))}: {error}") from None


def _read(settings: ListenerSettings) -> TlsFiles:
    assert settings.certificate is not None
    assert settings.key is not None
    context = _make_context(settings, settings.certificate, settings.key)
    expiries = {settings.certificate: certificate_expiry(settings.certificate)}
    by_name: dict[str, ssl.SSLContext | None] = {}
    if settings.more_certificates:
        by_name.update(dict.fromkeys(server_names(settings.certificate)))
        _choose_by_name(context, by_name)
    for pair in settings.more_certificates:
        other = _make_context(settings, pair.certificate, pair.key)
        expiries[pair.certificate] = certificate_expiry(pair.certificate)
        for name in server_names(pair.certificate):
            by_name.setdefault(name, other)
    crl = settings.crl
    update = revocation_expiry(crl) if crl is not None else None
    return TlsFiles(
        context,
        expiries,
        {crl: update} if crl is not None and update is not None else {},
        revoked_serials(crl) if crl is not None else {},
    )


def _make_context(settings: ListenerSettings, certificate: Path, key: Path) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.tls_minimum]
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(settings.tls_ciphers)
    # A client that asks for something else gets no answer, and may go on: it is not refused.
    context.set_alpn_protocols(["http/1.1"] if settings.address.kind.is_websocket else ["mqtt"])
    load_certificate(context, certificate, key)
    if settings.client_ca is not None:
        _ask_for_certificates(context, settings, settings.client_ca)
    return context


def _ask_for_certificates(context: ssl.SSLContext, settings: ListenerSettings, client_ca: Path) -> None:
    check_authorities(client_ca)
    context.load_verify_locations(client_ca)
    context.verify_mode = _VERIFY_MODES[settings.client_certificates]
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # each of these authorities is trusted by itself
    context.num_tickets = 0  # of TLS 1.3; older ones can't be told so, and remember the certificate
    if settings.crl is not None:
        check_revocations(settings.crl)
        context.load_verify_locations(settings.crl)
        context.verify_flags |= _CRL_CHECKS[settings.crl_check]


def _choose_by_name(context: ssl.SSLContext, by_name: Mapping[str, ssl.SSLContext | None]) -> None:
    """`by_name`: None for `context` itself, which must not lead to itself."""

    def choose(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if name is None:
            return
        exact = name.lower()
        wildcard = "*." + exact.partition(".")[2]
        found = by_name[exact] if exact in by_name else by_name.get(wildcard)
        if found is not None:
            tls.context = found

    context.sni_callback = choose
