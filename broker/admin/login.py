"""`/api/v1/login` and `logout`: a browser changes a token for a session (`sessions.py`).

It shows the token as every request does, so the door has looked at it, and counts wrong ones, before anything
here runs.
"""

from collections.abc import Sequence

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.describe import describe
from broker.admin.door import Door, token_of
from broker.admin.exchange import answer, error_answer
from broker.admin.openapi import BASE
from broker.auth.admin_tokens import Role
from broker.observability.metrics import Tally
from cluster.store.errors import StoreError

_COOKIE = {"Set-Cookie": "The session, for eight hours; a later request with it needs no token."}


class WhoAsks(BaseModel):
    """`asks`: whether a token is needed here. `name` and `role`: of the token that was shown, or of the
    session's; null: there is none. Where no token is needed, `role` is what everybody may do."""

    asks: bool
    name: str | None
    role: str | None


class LoggedIn(BaseModel):
    """The name of the token, and its role."""

    name: str
    role: str


def login_routes(door: Door) -> Sequence[Route]:
    """Whole paths: they come before those of `make_api`."""
    login = _Login(door)
    return [
        Route(f"{BASE}/login", login.tell, methods=["GET"]),
        Route(f"{BASE}/login", login.log_in, methods=["POST"]),
        Route(f"{BASE}/logout", login.log_out, methods=["POST"]),
    ]


def outline() -> Sequence[Route]:
    """The same as paths below `/api/v1`, for the OpenAPI document: nobody is served by them."""
    return [
        Route(route.path.removeprefix(BASE), route.endpoint, methods=[*(route.methods or ())])
        for route in login_routes(Door(None, Tally()))
    ]


class _Login:
    def __init__(self, door: Door) -> None:
        self._door = door

    @describe("login", "Who asks, and whether anybody has to say.", answer=WhoAsks, is_open=True)
    async def tell(self, request: Request) -> Response:
        token = token_of(request.scope)
        role = token.role if token is not None else Role.ADMIN
        return answer(
            {
                "asks": self._door.asks,
                "name": token.name if token is not None else None,
                "role": str(role) if token is not None or not self._door.asks else None,
            }
        )

    @describe(
        "login",
        "Makes a session for whoever shows a token, as the dashboard does: a cookie that counts in its place."
        " What changes something needs the header `X-Moorline-Page` beside it.",
        answer=LoggedIn,
        headers=_COOKIE,
    )
    async def log_in(self, request: Request) -> Response:
        token = token_of(request.scope)
        if token is None or self._door.sessions is None:
            return error_answer(409, "nobody is asked for a token here")
        try:
            cookie = await self._door.sessions.open(token)
        except StoreError as error:
            return error_answer(503, f"no session can be made: {error}")
        made = answer({"name": token.name, "role": str(token.role)})
        made.headers["Set-Cookie"] = cookie
        return made

    @describe(
        "login",
        "Has the browser forget the session.",
        headers={"Set-Cookie": "None, from now on."},
    )
    async def log_out(self, _: Request) -> Response:
        done = answer({})
        if self._door.sessions is not None:
            done.headers["Set-Cookie"] = self._door.sessions.close()
        return done
