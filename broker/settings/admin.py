"""The group of settings for the admin address: who may ask there, and TLS."""

import ssl
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from broker.settings.certificate import check_readable, load_certificate
from broker.settings.group import RESTORING, Group


class AdminSettings(Group):
    """Who may ask at the admin address (`node.admin`), and by what; see [security](security.md)."""

    tokens_file: Path | None = Field(
        default=None,
        description="File with hashes of tokens and their roles, as `moorline token` writes it. Read again"
        " when it changes. With it every route but `/healthz` and `/readyz` asks for a token, and `/api/v1`"
        " is answered on every address of `node.admin`.",
    )
    open_metrics: bool = Field(
        default=False,
        description="Let everybody who reaches the admin address read `/metrics`, though there are tokens."
        " Without tokens it is so anyway.",
    )
    certificate: Path | None = Field(
        default=None,
        description="File with a certificate, and those of the authorities in between after it; PEM. With it"
        " the addresses of `node.admin` speak HTTPS only. Read again when it changes.",
    )
    key: Path | None = Field(
        default=None,
        validate_default=True,
        description="File with the private key of the certificate; PEM, without a passphrase.",
    )

    @field_validator("tokens_file", "certificate")
    @classmethod
    def _is_readable(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.context != RESTORING:
            check_readable(file)
        return file

    @field_validator("key")
    @classmethod
    def _key_fits(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if info.context == RESTORING or "certificate" not in info.data:  # which has a mistake of its own
            return key
        certificate = info.data["certificate"]
        if (certificate is None) != (key is None):
            raise ValueError("admin.certificate and admin.key go together: give both, or neither")
        if certificate is not None and key is not None:
            load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
        return key
