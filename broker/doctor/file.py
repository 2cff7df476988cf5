"""Certificates, files with secrets, and files of users and rules."""

import stat
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from broker.admin import make_door
from broker.doctor.finding import Finding, fail, ok, warn
from broker.doctor.scram import check_scram
from broker.errors import StartError
from broker.guarding import make_guarding
from broker.observability.metrics import Counters
from broker.settings import Settings
from broker.settings.pem import certificate_expiry, revocation_expiry
from cluster.control import Desk
from cluster.drain import Departure

_DAY_SECONDS: Final = 86_400
_SOON_DAYS: Final = 30
_RENEW: Final = "renew it; files that are replaced count without a restart"


def check_files(settings: Settings, config: Path | None, now: float) -> Iterator[Finding]:
    """The settings are valid: whatever they name is there, and keys belong to certificates."""
    for name, file in _certificates(settings):
        yield from _certificate(name, file, now)
    for name, file in _revocation_lists(settings):
        yield _revocations(name, file, now)
    for name, file in _secrets(settings, config):
        yield from _secret(name, file)
    yield from _contents(settings)
    yield from check_scram(settings)


def _certificates(settings: Settings) -> Iterator[tuple[str, Path]]:
    if settings.admin.certificate is not None:
        yield "admin.certificate", settings.admin.certificate
    if settings.redis.certificate is not None:
        yield "redis.certificate", settings.redis.certificate
    if settings.auth.http_certificate is not None:
        yield "auth.http_certificate", settings.auth.http_certificate
    for name, listener in settings.listeners.items():
        if listener.certificate is not None:
            yield f"listeners.{name}.certificate", listener.certificate
        for pair in listener.more_certificates:
            yield f"listeners.{name}.more_certificates", pair.certificate
        if listener.client_ca is not None:
            yield f"listeners.{name}.client_ca", listener.client_ca


def _revocation_lists(settings: Settings) -> Iterator[tuple[str, Path]]:
    for name, listener in settings.listeners.items():
        if listener.crl is not None:
            yield f"listeners.{name}.crl", listener.crl


def _certificate(name: str, file: Path, now: float) -> Iterator[Finding]:
    try:
        chain = x509.load_pem_x509_certificates(file.read_bytes())
        days = (certificate_expiry(file) - now) / _DAY_SECONDS
    except (OSError, ValueError) as error:
        yield fail(name, f"{file}: {error}", "replace it")
        return
    until = time.strftime("%Y-%m-%d", time.gmtime(now + days * _DAY_SECONDS))
    begins = max(each.not_valid_before_utc.timestamp() for each in chain)
    if days <= 0:
        yield fail(name, f"{file} has expired on {until}", _RENEW)
    elif begins > now:
        yield fail(name, f"{file} is not valid yet", "look at the clock of this machine, or wait")
    elif days < _SOON_DAYS:
        yield warn(name, f"{file} expires on {until}, in {days:.0f} days", _RENEW)
    else:
        yield ok(name, f"{file} is valid until {until}")
    if not name.endswith("client_ca") and not _is_chain(chain):
        yield warn(
            name,
            f"{file}: a certificate in it is not signed by the one that follows",
            "put the authorities in between behind the certificate, each behind what it has signed",
        )


def _is_chain(chain: list[x509.Certificate]) -> bool:
    for certificate, issuer in pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            return False
    return True


def _revocations(name: str, file: Path, now: float) -> Finding:
    expiry = revocation_expiry(file)
    if expiry is not None and expiry < now:
        return fail(name, f"{file} is out of date: clients with certificates are refused", "get the new list")
    return ok(name, f"{file} is up to date")


def _secrets(settings: Settings, config: Path | None) -> Iterator[tuple[str, Path]]:
    auth, redis, admin = settings.auth, settings.redis, settings.admin
    named = {
        "redis.url_file": redis.url_file,
        "redis.password_file": redis.password_file,
        "redis.key": redis.key,
        "admin.key": admin.key,
        "admin.tokens_file": admin.tokens_file,
        "auth.password_file": auth.password_file,
        "auth.jwt_keys": auth.jwt_keys,
        "auth.http_headers_file": auth.http_headers_file,
        "auth.http_key": auth.http_key,
        "auth.sql_url_file": auth.sql_url_file,
        "--config": config,
    }
    yield from ((name, file) for name, file in named.items() if file is not None)
    for name, listener in settings.listeners.items():
        if listener.key is not None:
            yield f"listeners.{name}.key", listener.key
        for pair in listener.more_certificates:
            yield f"listeners.{name}.more_certificates", pair.key


def _secret(name: str, file: Path) -> Iterator[Finding]:
    """A file of settings is a secret only if there is a password in it, which is not for us to look for."""
    mode = file.stat().st_mode
    if mode & stat.S_IWOTH:
        yield fail(name, f"everybody on this machine can write {file}", f"chmod o-w {file}")
    elif mode & stat.S_IROTH and name != "--config":
        yield warn(name, f"everybody on this machine can read {file}", f"chmod o-r {file}")
    else:
        yield ok(name, f"{file} is not open to everybody")


def _contents(settings: Settings) -> Iterator[Finding]:
    """As a node reads them at its start."""
    counters = Counters(settings.node.name, "")
    try:
        guarding = make_guarding(settings, counters)
    except StartError as error:
        yield fail("users and rules", str(error), "mend it: a node does not start with it")
    else:
        said = "clients say who they are" if guarding.guard is not None else "nobody is asked"
        yield ok("users and rules", f"the files have no mistakes; {said}")
    try:
        make_door(settings.admin, counters, Desk(Departure(), []))
    except StartError as error:
        yield fail("admin address", str(error), "mend it: a node does not start with it")
