"""How durability levels are written in settings."""

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, field_validator

from broker.settings.group import Group

REPLICAS_MAXIMUM: Final = 10
STORED: Final = "stored"
_REPLICATED: Final = re.compile(r"replicated(?:\(([0-9]{1,3})\))?")
_FILTER: Final = re.compile(r"(?:(?:\+|[^+#/\0]*)/)*(?:\+|#|[^+#/\0]*)")


def parse_level(text: str) -> tuple[int, bool]:
    """How many replicas are to have it, and whether the disk of the primary is. ValueError if it is no
    level."""
    replicas, is_fsynced = 0, False
    words = [word.strip() for word in text.split("+")]
    for word in words:
        found = _REPLICATED.fullmatch(word)
        if found is not None:
            count = int(found[1] or 1)
            if not 1 <= count <= REPLICAS_MAXIMUM:
                raise ValueError(f"replicated({count}): from 1 to {REPLICAS_MAXIMUM} replicas")
            replicas = max(replicas, count)
        elif word == "fsynced":
            is_fsynced = True
        elif word != STORED or len(words) > 1:
            raise ValueError(
                f"{text!r} is no durability level: stored, replicated(N), fsynced or fsynced+replicated(N)"
            )
    return replicas, is_fsynced


def _normal(value: object) -> object:
    if not isinstance(value, str):
        return value
    replicas, is_fsynced = parse_level(value)
    names = ["fsynced"] * is_fsynced + [f"replicated({replicas})"] * bool(replicas)
    return "+".join(names) or STORED


DurabilityLevel = Annotated[str, BeforeValidator(_normal)]


class DurabilityRule(Group):
    """One of `topics.durability`: messages to topics that the filter matches are acknowledged when they are
    kept so well."""

    filter: str = Field(min_length=1, max_length=65_535)
    level: DurabilityLevel

    @field_validator("filter")
    @classmethod
    def _is_valid(cls, filter: str) -> str:
        if not _FILTER.fullmatch(filter):
            raise ValueError(f"{filter!r} is not a Topic Filter")
        if filter.startswith(("$share/", "$exclusive/")):
            raise ValueError(f"{filter!r}: no topic of a message begins so")
        return filter
