"""Makes what a node asks of its clients, as the settings want it; and keeps it up to date with its files.

It is made once, before Redis is there: mistakes in the files are told at once, and prevent the start. Later
ones are told, too, and change nothing. Each mechanism has a module here, which is imported only if it is
asked for: what they need is large.
"""

from collections.abc import Collection, Mapping
from functools import partial

from broker.auth import Audit, Authorization, Authorizer, EnhancedAuthenticator, Link
from broker.auth.plugins import load_authenticators, load_authorizers
from broker.auth.rules import Rules, read_rules
from broker.auth.watched import WatchedFile
from broker.client import Guard, Hub
from broker.guarding.certificates import certificate_link
from broker.guarding.listening import make_chains
from broker.guarding.parts import Guarding, Parts, Watch, load_now
from broker.guarding.rule_sources import RuleSources
from broker.observability.metrics import Counters
from broker.settings import Settings
from cluster.roster import Roster

__all__ = ["Guarding", "Watch", "make_guarding"]


def make_guarding(settings: Settings, counters: Counters, methods: Collection[str] = ()) -> Guarding:
    """Reads all files. `methods`: the Authentication Methods that there are beside ours. Raises StartError if
    there are mistakes in the files, or a plug-in is not there."""
    auth = settings.auth
    parts = Parts(settings, counters, [])
    roster = Roster(auth.cache_entries) if auth.redis_users or auth.redis_rules or auth.scram else None
    links = _links(parts, roster)
    rules: Rules | None = None
    rules_file: WatchedFile[Rules] | None = None
    if auth.rules_file is not None:
        rules_file = WatchedFile("rules_file", auth.rules_file, read_rules, counters.auth_reloads)
        rules = load_now(rules_file)
    authorizers = _authorizers(parts)
    own_methods = _methods(parts, roster, None)

    def methods_for(asked: Collection[str]) -> Mapping[str, EnhancedAuthenticator]:
        found = _methods(parts, roster, asked)
        return {name: method for name, method in found.items() if name not in methods}

    default_chain, chains = make_chains(settings, links, {*methods, *own_methods}, methods_for)
    if not links and rules is None and not authorizers and not chains and roster is None:
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
    sources = RuleSources(authorization)
    if rules_file is not None:
        parts.watches.append(partial(_follow_rules, rules_file, sources))
    guard = Guard(
        default_chain,
        authorization,
        Audit(),
        counters,
        auth.denied_publish == "disconnect",
        auth.on_revoked == "disconnect",
        chains,
    )
    if roster is None:
        return Guarding(guard, parts.watches, parts.gate, forgets=parts.forgets)
    from broker.guarding.stored import follow_stored

    follow = follow_stored(parts, roster, sources)
    return Guarding(guard, parts.watches, parts.gate, follow, own_methods, parts.forgets)


def _links(parts: Parts, roster: Roster | None) -> list[Link]:
    """Authenticators in order: the cheap ones first."""
    auth = parts.settings.auth
    links = []
    if auth.certificate_username != "off":
        links.append(certificate_link(parts))
    if auth.jwt_keys is not None or auth.jwt_keys_url is not None:
        from broker.guarding.tokens import token_link

        links.append(token_link(parts))
    if auth.password_file is not None:
        from broker.guarding.passwords import password_link

        links.append(password_link(parts, parts.hashing()))
    if auth.redis_users and roster is not None:
        from broker.guarding.stored import users_link

        links.append(users_link(parts, roster))
    if auth.sql_user_query is not None:
        from broker.guarding.sql import sql_authenticator

        links.append(sql_authenticator(parts, auth.sql_user_query))
    if auth.http_authenticate_url is not None:
        from broker.guarding.http_hooks import http_authenticator

        links.append(http_authenticator(parts, auth.http_authenticate_url))
    for name, authenticator in load_authenticators(auth.authenticators):
        links.append(Link(name, authenticator, parts.cache()))
    return links


def _authorizers(parts: Parts) -> list[tuple[str, Authorizer]]:
    """Those that have to be waited for, with their names."""
    auth = parts.settings.auth
    authorizers = []
    if auth.sql_acl_query is not None:
        from broker.guarding.sql import sql_authorizer

        authorizers.append(sql_authorizer(parts, auth.sql_acl_query))
    if auth.http_authorize_url is not None:
        from broker.guarding.http_hooks import http_authorizer

        authorizers.append(http_authorizer(parts, auth.http_authorize_url))
    return [*authorizers, *load_authorizers(auth.authorizers)]


def _methods(
    parts: Parts, roster: Roster | None, asked: Collection[str] | None
) -> Mapping[str, EnhancedAuthenticator]:
    """Our Authentication Methods by name, for those who are asked by these authenticators; None: by all."""
    if not parts.settings.auth.scram or roster is None:
        return {}
    from broker.guarding.scram import scram_methods

    return scram_methods(parts, roster, asked)


async def _follow_rules(file: WatchedFile[Rules], sources: RuleSources, hub: Hub) -> None:
    await file.run(partial(sources.replace_file, hub))
