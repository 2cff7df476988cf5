"""The certificate of a client, as a listener has verified it."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

_Name = tuple[tuple[tuple[str, str], ...], ...]
"""Of the ssl module: parts of attributes and their values."""

_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
_SPECIAL: Final = str.maketrans({character: f"\\{character}" for character in '\\",+;<>='})


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """`subject` and `issuer` are written as in RFC 4514: `CN=pump,O=Acme`. At `expiry` it ends, in seconds
    since 1970. Names are in the order of the certificate."""

    subject: str
    issuer: str
    serial_number: str
    expiry: float
    common_name: str | None
    dns_names: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """There is only one with this."""
        return f"{self.serial_number} {self.issuer}"


def peer_certificate(told: object) -> PeerCertificate | None:
    """What the ssl module says of it; None if there is none, or none that was verified."""
    if not isinstance(told, Mapping) or not told:
        return None
    subject = cast(_Name, told.get("subject", ()))
    names = cast(tuple[tuple[str, str], ...], told.get("subjectAltName", ()))
    attributes = (pair for part in subject for pair in part)

    def alternatives(kind: str) -> tuple[str, ...]:
        return tuple(name for of_kind, name in names if of_kind == kind)

    return PeerCertificate(
        _written(subject),
        _written(cast(_Name, told["issuer"])),
        str(told["serialNumber"]),
        ssl.cert_time_to_seconds(str(told["notAfter"])),
        next((value for name, value in attributes if name == "commonName"), None),
        alternatives("DNS"),
        alternatives("email"),
        alternatives("URI"),
    )


def _written(name: _Name) -> str:
    return ",".join("+".join(map(_attribute, part)) for part in reversed(name))


def _attribute(pair: tuple[str, str]) -> str:
    name, value = pair
    escaped = value.translate(_SPECIAL)
    if len(value) > 1 and value.endswith(" "):
        escaped = escaped[:-1] + "\\ "
    if value.startswith(("#", " ")):
        escaped = "\\" + escaped
    return f"{_SHORT.get(name, name)}={escaped}"
