"""A listener of its own: what it speaks, where, and what holds for its connections only.

What concerns where its clients are and what is in between: `listener_edge`.
"""

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from broker.settings.address import Place
from broker.settings.certificate import check_readable, load_certificate
from broker.settings.group import RESTORING
from broker.settings.listener_address import ListenerAddress
from broker.settings.listener_edge import ListenerEdge

MOUNT_POINT_MAXIMUM_BYTES: Final = 1000


class ListenerSettings(ListenerEdge):
    """One more listener, in a table that carries its name."""

    certificate: Path | None = Field(
        default=None,
        description="File with the certificate that a `mqtts://` or `wss://` listener proves itself by, and"
        " those of the authorities in between after it; PEM. Read when the node starts.",
    )
    key: Path | None = Field(
        default=None,
        description="File with the private key of the certificate; PEM, without a passphrase.",
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
