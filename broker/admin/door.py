"""In front of every route of the admin address: who may ask what, what browsers are told, what is recorded.

With tokens, a request needs one whose role is enough for its route: `NEEDS` says which; what is not in there
needs `admin`, so a new route is closed until somebody opens it. Without tokens all may pass, and `/api/v1`
sees to it that only this machine asks.

Wrong tokens are bounded by address: beyond that they are told 429, and no longer recorded one by one. A right
token passes at any time: whoever shares an address with a guesser (a proxy has one for all) is not locked
out, and there is nothing to guess in 256 bits.

A browser that has shown a token once shows a session for it (`sessions.py`). The dashboard's files are open:
anybody may have them, they are no secret and change nothing.
"""

import re
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.admin.audit import WHO
from broker.admin.sessions import OWN_PAGE, Sessions, is_own_page
from broker.auth.address import network_of
from broker.auth.admin_tokens import Role, Token, find_token
from broker.auth.audit import Audit
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally
from broker.observability.token_bucket import TokenBucket
from cluster.store.errors import StoreError

OPEN: Final = frozenset({"/healthz", "/readyz", "/"})
"""For probes, which have no token, and the first page of the dashboard."""
FILES: Final = "/dashboard/"
LOGIN: Final = "/api/v1/login"
"""Asked whether somebody is logged in, it answers everybody."""
METRICS: Final = "/metrics"
NEEDS: Final[Sequence[tuple[frozenset[str], re.Pattern[str], Role]]] = (
    (
        frozenset({"GET", "HEAD"}),
        re.compile(r"/metrics|/api/v1/(nodes|health|alarms|explain|forwards)"),
        Role.READ,
    ),
    (frozenset({"POST"}), re.compile(r"/api/v1/((nodes/[^/]+/)?drain|rebalance|auth/review)"), Role.OPERATE),
    (frozenset({"GET", "HEAD"}), re.compile(r"/api/v1/(retained|metrics|settings|openapi\.json)"), Role.READ),
    (frozenset({"POST"}), re.compile(r"/api/v1/settings/reload"), Role.OPERATE),
    (frozenset({"GET", "HEAD"}), re.compile(r"/api/v1/(overview|redis)"), Role.READ),
    (frozenset({"POST"}), re.compile(r"/api/v1/log(in|out)"), Role.READ),
    (frozenset({"GET", "HEAD", "POST"}), re.compile(r"/api/v1/bans(/remove)?"), Role.OPERATE),
    (frozenset({"GET", "HEAD"}), re.compile(r"/api/v1/events"), Role.READ),
    (frozenset({"POST"}), re.compile(r"/api/v1/traces"), Role.OPERATE),
    (frozenset({"GET", "HEAD", "DELETE"}), re.compile(r"/api/v1/traces/[^/]+"), Role.OPERATE),
    (frozenset({"GET", "HEAD"}), re.compile(r"/api/v1/(clients|sessions)(/.*)?", re.DOTALL), Role.READ),
    (
        frozenset({"GET", "HEAD"}),
        re.compile(r"/api/v1/(subscriptions|shared|letters|queue)"),
        Role.READ,
    ),
    (frozenset({"DELETE"}), re.compile(r"/api/v1/clients/.*", re.DOTALL), Role.OPERATE),
)
"""Methods, the whole path, and the least role; whatever is not in here needs `admin`."""

TRIES: Final = 10
"""Wrong tokens of an address at once, and"""
TRIES_PER_SECOND: Final = 0.2
ADDRESSES_MAXIMUM: Final = 1024
_TOKEN_BYTES_MAXIMUM: Final = 256
_PATH_SHOWN: Final = 200
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HTTPS_HEADERS: Final = {"Strict-Transport-Security": "max-age=31536000"}

_TOKEN: Final = "moorline.token"

logger = get_logger("moorline.audit")


def needed_role(method: str, path: str) -> Role:
    """The least that a request asks for."""
    for methods, pattern, role in NEEDS:
        if method in methods and pattern.fullmatch(path):
            return role
    return Role.ADMIN


def token_of(scope: Scope) -> Token | None:
    """By which a request came through the door."""
    token = scope.get(_TOKEN)
    return token if isinstance(token, Token) else None


def role_of(scope: Scope) -> Role:
    """Of whoever asks; where no token is needed, that of everybody."""
    token = token_of(scope)
    return token.role if token is not None else Role.ADMIN


class Door:
    """`tokens` None: nobody is asked. `denied` counts what is refused. `tls`: by what the admin addresses
    prove themselves, if they do. `sessions` None: browsers have to show their token each time."""

    def __init__(
        self, tokens: Sequence[Token] | None, denied: Tally, *, has_open_metrics: bool = False,
        tls: ssl.SSLContext | None = None, sessions: Sessions | None = None,
    ) -> None:  # fmt: skip
        self._tokens = tokens
        self._denied = denied
        self.tls = tls
        self.sessions = sessions
        self._open = OPEN | {METRICS} if has_open_metrics else OPEN
        self._tries = Tries()
        self._audit = Audit()
        self._headers = _HEADERS | _HTTPS_HEADERS if tls is not None else _HEADERS

    @property
    def asks(self) -> bool:
        """Whether a token is needed."""
        return self._tokens is not None

    def replace_tokens(self, tokens: Sequence[Token]) -> None:
        """From now on these."""
        self._tokens = tokens

    def around(self, app: ASGIApp) -> ASGIApp:
        """The same application, with this door in front."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._pass(app, scope, receive, send)

        return guarded

    async def _pass(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        status = 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        token, refusal = await self._look(method, path, scope)
        if refusal is not None:
            await refusal(scope, receive, send_on)
            return
        if token is not None:
            scope[WHO] = token.name
            scope[_TOKEN] = token
        try:
            await app(scope, receive, send_on)
        finally:
            if method not in _READING:
                who = token.name if token is not None else None
                logger.info(
                    "admin", extra=_what(scope) | {"event": "admin", "token_name": who, "status": status}
                )

    async def _look(self, method: str, path: str, scope: Scope) -> tuple[Token | None, Response | None]:
        """Whose token it is, and why the request is refused, if it is."""
        is_reading = method in _READING
        if self._tokens is None or (is_reading and (path in self._open or path.startswith(FILES))):
            return None, None
        headers = Headers(scope=scope)
        token = find_token(self._tokens, _given(headers))
        if token is None and "authorization" not in headers and self.sessions is not None:
            try:
                token = await self.sessions.find(headers, self._tokens)
            except StoreError as error:
                return None, _refusal(503, f"no session can be looked at: {error}")
            if token is not None and not is_reading and not is_own_page(headers):
                return None, self._refuse(403, f"a session needs the header {OWN_PAGE}", token, scope)
        if is_reading and path == LOGIN:
            return token, None
        if token is None:
            return None, self._refuse_unknown(scope)
        role = needed_role(method, path)
        if token.role >= role:
            return token, None
        reason = f"the token {token.name} is for {token.role}, this needs {role}"
        return None, self._refuse(403, reason, token, scope, needs=str(role))

    def _refuse(self, status: int, reason: str, token: Token, scope: Scope, **fields: str) -> Response:
        self._denied.add("admin")
        self._audit.denied("admin", token_name=token.name, **fields, **_what(scope))
        return _refusal(status, reason)

    def _refuse_unknown(self, scope: Scope) -> Response:
        self._denied.add("admin")
        if not self._tries.take(_address(scope)):
            return _refusal(429, "too many wrong tokens from this address", **{"Retry-After": "5"})
        self._audit.denied("admin", **_what(scope))
        return _refusal(401, "needs a token: Authorization: Bearer TOKEN", **{"WWW-Authenticate": "Bearer"})


class Tries:
    """Wrong tokens that an address has left, for the addresses of late: a bucket for each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, address: str) -> bool:
        """One; False if there is none left."""
        now = self._clock()
        group = network_of(address)
        bucket = self._buckets.pop(group, None) or TokenBucket(TRIES_PER_SECOND, TRIES, now)
        self._buckets[group] = bucket
        if len(self._buckets) > ADDRESSES_MAXIMUM:
            self._buckets.popitem(last=False)
        return bucket.take_if_there(now)


def _given(headers: Headers) -> bytes:
    """The token of the request; empty if there is none."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    given = text.strip().encode("latin-1")
    return given if scheme.lower() == "bearer" and len(given) <= _TOKEN_BYTES_MAXIMUM else b""


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _what(scope: Scope) -> dict[str, object]:
    """For a record: never the query, which may hold anything."""
    return {"action": f"{scope['method']} {scope['path'][:_PATH_SHOWN]}", "address": _address(scope)}


def _refusal(status: int, reason: str, **headers: str) -> Response:
    return JSONResponse({"error": reason}, status, headers={"Cache-Control": "no-store", **headers})
