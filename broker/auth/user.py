"""A user as it is stored, by whatever store: who it is, what it proves that with, what it may do."""

import re
from dataclasses import dataclass, field
from typing import Final

from broker.auth.access import Identity
from broker.auth.rules import allow_rules

GROUPS_MAXIMUM: Final = 100
GROUP_LENGTH: Final = 255
ALLOWED_MAXIMUM: Final = 100
"""Filters of its own that a user may publish to, and as many to subscribe to."""
FILTER_LENGTH: Final = 1024

_NAME: Final = re.compile(r"[^:\x00-\x1f\x7f#][^:\x00-\x1f\x7f]{0,254}")

NAME_LENGTH: Final = 255
NAME_RULE: Final = "1 to 255 characters, no colon and no control characters, no # in front"


def is_user_name(name: str) -> bool:
    """Whether it can be that of a user."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What is known of a password by SCRAM-SHA-256 [RFC 5802: 3]."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Filters with `%u` and `%c` that one user may use, whatever the rules for all are."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """`hashed`: the password by argon2id. `scram` None: it can't come in by SCRAM. `allowed` None: it has no
    rules of its own."""

    hashed: str = field(repr=False)
    groups: frozenset[str] = frozenset()
    is_enabled: bool = True
    allowed: Allowed | None = None
    scram: ScramKeys | None = None


@dataclass(frozen=True, slots=True)
class StoredUser:
    """A user in the store. Each change of anybody has a higher version. `credentials_version`: of the change
    since which it can prove who it is in this way; who came in before that is to go."""

    name: str
    user: User
    version: int
    credentials_version: int
    created_ms: int
    changed_ms: int

    def identity(self, source: str) -> Identity:
        """Of a client that is this user, found out by `source`."""
        allowed = self.user.allowed
        rules = allow_rules(allowed.publish, allowed.subscribe) if allowed is not None else None
        return Identity(self.name, self.user.groups, rules, source=source, version=self.version)
