"""`/api/v1`: the cluster as JSON, and what may be asked of it. Every node answers for all of them.

Where tokens are asked for (`door.py`), it answers on every admin address. Else on loopback addresses only;
and a browser on this machine reaches those too, and may be showing anybody's page: so a request must name a
loopback host (a page can make its own name lead here, but not send another one), and what changes something
must come as `application/json` (which a page of another origin may not send unless it is allowed to, and
nobody allows it here).

Bounded: a few requests at a time, each for some seconds, with a small body. Errors are `{"error": why}`.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import anyio
from pydantic import Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.admin.alarms import alarm_routes
from broker.admin.bans import ban_routes
from broker.admin.clients import client_routes
from broker.admin.describe import describe
from broker.admin.exchange import Body, answer, error_answer, read_body, time_text
from broker.admin.explain import explain_routes
from broker.admin.forwards import forward_routes
from broker.admin.login import outline
from broker.admin.moving import moving_routes
from broker.admin.openapi import OpenApi
from broker.admin.overview import overview_routes
from broker.admin.publishing import publish_routes
from broker.admin.redis import redis_routes
from broker.admin.reloading import reload_routes
from broker.admin.retained import retained_routes
from broker.admin.reviewing import review_routes
from broker.admin.snapshot import snapshot_routes
from broker.admin.traces import trace_routes
from broker.admin.users import on_users_error, user_routes
from broker.admin.waiting import waiting_routes
from broker.observability.forwards import WAITING
from broker.observability.health import Health
from broker.observability.metrics import Counters
from broker.settings import Address, Settings
from cluster.control import (
    TOLERANCE,
    AmbiguousNode,
    Control,
    ControlError,
    Desk,
    InboxFull,
    NodeNotThere,
    NodeState,
    Plan,
    UnknownNode,
)
from cluster.store.errors import RedisFull, StoreError
from cluster.users import UsersError

REQUESTS_AT_A_TIME = 8
"""Further ones get 503, so that waiting for Redis leaves places for the probes."""
REQUEST_SECONDS = 3.0
"""How long one may take, then 503: Redis, or whoever asks, is too slow."""
STREAMS_AT_A_TIME = 16
"""Answers that go on until whoever asked has gone."""
_STREAMS: Final = re.compile(r"/api/v1/(events|traces/[^/]+)")
"""Paths of what goes on, asked for by GET; it ends by itself when nobody wants it any more."""

_STATUS: dict[type[ControlError], int] = {
    UnknownNode: 404,
    AmbiguousNode: 409,
    NodeNotThere: 409,
    InboxFull: 503,
}

Endpoint = Callable[[Request], Awaitable[Response]]


class DrainBody(Body):
    """`moved`: tell the clients not to come back (0x9D)."""

    moved: bool = False


class RebalanceBody(Body):
    """`tolerance`: how far above the mean a node may be, 0.1 for a tenth. `per_second`: clients that each
    node sheds per second, by default what it is set to. `dry_run`: only show the plan."""

    tolerance: Annotated[float, Field(ge=0, le=100)] = TOLERANCE
    per_second: Annotated[float | None, Field(gt=0, le=1_000_000)] = None
    dry_run: bool = False


def make_api(
    health: Health,
    counters: Counters,
    desk: Desk,
    address: Address,
    scram_iterations: int | None = None,
    *,
    asks: bool = False,
    settings: Callable[[], Settings] = Settings,
) -> Mount:
    """The routes below `/api/v1`, on the admin address `address`. `asks`: only who has a token gets here.
    Otherwise see `api_routes`."""
    app = Starlette(
        routes=api_routes(health, counters, desk, scram_iterations, settings),
        exception_handlers={
            HTTPException: _on_http_error,
            ControlError: _on_control_error,
            StoreError: _on_store_error,
            UsersError: on_users_error,
        },
    )
    return Mount("/api/v1", app=_Guard(app, None if asks else address))


def api_routes(
    health: Health,
    counters: Counters,
    desk: Desk,
    scram_iterations: int | None = None,
    settings: Callable[[], Settings] = Settings,
) -> list[BaseRoute]:
    """All below `/api/v1`. `scram_iterations`: of the keys that users get with a password; None: they get
    none. `settings`: those in force."""
    api = _Api(health, counters, desk)
    routes: list[BaseRoute] = [
        Route("/nodes", api.nodes),
        Route("/health", api.health),
        Route("/drain", api.drain_own, methods=["POST"]),
        Route("/nodes/{name}/drain", api.drain, methods=["POST"]),
        Route("/rebalance", api.rebalance, methods=["POST"]),
        *user_routes(desk, scram_iterations),
        *ban_routes(desk),
        *forward_routes(desk),
        *review_routes(desk),
        *retained_routes(desk),
        *publish_routes(desk),
        *snapshot_routes(desk, counters, settings),
        *trace_routes(desk),
        *reload_routes(desk),
        *explain_routes(desk),
        *overview_routes(health, counters, desk),
        *alarm_routes(desk),
        *client_routes(desk),
        *waiting_routes(desk),
        *moving_routes(desk, settings),
        *redis_routes(desk),
    ]
    return [*routes, OpenApi([*routes, *outline()], counters.version).route]


class _Guard:
    """Lets only those through who may ask, and not too many at a time. `address` None: it was looked at who
    may."""

    def __init__(self, app: ASGIApp, address: Address | None) -> None:
        self._app = app
        self._address = address
        self._under_way = 0
        self._streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Request(scope))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if _goes_on(scope):
            self._streams += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._streams -= 1
            return
        self._under_way += 1
        try:
            await self._answer_in_time(scope, receive, send)
        finally:
            self._under_way -= 1

    async def _answer_in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        with anyio.move_on_after(REQUEST_SECONDS):
            await self._app(scope, receive, send_on)
        if not has_begun:
            answer = error_answer(503, f"not done within {REQUEST_SECONDS:g} s: Redis does not answer")
            await answer(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if self._address is not None and not self._address.is_loopback:
            return error_answer(
                403,
                f"the API asks for no token, and others can reach the admin address {self._address}: it"
                " answers on a loopback address only, which node.admin can name beside it; or everywhere with"
                " admin.tokens_file",
            )
        if self._address is not None and not _names_loopback(request.headers.get("host", "")):
            return error_answer(403, "the API answers to loopback hosts only (127.0.0.1, [::1], localhost)")
        if _goes_on(request.scope):
            full = self._streams >= STREAMS_AT_A_TIME
            return error_answer(503, "too many streams at a time") if full else None
        if self._under_way >= REQUESTS_AT_A_TIME:
            return error_answer(503, "too many requests at a time")
        return None


class _Api:
    def __init__(self, health: Health, counters: Counters, desk: Desk) -> None:
        self._health = health
        self._counters = counters
        self._desk = desk

    @describe("cluster", "The nodes of the cluster, and how they are.")
    async def nodes(self, _: Request) -> Response:
        nodes = await self._control().nodes()
        return answer({"nodes": [_node(node) for node in nodes]})

    @describe("cluster", "How the node and the cluster are, in words.")
    async def health(self, _: Request) -> Response:
        """200 in any case: whoever wants a status takes `/readyz`."""
        ready = self._health.ready()
        control = self._desk.control
        problems = list(ready.reasons)
        problems += [
            f"forward {each.name} waits: {each.last_error}"
            for each in self._counters.forwards
            if each.state == WAITING
        ]
        cluster: dict[str, object] | None = None
        if control is not None:
            try:
                with anyio.fail_after(REQUEST_SECONDS / 2):
                    nodes = await control.nodes()
            except (StoreError, TimeoutError) as error:
                if "redis" not in "".join(problems):
                    problems.append(f"redis: {str(error) or 'no answer'}")
            else:
                dead = [node.incarnation for node in nodes if not node.is_alive]
                problems += [f"node {incarnation} is dead, not reaped yet" for incarnation in dead]
                cluster = _counts(nodes)
        return answer(
            {
                "status": "degraded" if problems else "ok",
                "problems": problems,
                "node": {
                    "name": self._counters.node_name,
                    "incarnation": control.incarnation if control is not None else None,
                    "version": self._counters.version,
                    "ready": ready.ok,
                },
                "redis": "ok" if cluster is not None else "away",
                "cluster": cluster,
            }
        )

    @describe("cluster", "Sends the clients of a node away, and ends it.", body=DrainBody, status=202)
    async def drain(self, request: Request) -> Response:
        body = await read_body(request, DrainBody)
        control = self._control()
        incarnation = await control.drain(request.path_params["name"], moved=body.moved)
        is_this_node = incarnation == control.incarnation
        return answer({"incarnation": incarnation, "is_this_node": is_this_node}, 202)

    @describe(
        "cluster",
        "The same with the process that answers: a node, or the parent of workers.",
        body=DrainBody,
        status=202,
    )
    async def drain_own(self, request: Request) -> Response:
        body = await read_body(request, DrainBody)
        self._desk.drain(moved=body.moved)
        return answer({"nodes": list(self._desk.nodes)}, 202)

    @describe("cluster", "Sends clients away from nodes that have too many.", body=RebalanceBody, status=202)
    async def rebalance(self, request: Request) -> Response:
        body = await read_body(request, RebalanceBody)
        control = self._control()
        if body.dry_run:
            return answer(_plan(await control.plan(body.tolerance), is_dry_run=True))
        plan = await control.rebalance(body.tolerance, clients_per_second=body.per_second)
        return answer(_plan(plan, is_dry_run=False), 202)

    def _control(self) -> Control:
        if self._desk.control is None:
            raise HTTPException(503, "Redis has not been reached yet")
        return self._desk.control


def _goes_on(scope: Scope) -> bool:
    return scope["method"] == "GET" and _STREAMS.fullmatch(scope["path"]) is not None


def _node(node: NodeState) -> dict[str, object]:
    info = node.info
    answer: dict[str, object] = {
        "name": node.name,
        "incarnation": node.incarnation,
        "alive": node.is_alive,
        "version": None,
        "listen": None,
        "admin": None,
        "connections": None,
        "sessions": None,
        "started": None,
        "draining": None,
        "kubernetes_node": None,
        "zone": None,
    }
    if info is not None:
        answer |= {
            "version": info.version,
            "listen": info.listen,
            "admin": info.admin,
            "connections": info.connections,
            "sessions": info.sessions,
            "started": time_text(info.started_ms) if info.started_ms else None,
            "draining": info.draining,
            "kubernetes_node": info.kubernetes_node or None,
            "zone": info.zone or None,
        }
    return answer


def _counts(nodes: list[NodeState]) -> dict[str, object]:
    infos = [node.info for node in nodes if node.is_alive and node.info is not None]
    return {
        "alive": sum(node.is_alive for node in nodes),
        "draining": sum(info.draining for info in infos),
        "dead": sum(not node.is_alive for node in nodes),
        "sessions": sum(info.sessions for info in infos),
    }


def _plan(plan: Plan, *, is_dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": is_dry_run,
        "mean": round(plan.mean, 1),
        "nodes": [
            {
                "name": share.node.name,
                "incarnation": share.node.incarnation,
                "sessions": share.clients,
                "shed": share.shed,
                "problem": share.problem or None,
            }
            for share in plan.shares
        ],
    }


def _names_loopback(host: str) -> bool:
    """Of a Host header: `127.0.0.1:8080`, `[::1]`, `localhost`."""
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    else:
        name = host.partition(":")[0]
    return Address(name.lower(), 0).is_loopback


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = error_answer(error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


async def _on_control_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ControlError)
    return error_answer(_STATUS[type(error)], str(error))


async def _on_store_error(_: Request, error: Exception) -> Response:
    what = "Redis is full" if isinstance(error, RedisFull) else "Redis is away or refuses"
    return error_answer(503, f"{what}: {error}")
