"""`/api/v1`: who may ask, what is answered, and how it says no. Redis is played by the test."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import anyio
import httpx
import pytest

from broker.admin import api, exchange, make_api, serve_admin
from broker.observability.health import Health
from broker.observability.metrics import Counters
from broker.settings import Address
from cluster import commands
from cluster.commands import Drain, Order, Shed
from cluster.control import Control, Desk
from cluster.drain import Departure
from cluster.node_info import NodeInfo
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError, StoreUnavailable
from cluster.store.inbox_records import Command, unpack
from cluster.store.membership import DEAD_TICKS
from cluster.store.store import Store
from tests.tools import NO_TLS

ANY_PORT = Address("127.0.0.1", 0)
JSON = {"Content-Type": "application/json"}
STARTED_MS = 1_700_000_000_000

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Redis:
    """Answers for the membership and the inboxes of a cluster whose nodes the test sets."""

    def __init__(self) -> None:
        self.rows: list[object] = []
        self.sent: list[tuple[str, Order]] = []
        self.send_answer = 1
        self.trouble: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint

    def add(
        self,
        incarnation: str,
        sessions: int = 0,
        *,
        dead: bool = False,
        silent: bool = False,
        draining: bool = False,
    ) -> None:
        """A member."""
        info = NodeInfo(
            incarnation.partition(".")[0], "1.0", ["127.0.0.1:1883"], "127.0.0.1:8080", sessions + 1, sessions
        )
        info.started_ms = STARTED_MS
        info.zone = "eu-1a"
        info.draining = draining
        self.rows += [
            incarnation.encode(), 100 - DEAD_TICKS if dead else 100, b"" if silent else info.pack()
        ]  # fmt: skip

    async def call(self, requests: Sequence[Request], *, function: str) -> list[Reply]:
        """As the store's."""
        assert function == "free"
        await self.trouble()
        ((operation, *arguments),) = requests
        if operation == "members":
            return [[100, *self.rows]]
        assert operation == "send"
        incarnation, record = arguments
        command = unpack(cast(bytes, record))
        assert isinstance(command, Command)
        commands.handler(*[lambda order: self.sent.append((cast(str, incarnation), order))] * 3)(command)
        return [self.send_answer]


class Api:
    """The admin address of node `a`, and what is behind it."""

    def __init__(self, client: httpx.AsyncClient, redis: Redis, health: Health, own: list[Order]) -> None:
        self.client = client
        self.redis = redis
        self.health = health
        self.own = own

    async def get(self, path: str) -> httpx.Response:
        """Below `/api/v1`."""
        return await self.client.get(f"/api/v1{path}")

    async def post(self, path: str, content: str = "{}", **headers: str) -> httpx.Response:
        """JSON, unless the headers say something else."""
        return await self.client.post(f"/api/v1{path}", content=content, headers=JSON | headers)


@asynccontextmanager
async def serving(address: Address = ANY_PORT, *, is_reached: bool = True) -> AsyncIterator[Api]:
    health, counters, desk, redis = Health(), Counters("a", "1.0"), Desk(Departure(), ["a"]), Redis()
    health.started()
    own: list[Order] = []
    if is_reached:
        health.redis_back()
        desk.control = Control(
            cast(Store, redis), "a.1", commands.handler(own.append, own.append, own.append)
        )
    async with anyio.create_task_group() as tasks:
        mount = make_api(health, counters, desk, address)
        bound: Address = await tasks.start(serve_admin, address, health, counters, [mount])
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{bound.port}", trust_env=False, verify=NO_TLS
        ) as client:
            yield Api(client, redis, health, own)
        tasks.cancel_scope.cancel()


def error_of(response: httpx.Response, status: int) -> str:
    """Why it says no; in JSON, always."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"]
    return str(body["error"])


# Who may ask


async def test_others_than_this_machine_get_probes_and_no_api() -> None:
    async with serving(Address("0.0.0.0", 0)) as on:
        for response in [await on.get("/nodes"), await on.post("/nodes/a.1/drain"), await on.get("/no")]:
            assert "loopback address only" in error_of(response, 403)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await on.client.get(path)).status_code == 200
    assert on.own == []


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1:8080", "[fd00::1]", "", "["],
)
async def test_a_name_that_was_made_to_lead_here_is_refused(host: str) -> None:
    """A page of that name may otherwise do what it wants (DNS rebinding)."""
    async with serving() as on:
        assert "loopback hosts only" in error_of(await on.post("/nodes/a.1/drain", Host=host), 403)
        response = await on.client.get("/api/v1/nodes", headers={"Host": host})
        assert "loopback hosts only" in error_of(response, 403)
    assert on.own == []


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "127.0.0.2", "localhost", "LocalHost:9000", "[::1]:8080"])
async def test_hosts_of_this_machine(host: str) -> None:
    async with serving() as on:
        assert (await on.client.get("/api/v1/nodes", headers={"Host": host})).status_code == 200


async def test_a_page_can_not_post_what_it_may_send_unasked() -> None:
    """Forms and simple requests have other content types, and nobody is allowed more [fetch: CORS]."""
    async with serving() as on:
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ):
            response = await on.post("/nodes/a.1/drain", **{"Content-Type": kind})
            assert "application/json" in error_of(response, 415)
        preflight = await on.client.options("/api/v1/nodes/a.1/drain", headers={"Origin": "http://x"})
        error_of(preflight, 405)
        assert "access-control-allow-origin" not in preflight.headers
        assert on.own == []
        kind = "Application/JSON; charset=utf-8"
        assert (await on.post("/nodes/a.1/drain", **{"Content-Type": kind})).status_code == 202
    assert on.own == [Drain()]


# What is answered


async def test_nodes() -> None:
    async with serving() as on:
        on.redis.add("b.2", 7, dead=True)
        on.redis.add("a.1", 3)
        on.redis.add("c.3", silent=True)
        response = await on.get("/nodes")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    a, b, c = response.json()["nodes"]
    assert a == {
        "name": "a",
        "incarnation": "a.1",
        "alive": True,
        "version": "1.0",
        "listen": ["127.0.0.1:1883"],
        "admin": "127.0.0.1:8080",
        "connections": 4,
        "sessions": 3,
        "started": "2023-11-14T22:13:20Z",
        "draining": False,
        "kubernetes_node": None,
        "zone": "eu-1a",
    }
    assert (b["name"], b["alive"], b["sessions"]) == ("b", False, 7)
    assert (c["name"], c["alive"], c["sessions"], c["started"]) == ("c", True, None, None)


async def test_health_of_node_and_cluster() -> None:
    async with serving() as on:
        on.redis.add("a.1", 3)
        on.redis.add("b.2", 4)
        well = await on.get("/health")
        on.redis.add("b.1", 5, dead=True)
        on.health.drain()
        ill = (await on.get("/health")).json()
    assert (well.status_code, well.json()) == (
        200,
        {
            "status": "ok",
            "problems": [],
            "node": {"name": "a", "incarnation": "a.1", "version": "1.0", "ready": True},
            "redis": "ok",
            "cluster": {"alive": 2, "draining": 0, "dead": 0, "sessions": 7},
        },
    )
    assert (ill["status"], ill["node"]["ready"]) == ("degraded", False)
    assert ill["problems"] == ["draining", "node b.1 is dead, not reaped yet"]
    assert ill["cluster"] == {"alive": 2, "draining": 0, "dead": 1, "sessions": 7}


async def test_health_without_redis() -> None:
    async with serving() as on:
        on.redis.trouble = unavailable
        away = (await on.get("/health")).json()
        on.health.redis_away("connection refused")
        known = (await on.get("/health")).json()
    async with serving(is_reached=False) as on:
        never = await on.get("/health")
    assert (away["status"], away["redis"], away["cluster"]) == ("degraded", "away", None)
    assert away["problems"] == ["redis: no route"]
    assert known["problems"] == ["redis: connection refused"]
    assert (never.status_code, never.json()["problems"]) == (200, ["redis: not reached yet"])
    assert never.json()["node"]["incarnation"] is None


async def test_drain() -> None:
    async with serving() as on:
        on.redis.add("a.1")
        on.redis.add("b.2")
        own = await on.post("/nodes/a/drain", "")
        other = await on.post("/nodes/b/drain", '{"moved": true}')
    assert (own.status_code, own.json()) == (202, {"incarnation": "a.1", "is_this_node": True})
    assert (other.status_code, other.json()) == (202, {"incarnation": "b.2", "is_this_node": False})
    assert on.own == [Drain()]
    assert on.redis.sent == [("b.2", Drain(moved=True))]


async def test_rebalance() -> None:
    async with serving() as on:
        on.redis.add("a.1", 10)
        on.redis.add("b.2", 10)
        on.redis.add("c.3", 1)
        plan = await on.post("/rebalance", '{"dry_run": true}')
        assert not on.own
        assert not on.redis.sent
        done = await on.post("/rebalance", '{"per_second": 3}')
        assert (await on.post("/rebalance", '{"tolerance": 0.5}')).json()["nodes"][0]["shed"] == 0
    assert (plan.status_code, done.status_code) == (200, 202)
    assert plan.json() == {
        "dry_run": True,
        "mean": 7.0,
        "nodes": [
            {"name": "a", "incarnation": "a.1", "sessions": 10, "shed": 3, "problem": None},
            {"name": "b", "incarnation": "b.2", "sessions": 10, "shed": 3, "problem": None},
            {"name": "c", "incarnation": "c.3", "sessions": 1, "shed": 0, "problem": None},
        ],
    }
    assert done.json() == plan.json() | {"dry_run": False}
    assert on.own == [Shed(7, 3.0)]
    assert on.redis.sent == [("b.2", Shed(7, 3.0))]


# How it says no


async def test_what_is_not_there() -> None:
    async with serving() as on:
        on.redis.add("a.1")
        assert error_of(await on.get("/no"), 404) == "Not Found"
        assert error_of(await on.post("/nodes/b/drain"), 404) == "there is no node b; there are: a"
        for response in [await on.get("/nodes/a/drain"), await on.get("/rebalance")]:
            assert error_of(response, 405) == "Method Not Allowed"
            assert response.headers["allow"] == "POST"
        error_of(await on.post("/nodes"), 405)


async def test_nodes_that_can_not_be_told() -> None:
    async with serving() as on:
        for incarnation in ("twin.1", "twin.2", "b.1"):
            on.redis.add(incarnation)
        on.redis.add("c.1", dead=True)
        assert "twin.1, twin.2" in error_of(await on.post("/nodes/twin/drain"), 409)
        assert "is dead" in error_of(await on.post("/nodes/c/drain"), 409)
        on.redis.send_answer = 0
        assert "about to leave" in error_of(await on.post("/nodes/b/drain"), 409)
        on.redis.send_answer = -1
        assert "does not read" in error_of(await on.post("/nodes/b/drain"), 503)


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/nodes/a/drain", "no JSON", "Invalid JSON"),
        ("/nodes/a/drain", "[]", "should be an object"),
        ("/nodes/a/drain", '{"moved": 1}', "moved: Input should be a valid boolean"),
        ("/nodes/a/drain", '{"movde": true}', "movde: Extra inputs are not permitted"),
        ("/rebalance", '{"tolerance": -0.1}', "tolerance: Input should be greater than or equal to 0"),
        ("/rebalance", '{"tolerance": NaN}', "tolerance: "),
        (
            "/rebalance",
            '{"per_second": 0, "dry_run": "x"}',
            "per_second: Input should be greater than 0; dry_run: ",
        ),
    ],
)
async def test_bodies_that_make_no_sense(path: str, body: str, reason: str) -> None:
    async with serving() as on:
        on.redis.add("a.1", 10)
        on.redis.add("b.1")
        assert reason in error_of(await on.post(path, body), 422)
    assert on.own == []


async def test_bodies_are_bounded() -> None:
    async with serving() as on:
        error_of(await on.post("/rebalance", " " * (exchange.BODY_BYTES + 1)), 413)
        assert (await on.post("/rebalance", "{}".ljust(exchange.BODY_BYTES))).status_code == 202


async def unavailable() -> None:
    """Redis is not there."""
    await anyio.lowlevel.checkpoint()
    raise StoreUnavailable("no route")


async def damaged() -> None:
    """Redis fails with the request."""
    await anyio.lowlevel.checkpoint()
    raise ItemError("WRONGTYPE")


async def test_redis_is_away() -> None:
    """The own node can still be drained, by its incarnation."""
    async with serving() as on:
        for trouble, reason in ((unavailable, "no route"), (damaged, "WRONGTYPE")):
            on.redis.trouble = trouble
            for response in [
                await on.get("/nodes"),
                await on.post("/rebalance"),
                await on.post("/nodes/a/drain"),
            ]:
                assert reason in error_of(response, 503)
        assert (await on.post("/nodes/a.1/drain")).status_code == 202
        assert on.own == [Drain()]
    async with serving(is_reached=False) as on:
        assert "not been reached" in error_of(await on.get("/nodes"), 503)


async def test_slow_answers_are_bounded_in_time_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leave places for the probes."""
    monkeypatch.setattr(api, "REQUEST_SECONDS", 0.5)
    async with serving() as on:
        on.redis.trouble = anyio.sleep_forever
        statuses: list[str] = []

        async def ask() -> None:
            statuses.append(error_of(await on.get("/nodes"), 503))

        async with anyio.create_task_group() as tasks:
            for _ in range(api.REQUESTS_AT_A_TIME + 3):
                tasks.start_soon(ask)
            assert (await on.client.get("/healthz")).status_code == 200
        assert sorted(set(statuses)) == [
            "not done within 0.5 s: Redis does not answer",
            "too many requests at a time",
        ]
        assert statuses.count("too many requests at a time") == 3
        assert "redis: no answer" in (await on.get("/health")).json()["problems"]
        on.redis.trouble = anyio.lowlevel.checkpoint
        assert (await on.get("/nodes")).status_code == 200


async def test_who_sends_its_body_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "REQUEST_SECONDS", 0.2)
    async with serving() as on, await anyio.connect_tcp("127.0.0.1", on.client.base_url.port or 0) as stream:
        await stream.send(
            b"POST /api/v1/rebalance HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
            b"Content-Type: application/json\r\n\r\n{"
        )
        with anyio.fail_after(5):
            assert (await stream.receive()).startswith(b"HTTP/1.1 503 ")


async def test_a_request_without_a_host_is_refused() -> None:
    async with serving() as on:
        with socket.create_connection(("127.0.0.1", on.client.base_url.port or 0)) as raw:
            raw.setblocking(False)
            raw.send(b"GET /api/v1/nodes HTTP/1.0\r\n\r\n")
            with anyio.fail_after(5):
                await anyio.wait_readable(raw)
            assert raw.recv(1000).startswith(b"HTTP/1.1 403 ")
