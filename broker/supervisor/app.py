"""What the parent answers on the admin address, for all workers: `/healthz`, `/readyz`, `/metrics`, and the
routes of `/api/v1`, which any process can answer from Redis.
"""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from broker.admin import metrics_response, probe
from broker.supervisor.crew import Crew


def make_app(crew: Crew, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI application."""

    async def healthz(_: Request) -> Response:
        return probe(crew.health.live())

    async def readyz(_: Request) -> Response:
        return probe(await crew.ready())

    async def metrics(_: Request) -> Response:
        return metrics_response(await crew.metrics())

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            *routes,
        ],
    )
