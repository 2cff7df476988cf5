"""User names and passwords of a file."""

from broker.auth import Link
from broker.auth.hashing import Hashing
from broker.auth.password_file import SOURCE, PasswordFile, Passwords, load_passwords
from broker.auth.stored_users import SOURCE as REDIS
from broker.auth.watched import WatchedFile
from broker.client import Hub, disconnect_users
from broker.guarding.parts import Parts, load_now


def _are_others_next(parts: Parts) -> bool:
    """Whether whoever is not in the file is asked for in Redis everywhere, which costs a hash."""
    settings = parts.settings
    named = [set(each.authentication or ()) for each in settings.listeners.values()]
    is_alone = any(SOURCE in names and REDIS not in names for names in named)
    return settings.auth.redis_users and not is_alone


def password_link(parts: Parts, hashing: Hashing) -> Link:
    """Follows the file."""
    auth = parts.settings.auth
    assert auth.password_file is not None
    file = WatchedFile(SOURCE, auth.password_file, load_passwords, parts.counters.auth_reloads)
    authenticator = PasswordFile(load_now(file), hashing, parts.cache(), not _are_others_next(parts))

    async def follow(hub: Hub) -> None:
        def apply(passwords: Passwords) -> None:
            disconnect_users(hub, authenticator.replace(passwords), SOURCE)

        await file.run(apply)

    parts.watches.append(follow)
    return Link(SOURCE, authenticator)
