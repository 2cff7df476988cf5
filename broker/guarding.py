"""Makes what a node asks of its clients, as the settings want it; and keeps it up to date with its files.

It is made once, before Redis is there: mistakes in the files are told at once, and prevent the start. Later
ones are told, too, and change nothing.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial

from broker.auth import Audit, AuthenticatorChain, Authorization, Link
from broker.auth.cache import VerdictCache
from broker.auth.gate import Gate
from broker.auth.plugins import load_authenticators, load_authorizers
from broker.auth.rules import Rules, read_rules
from broker.auth.watched import Content, WatchedFile
from broker.client import Guard, Hub, disconnect_users, review_all, revoke
from broker.errors import StartError
from broker.observability.metrics import Counters
from broker.settings import Settings

Watch = Callable[[Hub], Coroutine[object, object, None]]
"""Runs as long as the node."""


@dataclass(frozen=True, slots=True)
class Guarding:
    """`guard` None: the node asks nothing."""

    guard: Guard | None
    watches: Sequence[Watch]
    gate: Gate | None
    """Where passwords wait to be hashed."""


def make_guarding(settings: Settings, counters: Counters) -> Guarding:
    """Reads all files. Raises StartError if there are mistakes in them, or a plug-in is not there."""
    auth = settings.auth
    watches: list[Watch] = []
    links, gate = _links(settings, counters, watches)
    rules: Rules | None = None
    rules_file: WatchedFile[Rules] | None = None
    if auth.rules_file is not None:
        rules_file = WatchedFile("rules_file", auth.rules_file, read_rules, counters.auth_reloads)
        rules = _load(rules_file)
    authorizers = load_authorizers(auth.authorizers)
    if not links and rules is None and not authorizers:
        return Guarding(None, (), None)
    authorization = Authorization(
        rules,
        authorizers,
        auth.unmatched == "allow",
        auth.timeout_seconds,
        auth.on_failure == "skip",
        auth.cache_seconds,
        auth.decisions_per_client,
    )
    if rules_file is not None:
        watches.append(partial(_follow_rules, rules_file, authorization))
    chain = AuthenticatorChain(
        links,
        timeout_seconds=auth.timeout_seconds,
        skips_failures=auth.on_failure == "skip",
        allows_anonymous=settings.node.allow_anonymous,
    )
    guard = Guard(
        chain,
        authorization,
        Audit(),
        counters,
        auth.denied_publish == "disconnect",
        auth.on_revoked == "disconnect",
    )
    return Guarding(guard, watches, gate)


def _links(settings: Settings, counters: Counters, watches: list[Watch]) -> tuple[list[Link], Gate | None]:
    """Authenticators in order: the cheap ones first."""
    auth = settings.auth
    links = []
    gate: Gate | None = None
    if auth.jwt_keys is not None or auth.jwt_keys_url is not None:
        links.append(_token_link(settings, counters, watches))
    if auth.password_file is not None:
        link, gate = _password_link(settings, counters, watches)
        links.append(link)
    for name, authenticator in load_authenticators(auth.authenticators):
        links.append(Link(name, authenticator, _cache(settings)))
    return links, gate


def _cache(settings: Settings) -> VerdictCache:
    return VerdictCache(settings.auth.cache_seconds, settings.auth.cache_entries)


def _token_link(settings: Settings, counters: Counters, watches: list[Watch]) -> Link:
    # Not above: what these import is large.
    from broker.auth.json_web_token import SOURCE, JsonWebTokens
    from broker.auth.key_set import Key, KeySet, read_keys

    auth = settings.auth
    keys = KeySet((), auth.jwt_keys_url, auth.jwt_keys_refresh_seconds, counters.auth_reloads)
    if auth.jwt_keys is not None:
        file = WatchedFile("jwt_keys", auth.jwt_keys, read_keys, counters.auth_reloads)
        keys.file_keys = _load(file)

        async def follow(hub: Hub) -> None:
            def apply(read: Sequence[Key]) -> None:
                keys.file_keys = read
                cache.clear()

            await file.run(apply)

        watches.append(follow)
    if auth.jwt_keys_url is not None:
        watches.append(lambda hub: keys.run())
    tokens = JsonWebTokens(
        keys,
        issuer=auth.jwt_issuer,
        audience=auth.jwt_audience,
        username_claim=auth.jwt_username_claim,
        leeway_seconds=auth.jwt_leeway_seconds,
    )
    cache = _cache(settings)
    return Link(SOURCE, tokens, cache)


def _password_link(settings: Settings, counters: Counters, watches: list[Watch]) -> tuple[Link, Gate]:
    # Not above: argon2 is for those who have such a file.
    from broker.auth.password_file import SOURCE, PasswordFile, Passwords, load_passwords

    auth = settings.auth
    assert auth.password_file is not None
    file = WatchedFile(SOURCE, auth.password_file, load_passwords, counters.auth_reloads)
    authenticator = PasswordFile(_load(file), auth.hash_threads, auth.hash_queue, _cache(settings))

    async def follow(hub: Hub) -> None:
        def apply(passwords: Passwords) -> None:
            disconnect_users(hub, authenticator.replace(passwords), SOURCE)

        await file.run(apply)

    watches.append(follow)
    return Link(SOURCE, authenticator), authenticator.gate


async def _follow_rules(file: WatchedFile[Rules], authorization: Authorization, hub: Hub) -> None:
    def apply(rules: Rules) -> None:
        authorization.replace_rules(rules)
        hub.spawn(review_all(hub, revoke))

    await file.run(apply)


def _load(file: WatchedFile[Content]) -> Content:
    try:
        return file.load()
    except ValueError as error:
        raise StartError(str(error)) from None
