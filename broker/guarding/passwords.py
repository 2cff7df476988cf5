"""User names and passwords of a file."""

from broker.auth import Link
from broker.auth.hashing import Hashing
from broker.auth.password_file import SOURCE, PasswordFile, Passwords, load_passwords
from broker.auth.watched import WatchedFile
from broker.client import Hub, disconnect_users
from broker.guarding.parts import Parts, load_now


def password_link(parts: Parts, hashing: Hashing) -> Link:
    """Follows the file."""
    auth = parts.settings.auth
    assert auth.password_file is not None
    file = WatchedFile(SOURCE, auth.password_file, load_passwords, parts.counters.auth_reloads)
    # Users of Redis are asked next, and take the time of a hash for whoever isn't there either.
    authenticator = PasswordFile(load_now(file), hashing, parts.cache(), hides_unknown=not auth.redis_users)

    async def follow(hub: Hub) -> None:
        def apply(passwords: Passwords) -> None:
            disconnect_users(hub, authenticator.replace(passwords), SOURCE)

        await file.run(apply)

    parts.watches.append(follow)
    return Link(SOURCE, authenticator)
