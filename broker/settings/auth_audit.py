"""Settings of the group `auth` for the audit log."""

import os
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from broker.settings.group import RESTORING, Group


class AuditSettings(Group):
    """What is recorded of security, and where."""

    audit_file: Path | None = Field(
        default=None,
        description="File for the records of the audit log, one JSON object a line; they are in the log, too."
        " It is opened again within a second when it was moved away, and at SIGHUP. None: they are in the"
        " log only.",
    )
    audit_logins: bool = Field(
        default=True,
        description="Whether clients that were let in are recorded in `auth.audit_file`, up to 200 a second."
        " `false`: the file grows less, and says nothing of who was there.",
    )

    @field_validator("audit_file")
    @classmethod
    def _can_be_written(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is None or info.context == RESTORING:
            return file
        place = file if file.exists() else file.parent
        if file.is_dir() or not os.access(place, os.W_OK):
            raise ValueError(f"{file}: can't be written")
        return file
