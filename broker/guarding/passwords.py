"""User names and passwords of a file."""

from broker.auth import Link
from broker.auth.hashing import Hashing
from broker.auth.password_file import SOURCE, PasswordFile, Passwords, load_passwords
from broker.auth.scram import ScramSource
from broker.auth.sql import SOURCE as SQL
from broker.auth.stored_users import SOURCE as REDIS
from broker.auth.watched import WatchedFile
from broker.client import Hub, disconnect_users
from broker.guarding.parts import Parts, load_now


def password_link(parts: Parts, hashing: Hashing) -> Link:
    """Follows the file."""
    auth = parts.settings.auth
    assert auth.password_file is not None
    file = WatchedFile(SOURCE, auth.password_file, load_passwords, parts.counters.auth_reloads)
    later = {REDIS: auth.redis_users, SQL: auth.sql_user_query is not None}
    is_last = parts.is_last(SOURCE, later)
    authenticator = PasswordFile(load_now(file), hashing, parts.cache(), hides_unknown=is_last)

    scram = ScramSource(SOURCE, authenticator.find, lambda: authenticator.scram_iterations)
    parts.scram_sources.append(scram)

    async def follow(hub: Hub) -> None:
        def apply(passwords: Passwords) -> None:
            disconnect_users(hub, authenticator.replace(passwords), {SOURCE, scram.identity_source})

        await file.run(apply)

    parts.watches.append(follow)
    return Link(SOURCE, authenticator)
