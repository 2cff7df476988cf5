"""Tokens (JWT) that clients send as their password.

A token says who the client is, until when, and perhaps more: `groups`, the Client Identifier that it is for
(`client_id`, in which `*` stands for any characters), and what it may do (`acl`). What has no end (`exp`) is
not taken; what the client calls itself in its CONNECT does not count.
"""

from typing import Any, Final

import jwt

from broker.auth.access import Credentials, Denied, Identity, Verdict
from broker.auth.acl import are_texts, is_text, rules_of
from broker.auth.key_set import Key, KeySet
from broker.auth.rules import is_named
from broker.mqtt import ReasonCode

SOURCE: Final = "jwt"

_LENGTH_MAXIMUM: Final = 16_384
_DOTS: Final = 2
_FORM_ERRORS: Final = (ValueError, TypeError, OverflowError, RecursionError)
"""What a token leads to whose contents have not the form that they must have."""
_BAD: Final = Denied(ReasonCode.BAD_USER_NAME_OR_PASSWORD)


class JsonWebTokens:
    """Takes passwords that look like a token; others are for other authenticators."""

    def __init__(
        self,
        keys: KeySet,
        *,
        issuer: str | None,
        audience: str | None,
        username_claim: str,
        leeway_seconds: float,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._username_claim = username_claim
        self._leeway_seconds = leeway_seconds

    async def authenticate(self, credentials: Credentials) -> Verdict:
        token = credentials.password
        if token is None or not token.startswith(b"eyJ") or token.count(b".") != _DOTS:
            return None
        if len(token) > _LENGTH_MAXIMUM:
            return _BAD
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._keys.find(kid)
            if key is None:
                return _BAD
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway_seconds,
                options={"require": ["exp", self._username_claim]},
            )
            return self._identity(claims, credentials, key)
        except (jwt.PyJWTError, *_FORM_ERRORS):
            return _BAD

    def _identity(self, claims: dict[str, Any], credentials: Credentials, key: Key) -> Identity | Denied:
        username = claims[self._username_claim]
        groups = claims.get("groups", [])
        if not isinstance(username, str) or not username or not is_text(username) or not are_texts(groups):
            raise ValueError("not a user name, or not groups")
        client_id = claims.get("client_id")
        if client_id is not None:
            if not isinstance(client_id, str):
                raise ValueError("not a Client Identifier")
            if not is_named(credentials.client_id, (client_id,)):
                return Denied(ReasonCode.NOT_AUTHORIZED)
        deadline = float(claims["exp"]) + self._leeway_seconds
        acl = claims.get("acl")
        rules = None if acl is None else rules_of(acl)
        return Identity(username, frozenset(groups), rules, deadline, SOURCE, key)
