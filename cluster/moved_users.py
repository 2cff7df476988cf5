"""Users, rules and bans as they are in a file between two brokers (see `moved`).

Of a password there is what the broker keeps of it: a hash, and the keys of SCRAM if it has them. Whoever has
these can guess at it, so they are in a file only if they were asked for.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from broker.auth.ban import Ban
from broker.auth.rules import RULES_BYTES
from broker.auth.user import (
    ALLOWED_MAXIMUM,
    FILTER_LENGTH,
    GROUP_LENGTH,
    GROUPS_MAXIMUM,
    NAME_LENGTH,
    Allowed,
    ScramKeys,
    StoredUser,
    User,
)
from cluster.moved import Blob, Moved, Number, Record

_Group = Annotated[str, Field(min_length=1, max_length=GROUP_LENGTH)]
_Filters = Annotated[
    Sequence[Annotated[str, Field(min_length=1, max_length=FILTER_LENGTH)]], Field(max_length=ALLOWED_MAXIMUM)
]


class MovedScram(Moved):
    """What SCRAM-SHA-256 knows of a password."""

    iterations: Annotated[int, Field(ge=1, le=0xFFFFFFFF)]
    salt: Blob
    stored_key: Annotated[Blob, Field(repr=False)]
    server_key: Annotated[Blob, Field(repr=False)]


class MovedAllowed(Moved):
    """What one user may do, whatever the rules for all are."""

    publish: _Filters = ()
    subscribe: _Filters = ()


class MovedUser(Moved):
    """A user; `hash` is by argon2id."""

    kind: Literal["user"]
    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
    hash: Annotated[str, Field(repr=False)]
    groups: Annotated[Sequence[_Group], Field(max_length=GROUPS_MAXIMUM)] = ()
    enabled: bool = True
    rules: MovedAllowed | None = None
    scram: MovedScram | None = None


class MovedRules(Moved):
    """The rules for all; there is one record of them, or none."""

    kind: Literal["rules"]
    text: Annotated[str, Field(max_length=RULES_BYTES)]


class MovedBan(Moved):
    """`target`: kind and value with a colon between. `lives_ms` None: for ever."""

    kind: Literal["ban"]
    target: str
    reason: str = ""
    by: str = ""
    lives_ms: Number | None = None
    automatic: bool = False


UserRecord = MovedUser | MovedRules | MovedBan
AnyRecord = Annotated[Record | MovedUser | MovedRules | MovedBan, Field(discriminator="kind")]


def moved_user(stored: StoredUser) -> MovedUser:
    """As it is in the file."""
    user = stored.user
    allowed, scram = user.allowed, user.scram
    return MovedUser(
        kind="user",
        name=stored.name,
        hash=user.hashed,
        groups=sorted(user.groups),
        enabled=user.is_enabled,
        rules=None if allowed is None else MovedAllowed(publish=allowed.publish, subscribe=allowed.subscribe),
        scram=None
        if scram is None
        else MovedScram(
            iterations=scram.iterations,
            salt=scram.salt,
            stored_key=scram.stored_key,
            server_key=scram.server_key,
        ),
    )


def user_of(moved: MovedUser) -> User:
    """As it is kept."""
    rules, scram = moved.rules, moved.scram
    return User(
        moved.hash,
        frozenset(moved.groups),
        moved.enabled,
        None if rules is None else Allowed(tuple(rules.publish), tuple(rules.subscribe)),
        None
        if scram is None
        else ScramKeys(scram.iterations, scram.salt, scram.stored_key, scram.server_key),
    )


def moved_ban(ban: Ban, now_ms: int) -> MovedBan:
    """As it is in the file."""
    return MovedBan(
        kind="ban",
        target=ban.target.name,
        reason=ban.reason,
        by=ban.by,
        lives_ms=max(ban.until_ms - now_ms, 0) if ban.until_ms else None,
        automatic=ban.is_automatic,
    )
