"""Plug-ins, by the entry points that installed distributions have."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Final, cast

from broker.auth.access import Authenticator, Authorizer
from broker.errors import StartError

AUTHENTICATORS: Final = "moorline.authenticators"
AUTHORIZERS: Final = "moorline.authorizers"


def load_authenticators(names: Sequence[str]) -> list[tuple[str, Authenticator]]:
    """In this order. StartError if one is not installed, or can't be made."""
    return [(name, cast(Authenticator, _make(AUTHENTICATORS, name, "authenticate"))) for name in names]


def load_authorizers(names: Sequence[str]) -> list[tuple[str, Authorizer]]:
    """Likewise."""
    return [(name, cast(Authorizer, _make(AUTHORIZERS, name, "authorize"))) for name in names]


def _make(group: str, name: str, method: str) -> object:
    found = tuple(entry_points(group=group, name=name))
    if not found:
        installed = sorted({each.name for each in entry_points(group=group)})
        raise StartError(f"no entry point {name!r} of {group} is installed; there are: {installed or 'none'}")
    try:
        made: object = found[0].load()()
    except Exception as error:  # not our code
        raise StartError(f"{name!r} of {group} can't be made: {type(error).__name__}: {error}") from error
    if not callable(getattr(made, method, None)):
        raise StartError(f"{name!r} of {group} has no method {method!r}")
    return made
