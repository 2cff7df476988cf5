"""A listener of its own: what it speaks, where, and what holds for its connections only.

The scheme of the address says what is spoken, as in the addresses that people give to clients.
"""

import re
import ssl
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import NoDecode

from broker.settings.address import Address, parse_address
from broker.settings.certificate import check_readable, load_certificate
from broker.settings.group import RESTORING

DEFAULT_PATH: Final = "/mqtt"
MOUNT_POINT_MAXIMUM_BYTES: Final = 1000

_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


class Kind(StrEnum):
    """How MQTT is carried."""

    TCP = "tcp"
    TLS = "tls"
    WS = "ws"
    WSS = "wss"

    @property
    def scheme(self) -> str:
        """As in the addresses of clients."""
        return {Kind.TCP: "mqtt", Kind.TLS: "mqtts"}.get(self, self.value)

    @property
    def is_secure(self) -> bool:
        """Whether by TLS."""
        return self in (Kind.TLS, Kind.WSS)

    @property
    def is_websocket(self) -> bool:
        """Whether in frames of WebSocket."""
        return self in (Kind.WS, Kind.WSS)


_KIND_OF: Final = {kind.scheme: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class ListenerAddress:
    """`mqtts://HOST:PORT`, `wss://HOST:PORT/PATH`, and so on. Only WebSocket has a path."""

    kind: Kind
    address: Address
    path: str = ""

    def __str__(self) -> str:
        """MQTT over TCP is written as it always was, HOST:PORT."""
        return str(self.address) if self.kind is Kind.TCP else f"{self.kind.scheme}://{self.place}"

    @property
    def place(self) -> str:
        """What follows the scheme."""
        return f"{self.address}{self.path}"


def parse_listener_address(value: object) -> ListenerAddress:
    """ValueError says what is wrong. Without a scheme it is MQTT over TCP."""
    if isinstance(value, ListenerAddress):
        return value
    scheme, separator, rest = str(value).strip().rpartition("://")
    kind = _KIND_OF.get(scheme if separator else Kind.TCP.scheme)
    if kind is None:
        raise ValueError(f"does not begin with one of {', '.join(f'{scheme}://' for scheme in _KIND_OF)}")
    place, slash, path = rest.partition("/")
    address = parse_address(place)
    if not kind.is_websocket:
        if slash:
            raise ValueError("only ws:// and wss:// have a path")
        return ListenerAddress(kind, address)
    path = slash + path or DEFAULT_PATH
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not the path of a URL")
    return ListenerAddress(kind, address, path)


class ListenerSettings(BaseModel):
    """One more listener, in a table that carries its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    address: Annotated[
        InstanceOf[ListenerAddress],
        BeforeValidator(parse_listener_address),
        PlainSerializer(str, when_used="json"),
        NoDecode,
    ] = Field(
        description="`mqtts://HOST:PORT` for MQTT over TLS (8883 by convention), `ws://HOST:PORT/PATH` for"
        " WebSocket (8083), `wss://HOST:PORT/PATH` for WebSocket over TLS (8084), `mqtt://HOST:PORT` for MQTT"
        " over TCP. The path is `/mqtt` if none is given. Port 0 picks a free port and prints it. An address"
        " that other machines can reach also needs users (`auth`) or `node.allow_anonymous`.",
    )
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
        description="Seconds a connection has for the handshake of TLS, and as many for the request that"
        " begins WebSocket. Too small: clients on bad networks never get in. Too large: connections that say"
        " nothing use up the places.",
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

    def bound_to(self, address: Address) -> "ListenerSettings":
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
