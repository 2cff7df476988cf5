"""The group of settings for OpenTelemetry."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from broker.settings.certificate import check_readable
from broker.settings.group import RESTORING, Group
from broker.settings.web_url import web_url


class TelemetrySettings(Group):
    """Spans of messages for a tracing system; see [OpenTelemetry](tracing.md#opentelemetry)."""

    otlp_url: str | None = Field(
        default=None,
        repr=False,
        description="Where spans are sent (OTLP, JSON over HTTP): `http://collector:4318/v1/traces`. None:"
        " there are no spans, and messages are not looked at for them.",
    )
    headers_file: Path | None = Field(
        default=None,
        description="File with headers for these requests, a line `Name: value` each, such as"
        " `Authorization`. Read when the node starts.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file with the authorities that the server's certificate may be of. None: those of"
        " the system. Read when the node starts.",
    )
    service_name: str = Field(
        default="moorline",
        min_length=1,
        max_length=255,
        description="`service.name` of the spans. Clusters with one tracing system take different ones.",
    )
    spans_per_second: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="Spans that a node makes a second. Too small: traces have gaps, and a line in the log"
        " says how many are missing. Too large: a publisher that has all its messages sampled costs the node"
        " some 30 us of its core for each.",
    )

    @field_validator("otlp_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if not url:
            return None
        web_url(url, "telemetry.headers_file")
        return url

    @field_validator("headers_file", "ca_file")
    @classmethod
    def _is_readable(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.context != RESTORING:
            check_readable(file)
        return file
