"""What the groups of settings have in common."""

from typing import Final

from pydantic import BaseModel, ConfigDict

DAY_SECONDS = 86_400
RESTORING: Final = "restoring"
"""The context in which files and addresses were looked at before, by another process."""


class Group(BaseModel):
    """What the groups of settings share: frozen, and a key that isn't there is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)
