"""Users in Redis: their records, and the questions about them.

A record is a msgpack array, as those of `records`: [1, hash, groups, flags, own rules or nil, SCRAM keys or
nil]. Own rules are [publish, subscribe], SCRAM keys [iterations, salt, stored key, server key].
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

from broker.auth.user import Allowed, ScramKeys, StoredUser, User
from cluster.store.call import Reply
from cluster.store.keys import META_SLOT
from cluster.store.records import UnknownRecord
from cluster.store.reply import as_bytes, as_int, as_list, as_text, in_pairs

USERS_MAXIMUM: Final = 1_000_000
"""Of one broker."""
CONFLICT: Final = 0
FULL: Final = -1

_VERSION: Final = 1
_ENABLED: Final = 0b1

_pack = msgpack.Packer(use_bin_type=False).pack
_unpack = msgpack.unpackb

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of users that have changed up to `version`. `is_complete` False: anybody may have."""

    version: int
    names: list[str]
    is_complete: bool


def pack_user(user: User) -> bytes:
    """What is in the store of it: the same user is the same bytes."""
    allowed, scram = user.allowed, user.scram
    return cast(
        bytes,
        _pack(
            [
                _VERSION,
                user.hashed,
                sorted(user.groups),
                _ENABLED if user.is_enabled else 0,
                None if allowed is None else [allowed.publish, allowed.subscribe],
                None if scram is None else [scram.iterations, scram.salt, scram.stored_key, scram.server_key],
            ]
        ),
    )


def unpack_user(record: bytes) -> User:
    """Raises ValueError (of which UnknownRecord is one) and TypeError if it is none."""
    fields = as_list(_unpack(record, raw=True))
    if fields[0] != _VERSION:
        raise UnknownRecord(f"a user of version {fields[0]!r}")
    if len(fields) < 6:
        raise ValueError("a user that is cut off")
    hashed, groups, flags, allowed, scram = fields[1:6]
    return User(
        as_text(hashed),
        frozenset(_texts(groups)),
        bool(as_int(flags) & _ENABLED),
        None if allowed is None else _allowed(as_list(allowed)),
        None if scram is None else _scram(as_list(scram)),
    )


def _allowed(fields: list[object]) -> Allowed:
    publish, subscribe = fields[:2]
    return Allowed(_texts(publish), _texts(subscribe))


def _scram(fields: list[object]) -> ScramKeys:
    iterations, salt, stored_key, server_key = fields[:4]
    return ScramKeys(as_int(iterations), as_bytes(salt), as_bytes(stored_key), as_bytes(server_key))


def _texts(values: object) -> tuple[str, ...]:
    return tuple(as_text(value) for value in as_list(values))


def put_user(name: str, record: bytes, seen: int, *, renews: bool) -> list[object]:
    """Makes a user, or changes one whose version is `seen` (0: it is not there). `renews`: who came in as
    this user is to go. Answer: the new version, CONFLICT or FULL."""
    return ["put_user", META_SLOT, name, record, seen, renews, USERS_MAXIMUM]


def delete_user(name: str) -> list[object]:
    """Answer: 0 if there is no such user."""
    return ["delete_user", META_SLOT, name]


def find_users(names: Sequence[str]) -> list[object]:
    """Asks for some users."""
    return ["find_users", META_SLOT, list(names)]


def parse_found(names: Sequence[str], reply: Reply) -> tuple[int, dict[str, StoredUser | None]]:
    """The answer to `find_users`: how old it is, and the users; None for one that is not there."""
    version, values = as_list(reply)[:2]
    found = {
        name: parse_user(name, value) if isinstance(value, bytes) else None
        for name, value in zip(names, as_list(values), strict=True)
    }
    return as_int(version), found


def users_page(after: str | None, limit: int) -> list[object]:
    """Asks for users behind a name."""
    return ["users_page", META_SLOT, False if after is None else after, limit]


def parse_page(reply: Reply) -> tuple[list[StoredUser], str | None]:
    """The answer to `users_page`, and the last name, which may be that of a user that can't be read; None if
    there are no more."""
    pairs = [(as_text(name), as_bytes(value)) for name, value in in_pairs(reply)]
    found = (parse_user(name, value) for name, value in pairs)
    return [user for user in found if user is not None], pairs[-1][0] if pairs else None


def parse_user(name: str, value: bytes) -> StoredUser | None:
    """A user as it is in Redis (`keys.users`). One that can't be read can't come in: it counts as if it
    weren't there."""
    try:
        version, credentials_version, created_ms, changed_ms, record = value.split(b":", 4)
        versions = int(version), int(credentials_version)
        return StoredUser(name, unpack_user(record), *versions, int(created_ms), int(changed_ms))
    except (ValueError, TypeError) as error:
        logger.error("a user can't be read: %s", type(error).__name__, extra={"username": name})
        return None


def follow_users(seen: int, limit: int) -> list[object]:
    """Asks who has changed since a version."""
    return ["follow_users", META_SLOT, seen, limit]


def parse_changes(reply: Reply) -> Changes:
    """The answer to `follow_users`."""
    version, names, is_complete = as_list(reply)[:3]
    return Changes(as_int(version), [as_text(name) for name in as_list(names)], bool(is_complete))


def users_secret(random: bytes) -> list[object]:
    """Asks for the secret of this broker; `random` if it has none yet."""
    return ["users_secret", META_SLOT, random]


def put_rules(text: str | None) -> list[object]:
    """Replaces the rules; None: there are none any more. Answer: the version."""
    return ["put_rules", META_SLOT, False if text is None else text]


def read_rules(had: int) -> list[object]:
    """Asks for the rules, unless they are those of a version (-1: in any case)."""
    return ["read_rules", META_SLOT, had]


def parse_rules(reply: Reply) -> tuple[int, str | None]:
    """The answer to `read_rules`: version and text."""
    version, text = as_list(reply)[:2]
    return as_int(version), as_text(text) if isinstance(text, bytes) else None
