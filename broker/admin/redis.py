"""`/api/v1/redis`: how Redis is, and where its memory goes."""

from collections.abc import Sequence
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.asking import control_of
from broker.admin.describe import describe
from broker.admin.exchange import answer
from cluster.control import Desk


def redis_routes(desk: Desk) -> Sequence[Route]:
    """Below `/api/v1`."""

    @describe(
        "cluster",
        "How Redis is, and where its memory goes by kind of key and by prefix: a part measured, the rest"
        " estimated from at most 1,000 keys taken at random. Up to a second old.",
    )
    async def get(_: Request) -> Response:
        control = control_of(desk)
        reports = await control.reporter.reports()
        counts = {
            "sessions": await control.session_count(),
            "retained": await control.retained_count(),
        }
        return answer({"counts": counts, "servers": [asdict(each) for each in reports]})

    return [Route("/redis", get, methods=["GET"])]
