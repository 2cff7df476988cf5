"""Who is asked on which listener: all that are set up, or those that the listener names."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from broker.auth import AuthenticatorChain, EnhancedAuthenticator, Link
from broker.errors import StartError
from broker.settings import Settings

MethodsFor = Callable[[Collection[str]], Mapping[str, EnhancedAuthenticator]]
"""Authentication Methods where just these authenticators are asked."""


def make_chains(
    settings: Settings, links: Sequence[Link], methods: Collection[str], methods_for: MethodsFor
) -> tuple[AuthenticatorChain, Mapping[str, AuthenticatorChain]]:
    """For listeners that say nothing, and for the others by name. `methods`: the Authentication Methods that
    there are. StartError has a line for each mistake."""
    auth = settings.auth
    make = partial(
        AuthenticatorChain, timeout_seconds=auth.timeout_seconds, skips_failures=auth.on_failure == "skip"
    )
    chains: dict[str, AuthenticatorChain] = {}
    mistakes: list[str] = []
    known = {link.name for link in links} | set(methods)
    for name, listener in settings.listeners.items():
        allows = listener.allow_anonymous
        if listener.authentication is None and allows is None:
            continue
        named = known if listener.authentication is None else set(listener.authentication)
        if unknown := sorted(named - known):
            mistakes.append(
                f"listeners.{name}.authentication: {', '.join(unknown)}: not set up;"
                f" there are: {', '.join(sorted(known)) or 'none'}"
            )
        elif not named and allows is False:
            mistakes.append(f"listeners.{name}.allow_anonymous: nothing is set up that lets anybody in there")
        chains[name] = make(
            [link for link in links if link.name in named],
            allows_anonymous=settings.node.allow_anonymous if allows is None else allows,
            methods=frozenset(named.intersection(methods)),
            own_methods={} if listener.authentication is None else methods_for(named),
        )
    if mistakes:
        raise StartError("\n".join(mistakes))
    return make(links, allows_anonymous=settings.node.allow_anonymous), chains
