"""What a browser shows in place of a token, once it has shown the token: a cookie that any node can check.

It says whose it is and until when, with a MAC. The key of that is made of the hash of the token and of a
secret that is in Redis only: so whoever gets the file with hashes can't make one, nor can whoever reads
Redis; every node finds the same key; and with the token its sessions end. Nothing is kept about a session:
logging out makes the browser forget it.

A cookie comes by itself, whoever has made the page that asks. So what changes something must have a header
that no page of another origin may send (`is_own_page`), beside SameSite.
"""

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Final

import anyio
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from broker.auth.admin_tokens import Token
from cluster.control import Control, Desk
from cluster.store.errors import StoreError, StoreUnavailable

SESSION_SECONDS: Final = 8 * 3600
SECRET_SECONDS: Final = 60.0
"""How long the secret is used before Redis is asked again; while that is away, it goes on."""
OWN_PAGE: Final = "x-moorline-page"
"""A header: the dashboard sends it with each request."""

_READ_SECONDS: Final = 1.0
_NAME: Final = "moorline"
_PURPOSE: Final = b"moorline dashboard 1"


class Sessions:
    """Makes and reads these cookies. `is_secure`: browsers send them by HTTPS only."""

    def __init__(self, desk: Desk, *, is_secure: bool, clock: Callable[[], float] = time.time) -> None:
        self._desk = desk
        self._clock = clock
        self._attributes = f"; Path=/; HttpOnly; SameSite=Strict{'; Secure' if is_secure else ''}"
        self._name = f"__Host-{_NAME}" if is_secure else _NAME
        self._secret = b""
        self._of: Control | None = None
        self._read_at = float("-inf")

    async def open(self, token: Token) -> str:
        """A Set-Cookie for whoever has shown the token. Raises StoreError if the secret can't be read."""
        until = f"{int(self._clock()) + SESSION_SECONDS:x}"
        mac = _mac(await self._key(token), token.name, until)
        return f"{self._name}={until}.{mac}.{token.name}; Max-Age={SESSION_SECONDS}{self._attributes}"

    def close(self) -> str:
        """A Set-Cookie by which the browser forgets it."""
        return f"{self._name}=; Max-Age=0{self._attributes}"

    async def find(self, headers: Headers, tokens: Sequence[Token]) -> Token | None:
        """Whose session it is, if there is one that counts. Raises StoreError likewise."""
        given = cookie_parser(headers.get("cookie", "")).get(self._name, "")
        until, _, rest = given.partition(".")
        mac, _, name = rest.partition(".")
        token = next((token for token in tokens if token.name == name), None)
        if token is None or not _is_later(until, self._clock()):
            return None
        expected = _mac(await self._key(token), name, until)
        return token if hmac.compare_digest(expected.encode(), mac.encode()) else None

    async def _key(self, token: Token) -> bytes:
        return hmac.digest(await self._read_secret(), _PURPOSE + token.digest, hashlib.sha256)

    async def _read_secret(self) -> bytes:
        control = self._desk.control
        now = time.monotonic()
        is_fresh = control is self._of and now - self._read_at < SECRET_SECONDS
        if self._secret and (is_fresh or control is None):
            return self._secret
        if control is None:
            raise StoreUnavailable("Redis has not been reached yet")
        try:
            with anyio.fail_after(_READ_SECONDS):
                self._secret = await control.secret()
        except (StoreError, TimeoutError) as error:
            if not self._secret:
                raise StoreUnavailable(str(error) or "Redis does not answer") from error
        self._of, self._read_at = control, now
        return self._secret


def is_own_page(headers: Headers) -> bool:
    """Whether a request can only be from a page of this very address."""
    origin = headers.get("origin")
    own = headers.get("host", "").lower()
    return OWN_PAGE in headers and (origin is None or origin.lower().partition("://")[2] == own)


def _is_later(until: str, now: float) -> bool:
    try:
        return now < int(until, 16) <= now + 2 * SESSION_SECONDS
    except ValueError:
        return False


def _mac(key: bytes, name: str, until: str) -> str:
    made = hmac.digest(key, f"{until} {name}".encode(), hashlib.sha256)
    return urlsafe_b64encode(made).decode().rstrip("=")
