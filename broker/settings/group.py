"""What the groups of settings have in common."""

from pydantic import BaseModel, ConfigDict

DAY_SECONDS = 86_400


class Group(BaseModel):
    """What the groups of settings share: frozen, and a key that isn't there is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)
