"""`/api/v1/settings/reload`: has nodes read their settings again."""

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


class ReloadBody(Body):
    """`node`: the one that is to do so, by name or incarnation; none: all that are alive."""

    node: str | None = None


def reload_routes(desk: Desk) -> list[Route]:
    """The routes below `/api/v1`."""

    @describe(
        "settings",
        "Has nodes read their settings again: what was applied, what needs a restart, and all mistakes.",
        body=ReloadBody,
    )
    async def reload(request: Request) -> Response:
        body = await read_body(request, ReloadBody)
        control = desk.control
        if control is None:
            raise HTTPException(503, "Redis has not been reached yet")
        nodes = None if body.node is None else [await control.incarnation_of(body.node)]
        answers = await control.questions.ask("reload_settings", {}, nodes, _SECONDS)
        note_change(request, "settings_reloaded")
        found = [{"node": node, **said} for node, said in answers.said.items() if isinstance(said, dict)]
        return answer({"nodes": found, "silent": answers.silent})

    return [Route("/settings/reload", reload, methods=["POST"])]
