"""`/api/v1/bans`: who is banned from the cluster."""

from typing import Annotated

from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.audit import address_of, who
from broker.admin.describe import describe
from broker.admin.exchange import Body, answer, read_body, time_text
from broker.auth.ban import REASON_CHARACTERS, WHO_CHARACTERS, Ban, Target, check_text, target_of
from cluster.bans import BanBook, TooManyBans
from cluster.control import Desk

_LONGEST_SECONDS = 100 * 366 * 86_400


class TargetBody(Body):
    """Who. `by` is who asks for it, where the API does not know that by itself."""

    kind: str
    value: str
    by: str = ""


class BanBody(TargetBody):
    """`seconds`: how long it is to hold; null: for ever."""

    reason: str = ""
    seconds: Annotated[float | None, Field(gt=0, le=_LONGEST_SECONDS)] = None


def ban_routes(desk: Desk) -> list[Route]:
    """The routes below `/api/v1`."""
    api = _Bans(desk)
    return [
        Route("/bans", api.list, methods=["GET"]),
        Route("/bans", api.add, methods=["POST"]),
        Route("/bans/remove", api.remove, methods=["POST"]),
    ]


class _Bans:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe(
        "bans",
        "Who is banned, a page of some hundred.",
        query={"cursor": "What `next` of the page before says."},
    )
    async def list(self, request: Request) -> Response:
        """A page; `next` is null after the last one."""
        cursor = request.query_params.get("cursor", "0")
        if not cursor.isascii() or not cursor.isdecimal() or int(cursor) >= 1 << 64:
            raise HTTPException(422, "cursor: what `next` of the page before says")
        bans, following = await self._book().page(int(cursor))
        return answer({"bans": [_shown(ban) for ban in bans], "next": str(following) if following else None})

    @describe("bans", "Bans somebody, on all nodes, within a second.", body=BanBody, status=201)
    async def add(self, request: Request) -> Response:
        body = await read_body(request, BanBody)
        target = _target(body)
        reason = _checked("reason", body.reason, REASON_CHARACTERS)
        try:
            added = await self._book().add(target, reason=reason, by=_by(request, body), seconds=body.seconds)
        except TooManyBans as error:
            raise HTTPException(409, str(error)) from None
        assert added.ban is not None
        return answer(_shown(added.ban), 201)

    @describe("bans", "Lets somebody in again.", body=TargetBody)
    async def remove(self, request: Request) -> Response:
        body = await read_body(request, TargetBody)
        target = _target(body)
        if not await self._book().remove(target, _by(request, body)):
            raise HTTPException(404, f"there is no ban of {target.kind} {target.value}")
        return answer({"kind": target.kind, "value": target.value})

    def _book(self) -> BanBook:
        if self._desk.control is None:
            raise HTTPException(503, "Redis has not been reached yet")
        return self._desk.control.bans


def _target(body: TargetBody) -> Target:
    try:
        return target_of(body.kind, body.value)
    except ValueError as error:
        raise HTTPException(422, f"{body.kind}: {error}") from None


def _by(request: Request, body: TargetBody) -> str:
    said = _checked("by", body.by, WHO_CHARACTERS)
    return who(request) or said or f"somebody at {address_of(request)}"


def _checked(name: str, text: str, most: int) -> str:
    try:
        return check_text(text, most)
    except ValueError as error:
        raise HTTPException(422, f"{name}: {error}") from None


def _shown(ban: Ban) -> dict[str, object]:
    return {
        "kind": ban.target.kind,
        "value": ban.target.value,
        "reason": ban.reason,
        "by": ban.by,
        "automatic": ban.is_automatic,
        "since": time_text(ban.since_ms),
        "until": time_text(ban.until_ms) if ban.until_ms else None,
    }
