"""Log-in: a token is changed for a cookie, which counts on every node, for a while, and for no other page."""

import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from typing import cast

import anyio
import httpx
import pytest

from broker.admin import front_routes, make_api, serve_admin
from broker.admin.door import TRIES, Door
from broker.admin.sessions import OWN_PAGE, SESSION_SECONDS, Sessions
from broker.auth.admin_tokens import Role, Token, make_token
from broker.observability.health import Health
from broker.observability.metrics import Counters, Tally
from broker.settings import Address
from cluster.control import Control, Desk
from cluster.drain import Departure
from cluster.store.call import Reply, Request
from cluster.store.errors import StoreUnavailable
from cluster.store.store import Store
from tests.tools import NO_TLS

pytestmark = pytest.mark.anyio

TEXTS: dict[Role, str] = {}
TOKENS: list[Token] = []
for _role in Role:
    TEXTS[_role], _token = make_token(f"some.{_role}@home", _role)
    TOKENS.append(_token)
PAGE = {OWN_PAGE: "1"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Redis:
    """Has a secret, and no nodes."""

    def __init__(self) -> None:
        self.secret = b"s" * 32
        self.is_away = False
        self.asked = 0

    async def call(self, requests: Sequence[Request], *, function: str) -> list[Reply]:
        """As the store's."""
        if self.is_away:
            raise StoreUnavailable("away")
        ((operation, *_),) = requests
        if operation == "members":
            return [[1]]
        assert (operation, function) == ("users_secret", "free")
        self.asked += 1
        return [self.secret]


def desk_at(redis: Redis | None) -> Desk:
    desk = Desk(Departure(), ["a"])
    if redis is not None:
        desk.control = Control(cast(Store, redis), "a.1")
    return desk


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def node(
    redis: Redis | None, tokens: Sequence[Token] | None = TOKENS, clock: Clock | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, Door]]:
    """The admin address of a node that others can reach."""
    health, counters, desk = Health(), Counters("a", "1.0"), desk_at(redis)
    address = Address("0.0.0.0", 0) if tokens is not None else Address("127.0.0.1", 0)
    sessions = Sessions(desk, is_secure=False, clock=clock or Clock())
    door = Door(tokens, Tally(), sessions=sessions)
    async with anyio.create_task_group() as tasks:
        api = make_api(health, counters, desk, address, asks=door.asks)
        routes = [*front_routes(door), api]
        bound: Address = await tasks.start(serve_admin, address, health, counters, routes, door)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{bound.port}", trust_env=False, verify=NO_TLS
        ) as client:
            yield client, door
        tasks.cancel_scope.cancel()


async def log_in(client: httpx.AsyncClient, role: Role = Role.OPERATE) -> httpx.Response:
    return await client.post("/api/v1/login", headers={"Authorization": f"Bearer {TEXTS[role]}"})


async def drain(client: httpx.AsyncClient, **headers: str) -> int:
    """The status. What it asks for waits for somebody who looks."""
    answer = await client.post("/api/v1/drain", content="{}", headers=JSON | headers)
    return answer.status_code


async def test_a_token_is_changed_for_a_cookie() -> None:
    async with node(Redis()) as (client, _):
        assert (await client.get("/api/v1/login")).json() == {"asks": True, "name": None, "role": None}
        answer = await log_in(client)
        assert answer.json() == {"name": "some.operate@home", "role": "operate"}
        (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
        assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/", True, "Strict")
        assert (cookie["max-age"], cookie["secure"]) == (str(SESSION_SECONDS), "")
        assert TEXTS[Role.OPERATE] not in answer.headers["set-cookie"]
        assert (await client.get("/api/v1/login")).json()["role"] == "operate"
        assert (await client.get("/api/v1/health")).is_success
        assert (await client.get("/api/v1/users")).status_code == 403


async def test_it_counts_on_every_node_and_names_whoever_it_is() -> None:
    redis = Redis()
    async with node(redis) as (one, _), node(redis) as (two, _):
        await log_in(one)
        two.cookies = one.cookies
        assert (await two.get("/api/v1/login")).json()["name"] == "some.operate@home"
        assert (await two.get("/api/v1/health")).is_success


async def test_other_pages_change_nothing() -> None:
    async with node(Redis()) as (client, door):
        await log_in(client)
        own = str(client.base_url).rstrip("/")
        assert await drain(client) == 403
        assert await drain(client, Origin=own) == 403
        assert await drain(client, **PAGE, Origin="http://127.0.0.1:1") == 403
        assert await drain(client, **PAGE, Origin="null") == 403
        assert await drain(client, **PAGE, Origin=own.upper()) == 202
        assert await drain(client, **PAGE) == 202
        # A token does not come by itself.
        assert await drain(client, Authorization=f"Bearer {TEXTS[Role.OPERATE]}") == 202
        # And nobody falls back to the cookie.
        assert await drain(client, **PAGE, Authorization="Bearer wrong") == 401
    assert door.sessions is not None


async def test_it_ends_with_its_time_and_with_its_token() -> None:
    clock = Clock()
    async with node(Redis(), clock=clock) as (client, door):
        await log_in(client)
        clock.now += SESSION_SECONDS - 1
        assert (await client.get("/api/v1/health")).is_success
        clock.now += 1
        assert (await client.get("/api/v1/health")).status_code == 401
        clock.now -= SESSION_SECONDS
        assert (await client.get("/api/v1/health")).is_success
        _, other = make_token("some.operate@home", Role.OPERATE)
        door.replace_tokens([other])
        assert (await client.get("/api/v1/health")).status_code == 401
        door.replace_tokens([])
        assert (await client.get("/api/v1/health")).status_code == 401


async def test_a_role_is_that_of_the_token_now() -> None:
    async with node(Redis()) as (client, door):
        await log_in(client)
        door.replace_tokens([Token(token.name, Role.READ, token.digest) for token in TOKENS])
        assert await drain(client, **PAGE) == 403


async def test_logging_out_makes_the_browser_forget_it() -> None:
    async with node(Redis()) as (client, _):
        await log_in(client)
        assert (await client.post("/api/v1/logout")).status_code == 403
        assert (await client.post("/api/v1/logout", headers=PAGE)).is_success
        assert not client.cookies
        assert (await client.get("/api/v1/login")).json()["name"] is None


async def test_cookies_of_others_do_no_harm() -> None:
    """Every page of this machine has the same ones, whatever its port."""
    async with node(Redis()) as (client, _):
        cookie = (await log_in(client)).headers["set-cookie"].partition(";")[0]
        client.cookies.clear()
        for text in (f'a="b; {cookie}', f"x={{1,2}}; {cookie}; y", f"{'z' * 20_000}=1; {cookie}"):
            told = await client.get("/api/v1/login", headers={"Cookie": text})
            assert told.json()["name"] == "some.operate@home", text[:20]


async def test_what_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moorline.audit")
    async with node(Redis()) as (client, _):
        cookie = (await log_in(client)).headers["set-cookie"]
        await drain(client, **PAGE)
        await drain(client)
        await client.post("/api/v1/login", headers={"Authorization": "Bearer guess"})
    told = [(record.message, record.__dict__.get("token_name")) for record in caplog.records]
    ours = "some.operate@home"
    assert told == [("admin", ours), ("admin", ours), ("denied", ours), ("denied", None)]
    everything = str([record.__dict__ for record in caplog.records])
    assert not any(each in everything for each in (TEXTS[Role.OPERATE], "guess", cookie[9:60]))


async def test_what_is_made_up_does_not_count() -> None:
    """Not with the hash from the file alone, either, nor with the secret alone."""
    token = TOKENS[2]
    until = f"{int(Clock().now) + 100:x}"
    bodies = [
        "", "x", "..", f"{until}..{token.name}", f"{until}.AAAA.{token.name}", f"zz.AAAA.{token.name}",
        *(
            f"{until}.{hmac.digest(key, f'{until} {token.name}'.encode(), hashlib.sha256).hex()}.{token.name}"
            for key in (token.digest, b"s" * 32)
        ),
    ]  # fmt: skip
    async with node(Redis()) as (client, _):
        for body in bodies:
            answer = await client.get("/api/v1/login", headers={"Cookie": f"moorline={body}"})
            assert answer.json()["name"] is None, body
        statuses = [
            (await client.get("/api/v1/health", headers={"Cookie": f"moorline={body}"})).status_code
            for body in [*bodies, "y" * 5000, '"', *["z"] * TRIES]
        ]
        assert statuses[0] == 401
        assert statuses[-1] == 429


async def test_one_session_is_not_another_s() -> None:
    async with node(Redis()) as (client, _):
        answer = await log_in(client, Role.READ)
        stolen = SimpleCookie(answer.headers["set-cookie"])["moorline"].value
        forged = stolen.replace("some.read@home", "some.admin@home")
        client.cookies.clear()
        told = await client.get("/api/v1/login", headers={"Cookie": f"moorline={forged}"})
        assert told.json()["name"] is None


async def test_while_redis_is_away() -> None:
    redis = Redis()
    async with node(redis) as (client, _):
        await log_in(client)
        redis.is_away = True
        assert (await client.get("/api/v1/health")).is_success, "the secret is known"
        async with node(None) as (other, _):
            other.cookies = client.cookies
            answer = await other.get("/api/v1/health")
            assert (answer.status_code, "no session" in answer.text) == (503, True)
            assert (await log_in(other)).status_code == 503
    assert redis.asked == 1


async def test_the_secret_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that has lost all gets another one, and nodes don't disagree for long."""
    monkeypatch.setattr("broker.admin.sessions.SECRET_SECONDS", 0)
    redis = Redis()
    async with node(redis) as (client, _):
        await log_in(client)
        redis.secret = b"t" * 32
        assert (await client.get("/api/v1/health")).status_code == 401
        redis.is_away = True
        assert (await client.get("/api/v1/login")).json()["name"] is None, "as it was"


async def test_where_nobody_is_asked() -> None:
    async with node(Redis(), tokens=None) as (client, _):
        assert (await client.get("/api/v1/login")).json() == {"asks": False, "name": None, "role": "admin"}
        assert (await log_in(client)).status_code == 409
        assert (await client.get("/api/v1/health")).is_success


async def test_by_https_the_cookie_goes_nowhere_else() -> None:
    sessions = Sessions(desk_at(Redis()), is_secure=True, clock=Clock())
    cookie = await sessions.open(TOKENS[0])
    assert cookie.startswith("__Host-moorline=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict; Secure")
