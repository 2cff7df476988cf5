"""Authenticators in order: the first that has an opinion decides. If none has, a client that names itself is
denied, and one that doesn't is let in only if anonymous clients are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from broker.auth.access import (
    ANONYMOUS,
    Authenticator,
    Credentials,
    Denied,
    Identity,
    Unavailable,
    Verdict,
)
from broker.auth.cache import VerdictCache
from broker.auth.enhanced import EnhancedAuthenticator
from broker.auth.gate import Busy
from broker.mqtt import ReasonCode
from broker.observability.logs import get_logger
from broker.observability.seldom import Seldom

_FAILED: Final = Denied(ReasonCode.SERVER_UNAVAILABLE)
_BUSY: Final = Denied(ReasonCode.SERVER_BUSY)
_NOT_KEPT: Final = (None, _FAILED, _BUSY)

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Link:
    """One authenticator. `cache`: of one that does not remember by itself, and whose answers may be kept."""

    name: str
    authenticator: Authenticator
    cache: VerdictCache | None = None


class AuthenticatorChain:
    """Authenticators of a node or of one listener. One that fails or takes too long denies, or is skipped.

    `methods`: the Authentication Methods that clients may name, None for all that there are. Where some are
    given, who names none of them is asked, too, be it that nobody knows an answer. `own_methods` hold here in
    place of those of the node.
    """

    def __init__(
        self,
        links: Sequence[Link],
        *,
        timeout_seconds: float,
        skips_failures: bool,
        allows_anonymous: bool,
        methods: frozenset[str] | None = None,
        own_methods: Mapping[str, EnhancedAuthenticator] | None = None,
    ) -> None:
        self._links = links
        self._methods = methods
        self._own_methods = own_methods or {}
        self._timeout_seconds = timeout_seconds
        self._skips_failures = skips_failures
        self._allows_anonymous = allows_anonymous
        self._late = Seldom(logger)

    @property
    def is_asked(self) -> bool:
        """Whether there is anybody to ask, or a method to insist on."""
        return bool(self._links or self._methods)

    def method(self, name: str, known: Mapping[str, EnhancedAuthenticator]) -> EnhancedAuthenticator | None:
        """The Authentication Method of this name, of those that the node has; None: clients may not name
        it."""
        if self._methods is not None and name not in self._methods:
            return None
        return self._own_methods.get(name) or known.get(name)

    async def authenticate(self, credentials: Credentials) -> Identity | Denied:
        """Who the client is, or why it is not let in."""
        for link in self._links:
            verdict = await self._ask(link, credentials)
            if verdict is not None:
                return verdict
        if credentials.are_given:
            return Denied()
        return ANONYMOUS if self._allows_anonymous else Denied(ReasonCode.NOT_AUTHORIZED)

    async def _ask(self, link: Link, credentials: Credentials) -> Verdict:
        cache = link.cache
        if cache is None:
            return await self._ask_itself(link, credentials)
        certificate = credentials.certificate
        key = cache.key(
            credentials.client_id,
            credentials.username,
            credentials.password,
            credentials.address,
            credentials.listener,
            certificate.key if certificate is not None else None,
        )
        verdict: Verdict = cache.find(key)
        if verdict is None:
            verdict = await self._ask_itself(link, credentials)
            if verdict is not None and verdict not in _NOT_KEPT:
                cache.keep(key, verdict)
        return verdict

    async def _ask_itself(self, link: Link, credentials: Credentials) -> Verdict:
        try:
            with anyio.fail_after(self._timeout_seconds):
                return await link.authenticator.authenticate(credentials)
        except Busy:
            return _BUSY
        except Unavailable:
            pass
        except TimeoutError:
            self._late.error("authenticator did not answer in time", {"authenticator": link.name})
        except Exception:  # not our code
            logger.exception("authenticator failed", extra={"authenticator": link.name})
        return None if self._skips_failures else _FAILED
