"""The settings of the HTTP server that is asked about clients."""

import ssl
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from broker.settings.certificate import check_readable, load_certificate
from broker.settings.group import RESTORING, Group
from broker.settings.web_url import web_url

_HERE = ("localhost", "127.0.0.1", "::1")


class HttpHookSettings(Group):
    """A part of the group `auth`."""

    http_plain: bool = Field(
        default=False,
        description="Take `http://` in `auth.http_authenticate_url` and `auth.http_authorize_url` for other"
        " machines too. Everybody on the way can read the passwords then, and let in whom he likes.",
    )
    http_authenticate_url: str | None = Field(
        default=None,
        repr=False,
        description="Where it is asked who a client is, after tokens and the password file: `https://`, or"
        " `http://` on this machine.",
    )
    http_authorize_url: str | None = Field(
        default=None,
        repr=False,
        description="Where it is asked what a client may do if no rule decides, before"
        " `auth.authorizers`: `https://`, or `http://` on this machine.",
    )
    http_headers_file: Path | None = Field(
        default=None,
        description="File with headers for these requests, a line `Name: value` each, such as"
        " `Authorization`. Read again when it changes.",
    )
    http_ca_file: Path | None = Field(
        default=None,
        description="PEM file with the authorities that the server's certificate may be of. None: those of"
        " the system. Read when the node starts.",
    )
    http_certificate: Path | None = Field(
        default=None,
        description="PEM file with the certificate by which the node proves itself to the server. Read when"
        " the node starts.",
    )
    http_key: Path | None = Field(default=None, description="PEM file with the key of that certificate.")
    http_connections: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="Requests to each of the two addresses at a time, each on a connection that is kept. Too"
        " small: clients wait for each other. Too large: a storm of clients is one for the server, too.",
    )
    http_queue: int = Field(
        default=200,
        ge=1,
        le=100_000,
        description="Clients that wait until one of these requests is done; beyond it they are told that the"
        " server is busy (0x89), first those from the address with the most in it. Too small: a storm of"
        " new clients has to try several times. Too large: they wait for longer than"
        " `auth.timeout_seconds`, and are refused then.",
    )

    @field_validator("http_authenticate_url", "http_authorize_url")
    @classmethod
    def _leads_where_it_should(cls, url: str | None, info: ValidationInfo) -> str | None:
        if not url:
            return None
        parts = web_url(url, "auth.http_headers_file")
        if parts.scheme == "http" and parts.hostname not in _HERE and not info.data.get("http_plain"):
            raise ValueError("http:// and another machine: see auth.http_plain")
        return url

    @field_validator("http_headers_file")
    @classmethod
    def _headers_are_readable(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.context != RESTORING:
            check_readable(file)
        return file

    @field_validator("http_key")
    @classmethod
    def _files_fit(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if info.context != RESTORING and "http_certificate" in info.data:
            http_context(info.data.get("http_ca_file"), info.data["http_certificate"], key)
        return key


def http_context(authorities: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """How the server has to prove itself, and we to it. ValueError says what is wrong with the files."""
    context = ssl.create_default_context()
    if authorities is not None:
        check_readable(authorities)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError:
            raise ValueError(f"{authorities} is no PEM file with certificates") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if (certificate is None) != (key is None):
        raise ValueError("auth.http_certificate and auth.http_key need each other")
    if certificate is not None and key is not None:
        load_certificate(context, certificate, key)
    return context
