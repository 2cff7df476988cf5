"""Certificate and key files, as TLS wants them. A mistake names the file and what is wrong with it."""

import ssl
from pathlib import Path


def check_readable(file: Path) -> None:
    """ValueError if the file isn't there, or is not for us to read."""
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Has `context` prove itself by these. ValueError says in one line why it can't."""
    check_readable(certificate)
    check_readable(key)
    try:
        context.load_cert_chain(certificate, key, _refuse_passphrase)
    except ssl.SSLError as error:
        raise ValueError(_explain(error, certificate, key)) from None


def _refuse_passphrase() -> bytes:
    """Called for an encrypted key only; without it OpenSSL would ask on the terminal."""
    raise ValueError("the key is protected by a passphrase, and nobody is there to type it")


def _explain(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key} is not the key of {certificate}"
    if error.reason in {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}:
        return f"{certificate} is too weak: {error.reason.lower().replace('_', ' ')}"
    if not _holds_certificate(certificate):
        return f"{certificate} is no PEM file with a certificate"
    return f"{key} is no PEM file with a private key"


def _holds_certificate(file: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return False
    return True
