"""SCRAM: whom it asks, on all listeners or on one."""

from collections.abc import Collection, Mapping

from broker.auth import EnhancedAuthenticator
from broker.auth.scram import ScramSha256
from broker.auth.scram_keys import METHOD
from broker.guarding.parts import Parts
from cluster.roster import Roster


def scram_methods(
    parts: Parts, roster: Roster, asked: Collection[str] | None = None
) -> Mapping[str, EnhancedAuthenticator]:
    """`asked`: what a listener names. Of those that know SCRAM these are asked, or all, if it names none."""
    sources = [source for source in parts.scram_sources if asked is None or source.name in asked]
    iterations = parts.settings.auth.scram_iterations
    return {METHOD: ScramSha256(sources or parts.scram_sources, lambda: roster.secret, iterations)}
