"""`/api/v1/auth/review`: for whoever has changed rights where nodes can't see it, in a database, say."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.audit import note_change
from broker.admin.describe import describe
from broker.admin.exchange import Body, answer, read_body
from cluster.control import Desk

_SECONDS: Final = 2.5


def review_routes(desk: Desk) -> list[Route]:
    """The routes below `/api/v1`."""

    @describe("auth", "Asks again what connected clients may do, where nodes can't see a change.", body=Body)
    async def review(request: Request) -> Response:
        await read_body(request, Body)
        if desk.control is None:
            raise HTTPException(503, "Redis has not been reached yet")
        answers = await desk.control.questions.ask("review_rights", {}, timeout_seconds=_SECONDS)
        note_change(request, "rights_reviewed")
        nodes = [
            {"node": node, **counts} for node, counts in answers.said.items() if isinstance(counts, dict)
        ]
        return answer({"nodes": nodes, "silent": answers.silent})

    return [Route("/auth/review", review, methods=["POST"])]
