"""`/api/v1/login` and `logout`: a browser changes a token for a session (`sessions.py`).

It shows the token as every request does, so the door has looked at it, and counts wrong ones, before anything
here runs.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from broker.admin.door import Door, token_of
from broker.admin.exchange import answer, error_answer
from broker.auth.admin_tokens import Role
from cluster.store.errors import StoreError


def login_routes(door: Door) -> Sequence[BaseRoute]:
    """Whole paths: they come before those of `make_api`."""

    async def tell(request: Request) -> Response:
        """Who asks, and whether anybody has to say; open to all."""
        token = token_of(request.scope)
        role = token.role if token is not None else Role.ADMIN
        return answer(
            {
                "asks": door.asks,
                "name": token.name if token is not None else None,
                "role": str(role) if token is not None or not door.asks else None,
            }
        )

    async def log_in(request: Request) -> Response:
        token = token_of(request.scope)
        if token is None or door.sessions is None:
            return error_answer(409, "nobody is asked for a token here")
        try:
            cookie = await door.sessions.open(token)
        except StoreError as error:
            return error_answer(503, f"no session can be made: {error}")
        made = answer({"name": token.name, "role": str(token.role)})
        made.headers["Set-Cookie"] = cookie
        return made

    async def log_out(_: Request) -> Response:
        done = answer({})
        if door.sessions is not None:
            done.headers["Set-Cookie"] = door.sessions.close()
        return done

    return [
        Route("/api/v1/login", tell, methods=["GET"]),
        Route("/api/v1/login", log_in, methods=["POST"]),
        Route("/api/v1/logout", log_out, methods=["POST"]),
    ]
