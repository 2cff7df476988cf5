"""A listener of its own: what it speaks, where, and what holds for its connections only.

What concerns where its clients are and what is in between: `listener_edge`.
"""

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from broker.settings.address import Place
from broker.settings.certificate import check_readable, load_certificate
from broker.settings.durability import DurabilityLevel
from broker.settings.group import RESTORING
from broker.settings.limits import (
    AllBytesPerSecond,
    AllMessagesPerSecond,
    EachBytesPerSecond,
    EachMessagesPerSecond,
    ListenerConnections,
    ListenerConnects,
)
from broker.settings.listener_address import ListenerAddress
from broker.settings.listener_edge import ListenerEdge
from broker.settings.tls import (
    DEFAULT_CIPHERS,
    CertificatePair,
    check_authorities,
    check_ciphers,
    check_revocations,
)

MOUNT_POINT_MAXIMUM_BYTES: Final = 1000

CertificatePolicy = Literal["none", "optional", "required"]


def _asked_certificates(validated: dict[str, Any]) -> CertificatePolicy:
    return "required" if validated.get("client_ca") is not None else "none"


class ListenerSettings(ListenerEdge):
    """One more listener, in a table that carries its name."""

    certificate: Path | None = Field(
        default=None,
        description="File with the certificate that a `mqtts://` or `wss://` listener proves itself by, and"
        " those of the authorities in between after it; PEM. Read again when it changes.",
    )
    key: Path | None = Field(
        default=None,
        description="File with the private key of the certificate; PEM, without a passphrase. Read again when"
        " it changes.",
    )
    more_certificates: tuple[CertificatePair, ...] = Field(
        default=(),
        max_length=100,
        description="Tables with `certificate` and `key`, for clients that ask for another server name (SNI):"
        " one of the DNS names in the certificate (subjectAltName), `*.` for any first label. Whoever asks"
        " for none of them gets `certificate`. In a variable it is JSON.",
    )
    tls_minimum: Literal["1.2", "1.3"] = Field(
        default="1.2",
        description="Oldest version of TLS. Too large: clients that don't have it are refused.",
    )
    tls_ciphers: str = Field(
        default=DEFAULT_CIPHERS,
        description="Ciphers of TLS 1.2, as OpenSSL names them; those of 1.3 are all there. Too few: old"
        " clients are refused. Too many: with ciphers without ECDHE or DHE, what was recorded can be read by"
        " whoever gets the key later.",
    )
    client_ca: Path | None = Field(
        default=None,
        description="File with the certificates of the authorities whose clients may connect, be it those at"
        " the root or others; PEM. Read again when it changes, for clients that connect from then on.",
    )
    client_certificates: CertificatePolicy = Field(
        default_factory=_asked_certificates,
        description="Whether clients have to have a certificate. Default: `required` if `client_ca` is given,"
        " else `none`. With `optional` those who have none may connect, and are asked for something else.",
    )
    crl: Path | None = Field(
        default=None,
        description="File with the revocation lists of these authorities; PEM. Read again when it changes;"
        " connected clients that are in there by then are disconnected. Clients of an authority without a"
        " list in there, or with one that should have been replaced by now, are refused.",
    )
    crl_check: Literal["leaf", "chain"] = Field(
        default="leaf",
        description="Whether the list of a client's own authority is looked at (`leaf`), or those of all"
        " authorities up to the root (`chain`).",
    )
    authentication: tuple[str, ...] | None = Field(
        default=None,
        max_length=32,
        description="Who is asked here who a client is, of those that are set up in `auth`, by name:"
        " `certificate`, `jwt`, `password_file`, `redis_users`, `sql`, `http`, names of plug-ins and of"
        " Authentication Methods. None: all. Empty: nobody, and who connects comes in. In a variable it is"
        " JSON.",
    )
    allow_anonymous: bool | None = Field(
        default=None,
        description="Whether clients of this listener that do not say who they are come in. None: as"
        " `node.allow_anonymous` says.",
    )
    handshake_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Seconds a connection has for the header of the PROXY protocol and the handshake of TLS,"
        " and as many for the request that begins WebSocket. Too small: clients on bad networks never get in."
        " Too large: connections that say nothing use up the places.",
    )

    mount_point: str | None = Field(
        default=None,
        description="Levels that stand before each topic and filter of the clients that connect here, and are"
        " taken away from what they are sent: with `tenants/a`, what they call `t` is `tenants/a/t` to all"
        " others. They can neither see nor reach anything outside. See [mount"
        " points](listeners.md#mount-points).",
    )
    durability: DurabilityLevel | None = Field(
        default=None,
        description="How well what clients of this listener do is kept before it is acknowledged: their"
        " messages, subscriptions and sessions. None: as `node.durability` says.",
    )
    connections_maximum: ListenerConnections = 0
    connects_per_second: ListenerConnects = 0.0
    messages_per_second: EachMessagesPerSecond = None
    bytes_per_second: EachBytesPerSecond = None
    total_messages_per_second: AllMessagesPerSecond = 0.0
    total_bytes_per_second: AllBytesPerSecond = 0.0

    @field_validator("certificate")
    @classmethod
    def _certificate_fits(cls, certificate: Path | None, info: ValidationInfo) -> Path | None:
        return _fitting_file("certificate", certificate, info)

    @field_validator("key")
    @classmethod
    def _key_fits(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        _fitting_file("key", key, info)
        certificate = info.data.get("certificate")
        if key is not None and certificate is not None and info.context != RESTORING:
            load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
        return key

    @field_validator("more_certificates", "client_ca", "client_certificates", "crl")
    @classmethod
    def _needs_tls(cls, value: object, info: ValidationInfo) -> object:
        address: ListenerAddress | None = info.data.get("address")
        if value not in (None, (), "none") and address is not None and not address.kind.is_secure:
            scheme = f"{address.kind.scheme}://"
            raise ValueError(f"a {scheme} listener has no {info.field_name}: that is for mqtts:// and wss://")
        return value

    @field_validator("tls_ciphers")
    @classmethod
    def _ciphers_are_good(cls, ciphers: str) -> str:
        check_ciphers(ciphers)
        return ciphers

    @field_validator("client_ca")
    @classmethod
    def _holds_authorities(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.context != RESTORING:
            check_authorities(file)
        return file

    @field_validator("client_certificates")
    @classmethod
    def _authorities_fit(cls, asked: str, info: ValidationInfo) -> str:
        has_authorities = info.data.get("client_ca") is not None
        if "client_ca" in info.data and has_authorities != (asked != "none"):
            raise ValueError("client_ca is there for nothing" if has_authorities else "needs a client_ca")
        return asked

    @field_validator("crl")
    @classmethod
    def _holds_revocations(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.context != RESTORING:
            if info.data.get("client_certificates") == "none":
                raise ValueError("is for certificates of clients: needs a client_ca")
            check_revocations(file)
        return file

    @field_validator("authentication")
    @classmethod
    def _can_be_asked(cls, names: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if names and "certificate" in names and info.data.get("client_certificates") == "none":
            raise ValueError("certificate: nobody is asked for one here, as there is no client_ca")
        return names

    @field_validator("mount_point")
    @classmethod
    def _is_before_topics(cls, mount_point: str | None) -> str | None:
        """As it is put before them: with the slash after its last level."""
        if mount_point is None:
            return None
        if not mount_point.strip("/"):
            raise ValueError("is empty: leave it out for none")
        if "+" in mount_point or "#" in mount_point:
            raise ValueError("has + or #: topics begin with it, and these have no wildcards")
        if mount_point.startswith("$"):
            raise ValueError("begins with $: such topics are the broker's")
        if "\0" in mount_point or len(mount_point.encode()) > MOUNT_POINT_MAXIMUM_BYTES:
            raise ValueError(f"has a NUL, or more than {MOUNT_POINT_MAXIMUM_BYTES:,} bytes")
        return mount_point if mount_point.endswith("/") else mount_point + "/"

    def lets_anybody_in(self, node_allows_anonymous: bool, node_asks: bool) -> bool:
        """Whether there are clients who don't have to say who they are."""
        allows = node_allows_anonymous if self.allow_anonymous is None else self.allow_anonymous
        asks = node_asks if self.authentication is None else bool(self.authentication)
        return allows or not asks

    def bound_to(self, address: Place) -> "ListenerSettings":
        """The same, with the port that the system picked."""
        return self.model_copy(update={"address": replace(self.address, address=address)})


def _fitting_file(what: str, file: Path | None, info: ValidationInfo) -> Path | None:
    address: ListenerAddress | None = info.data.get("address")
    if address is None:  # a mistake of its own
        return file
    scheme = f"{address.kind.scheme}://"
    if not address.kind.is_secure:
        if file is not None:
            raise ValueError(f"a {scheme} listener has no {what}: that is for mqtts:// and wss://")
    elif file is None:
        raise ValueError(f"a {scheme} listener needs a {what}: a PEM file")
    elif info.context != RESTORING:
        check_readable(file)
    return file
