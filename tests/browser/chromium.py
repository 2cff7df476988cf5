"""Chromium without a window, and what a page of it may not do unseen: fail, or ask another host."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserType, ConsoleMessage, Page, sync_playwright

from tests.tools import Certificate, require_tool

SECONDS = 10.0
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def running_chromium(trusted: Sequence[Certificate] = ()) -> Iterator[Browser]:
    """See `launched`."""
    with sync_playwright() as playwright, launched(playwright.chromium, trusted) as browser:
        yield browser


@contextmanager
def launched(chromium: BrowserType, trusted: Sequence[Certificate]) -> Iterator[Browser]:
    """It believes servers with these certificates, and no others that no known authority has signed."""
    flags = list(_FLAGS)
    if trusted:
        flags.append(f"--ignore-certificate-errors-spki-list={','.join(map(_key_digest, trusted))}")
    browser = chromium.launch(executable_path=require_tool("chromium"), args=flags)
    try:
        yield browser
    finally:
        browser.close()


def _key_digest(certificate: Certificate) -> str:
    key = x509.load_pem_x509_certificate(certificate.file.read_bytes()).public_key()
    made = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return base64.b64encode(made).decode()


class Watched:
    """A page, with what it has complained about. `expected`: what it may complain about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.expected: list[str] = []
        self._complaints: list[str] = []
        page.set_default_timeout(SECONDS * 1000)
        page.on("pageerror", lambda error: self._complaints.append(f"page error: {error}"))
        page.on("console", self._on_console)
        page.on("dialog", lambda dialog: self._complaints.append(f"dialog: {dialog.message}"))

    def complaints(self) -> list[str]:
        """But for those that are expected."""
        return [text for text in self._complaints if not any(each in text for each in self.expected)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")
