"""Makes the door of the admin address as the settings want it, and follows its files.

A mistake in a file at the start is told, and prevents it; a later one is told, and changes nothing.
"""

import ssl
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from broker.admin.door import Door
from broker.admin.sessions import Sessions
from broker.auth.admin_tokens import Token, read_tokens
from broker.auth.watched import Content, WatchedFile
from broker.errors import StartError
from broker.observability.metrics import Counters, Tally
from broker.settings import AdminSettings, load_certificate
from cluster.control import Desk

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

Watch = Callable[[], Coroutine[object, object, None]]


def make_door(settings: AdminSettings, counters: Counters, desk: Desk) -> tuple[Door, Sequence[Watch]]:
    """And what has to run with it. Raises StartError if there are mistakes in the files."""
    reloads = counters.auth_reloads
    watches: list[Watch] = []
    tokens: Sequence[Token] | None = None
    tokens_file: WatchedFile[Sequence[Token]] | None = None
    if settings.tokens_file is not None:
        tokens_file = WatchedFile("admin_tokens", settings.tokens_file, read_tokens, reloads)
        tokens = _load(tokens_file)
    tls = None
    if settings.certificate is not None and settings.key is not None:
        tls = _context(settings.certificate, settings.key, reloads, watches)
    sessions = Sessions(desk, is_secure=tls is not None)
    door = Door(tokens, counters.denied, has_open_metrics=settings.open_metrics, tls=tls, sessions=sessions)
    if tokens_file is not None:
        watches.append(partial(tokens_file.run, door.replace_tokens))
    return door, watches


def _context(certificate: Path, key: Path, reloads: Tally, watches: list[Watch]) -> ssl.SSLContext:
    """Proves itself by what the files have now: connections that come later get the new certificate."""

    def read(_: Path) -> ssl.SSLContext:
        context = _new_context()
        load_certificate(context, certificate, key)
        return context

    file = WatchedFile("admin_certificate", certificate, read, reloads, [key])
    context = newest = _load(file)

    def apply(context: ssl.SSLContext) -> None:
        nonlocal newest
        newest = context

    def use_newest(connection: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        connection.context = newest

    context.sni_callback = use_newest  # called for each connection, also if it names no server
    watches.append(partial(file.run, apply))
    return context


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(file: WatchedFile[Content]) -> Content:
    try:
        return file.load()
    except ValueError as error:
        raise StartError(str(error)) from None
