"""Makes what a node asks of its clients, as the settings want it; and keeps it up to date with its files.

It is made once, before Redis is there: mistakes in the files are told at once, and prevent the start. Later
ones are told, too, and change nothing. Each mechanism has a module here, which is imported only if it is
asked for: what they need is large.
"""

from collections.abc import Collection
from functools import partial

from broker.auth import Audit, Authorization, Authorizer, Link
from broker.auth.plugins import load_authenticators, load_authorizers
from broker.auth.rules import Rules, read_rules
from broker.auth.watched import WatchedFile
from broker.client import Guard, Hub, review_all, revoke
from broker.guarding.certificates import certificate_link
from broker.guarding.listening import make_chains
from broker.guarding.parts import Guarding, Parts, Watch, load_now
from broker.observability.metrics import Counters
from broker.settings import Settings

__all__ = ["Guarding", "Watch", "make_guarding"]


def make_guarding(settings: Settings, counters: Counters, methods: Collection[str] = ()) -> Guarding:
    """Reads all files. `methods`: the Authentication Methods that there are. Raises StartError if there are
    mistakes in the files, or a plug-in is not there."""
    auth = settings.auth
    parts = Parts(settings, counters, [])
    links = _links(parts)
    rules: Rules | None = None
    rules_file: WatchedFile[Rules] | None = None
    if auth.rules_file is not None:
        rules_file = WatchedFile("rules_file", auth.rules_file, read_rules, counters.auth_reloads)
        rules = load_now(rules_file)
    authorizers = _authorizers(parts)
    default_chain, chains = make_chains(settings, links, methods)
    if not links and rules is None and not authorizers and not chains:
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
        parts.watches.append(partial(_follow_rules, rules_file, authorization))
    guard = Guard(
        default_chain,
        authorization,
        Audit(),
        counters,
        auth.denied_publish == "disconnect",
        auth.on_revoked == "disconnect",
        chains,
    )
    return Guarding(guard, parts.watches, parts.gate)


def _links(parts: Parts) -> list[Link]:
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


async def _follow_rules(file: WatchedFile[Rules], authorization: Authorization, hub: Hub) -> None:
    def apply(rules: Rules) -> None:
        authorization.replace_rules(rules)
        hub.spawn(review_all(hub, revoke))

    await file.run(apply)
