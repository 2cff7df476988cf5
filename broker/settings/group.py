"""What all groups of settings are made of."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """What the groups of settings share: frozen, and a key that isn't there is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)
