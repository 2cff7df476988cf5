"""What the admin address answers: `/healthz`, `/readyz`, `/metrics`, and the routes of `/api/v1`."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from broker.observability.health import Answer, Health
from broker.observability.metrics import Counters
from broker.observability.page import CONTENT_TYPE, MetricsPage


def make_app(health: Health, counters: Counters, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI application. It needs no lifespan and keeps no state of its own."""
    page = MetricsPage(counters)

    async def healthz(_: Request) -> Response:
        return probe(health.live())

    async def readyz(_: Request) -> Response:
        return probe(health.ready())

    async def metrics(_: Request) -> Response:
        return metrics_response(page.render())

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            *routes,
        ],
    )


def metrics_response(page: bytes) -> Response:
    """A page for Prometheus."""
    return Response(page, media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})


def probe(answer: Answer) -> Response:
    """200, or 503 with the reasons in words."""
    return JSONResponse(
        {"status": "ok"} if answer.ok else {"status": "unavailable", "reasons": list(answer.reasons)},
        status_code=200 if answer.ok else 503,
        headers={"Cache-Control": "no-store"},
    )
