"""Who may ask what at the admin address: the door, alone and in front of the real routes."""

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from broker.admin import make_api, make_door, serve_admin, server
from broker.admin.door import ADDRESSES_MAXIMUM, TRIES, TRIES_PER_SECOND, Door, Tries, needed_role
from broker.auth.admin_tokens import Role, Token, make_token
from broker.errors import StartError
from broker.observability.health import Health
from broker.observability.metrics import Counters, Tally
from broker.settings import Address, AdminSettings
from cluster.control import Desk
from cluster.drain import Departure
from tests.tools import NO_TLS, make_certificate

ANY_PORT = Address("127.0.0.1", 0)
NOWHERE = Desk(Departure(), ["a"])
TEXTS: dict[Role, str] = {}
TOKENS: list[Token] = []
for _role in Role:
    TEXTS[_role], _token = make_token(f"a-{_role}", _role)
    TOKENS.append(_token)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def serving(
    door: Door, address: Address = ANY_PORT, verify: ssl.SSLContext = NO_TLS
) -> AsyncIterator[httpx.AsyncClient]:
    """A node's routes behind the door; Redis was never reached."""
    health, counters, desk = Health(), Counters("a", "1.0"), Desk(Departure(), ["a"])
    async with anyio.create_task_group() as tasks:
        api = make_api(health, counters, desk, address, asks=door.asks)
        bound: Address = await tasks.start(serve_admin, address, health, counters, [api], door)
        url = f"http{'s' if door.tls else ''}://127.0.0.1:{bound.port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=verify) as client:
            yield client
        tasks.cancel_scope.cancel()


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/metrics", Role.READ),
        ("HEAD", "/api/v1/nodes", Role.READ),
        ("GET", "/api/v1/health", Role.READ),
        ("GET", "/api/v1/explain", Role.READ),
        ("POST", "/api/v1/drain", Role.OPERATE),
        ("POST", "/api/v1/nodes/a.1/drain", Role.OPERATE),
        ("POST", "/api/v1/rebalance", Role.OPERATE),
        ("GET", "/api/v1/retained", Role.READ),
        ("GET", "/api/v1/metrics", Role.READ),
        ("GET", "/api/v1/settings", Role.READ),
        ("GET", "/api/v1/openapi.json", Role.READ),
        ("GET", "/api/v1/retained/a/b", Role.ADMIN),  # payloads
        ("GET", "/api/v1/retained/", Role.ADMIN),
        ("DELETE", "/api/v1/retained/a", Role.ADMIN),
        ("POST", "/api/v1/publish", Role.ADMIN),
        ("GET", "/api/v1/events", Role.READ),
        ("POST", "/api/v1/traces", Role.OPERATE),
        ("GET", "/api/v1/traces/1f", Role.OPERATE),
        ("DELETE", "/api/v1/traces/1f", Role.OPERATE),
        ("GET", "/api/v1/clients", Role.READ),
        ("GET", "/api/v1/clients/a/b\n", Role.READ),
        ("GET", "/api/v1/sessions/a", Role.READ),
        ("GET", "/api/v1/subscriptions", Role.READ),
        ("GET", "/api/v1/letters", Role.READ),
        ("DELETE", "/api/v1/clients/a/b", Role.OPERATE),
        ("DELETE", "/api/v1/sessions/a", Role.ADMIN),
        ("DELETE", "/api/v1/clients", Role.ADMIN),
        # Whatever is not known, or is nearly that.
        ("POST", "/metrics", Role.ADMIN),
        ("DELETE", "/api/v1/nodes", Role.ADMIN),
        ("GET", "/api/v1/users", Role.ADMIN),
        ("PUT", "/api/v1/bans/x", Role.ADMIN),
        ("POST", "/api/v1/nodes/a/b/drain", Role.ADMIN),
        ("GET", "/api/v1/nodes/", Role.ADMIN),
        ("GET", "/api/v1/nodes\n", Role.ADMIN),
        ("GET", "//metrics", Role.ADMIN),
        ("GET", "/", Role.ADMIN),
    ],
)
async def test_the_role_that_a_request_needs(method: str, path: str, role: Role) -> None:
    assert needed_role(method, path) is role


ROUTES = [
    ("GET", "/healthz", 200, None),
    ("GET", "/readyz", 503, None),
    ("GET", "/metrics", 200, Role.READ),
    ("GET", "/api/v1/health", 200, Role.READ),
    ("GET", "/api/v1/nodes", 503, Role.READ),
    ("POST", "/api/v1/rebalance", 503, Role.OPERATE),
    ("POST", "/api/v1/drain", 202, Role.OPERATE),
    ("GET", "/api/v1/forwards", 503, Role.READ),
    ("GET", "/api/v1/retained", 503, Role.READ),
    ("GET", "/api/v1/settings", 200, Role.READ),
    ("GET", "/api/v1/openapi.json", 200, Role.READ),
    ("GET", "/api/v1/retained/a", 503, Role.ADMIN),
    ("DELETE", "/api/v1/retained/a", 503, Role.ADMIN),
    ("POST", "/api/v1/publish", 422, Role.ADMIN),
    ("GET", "/api/v1/users", 503, Role.ADMIN),
    ("GET", "/api/v1/events", 503, Role.READ),
    ("GET", "/api/v1/traces/1f", 503, Role.OPERATE),
    ("GET", "/api/v1/nothing", 404, Role.ADMIN),
    ("POST", "/healthz", 405, Role.ADMIN),
]
"""What they answer when somebody may ask, and the role that it takes."""


async def test_each_route_with_each_token() -> None:
    """On an address that others can reach, by any name of it."""
    async with serving(Door(TOKENS, Tally()), Address("0.0.0.0", 0)) as client:
        for method, path, status, needed in ROUTES:
            for role, text in TEXTS.items():
                answer = await client.request(
                    method, path, json={}, headers=bearer(text) | {"Host": "broker.example"}
                )
                if needed is None or role >= needed:
                    assert answer.status_code == status, (path, role)
                else:
                    assert answer.status_code == 403
                    assert answer.json() == {
                        "error": f"the token a-{role} is for {role}, this needs {needed}"
                    }


async def test_without_a_right_token() -> None:
    good = TEXTS[Role.ADMIN]
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer"},
        bearer(good[:-1]),
        bearer(good + "x"),
        bearer("x" * 1000),
        {"Authorization": good},
        {"Authorization": f"Basic {good}"},
    ]
    denied = Tally()
    async with serving(Door(TOKENS, denied)) as client:
        for headers in wrong:
            answer = await client.get("/api/v1/health", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json() == {"error": "needs a token: Authorization: Bearer TOKEN"}
        assert (await client.get("/api/v1/health", headers={"authorization": f"bearer {good}"})).is_success
        for _ in range(TRIES):
            last = await client.get("/metrics")
        assert (last.status_code, "retry-after" in last.headers) == (429, True)
        # Who is right is not locked out, and probes go on.
        assert (await client.get("/metrics", headers=bearer(good))).is_success
        assert (await client.get("/healthz")).is_success
    assert denied["admin"] == len(wrong) + TRIES


async def test_metrics_may_be_open() -> None:
    async with serving(Door(TOKENS, Tally(), has_open_metrics=True)) as client:
        assert (await client.get("/metrics")).is_success
        assert (await client.post("/metrics")).status_code == 401
        assert (await client.get("/api/v1/health")).status_code == 401


async def test_no_tokens_no_question() -> None:
    async with serving(Door(None, Tally())) as client:
        assert (await client.get("/metrics")).is_success
        assert (await client.get("/api/v1/health")).is_success
    async with serving(Door([], Tally())) as client:  # a file with nobody in it
        assert (await client.get("/api/v1/health")).status_code == 401


async def test_what_browsers_are_told() -> None:
    async with serving(Door(TOKENS, Tally())) as client:
        for path in ("/healthz", "/metrics", "/none"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert "strict-transport-security" not in headers
            assert "server" not in headers


async def test_what_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moorline.audit")
    async with serving(Door(TOKENS, Tally())) as client:
        await client.post("/api/v1/drain?secret=1", json={"moved": True}, headers=bearer(TEXTS[Role.OPERATE]))
        await client.post("/api/v1/drain", json={}, headers=bearer(TEXTS[Role.READ]))
        await client.get("/metrics", headers=bearer("guess"))
        await client.get("/metrics", headers=bearer(TEXTS[Role.READ]))
    changed, short, unknown = [record.__dict__ for record in caplog.records]
    assert changed["message"] == "admin"
    assert (
        changed["event"],
        changed["token_name"],
        changed["action"],
        changed["address"],
        changed["status"],
    ) == (
        "admin",
        "a-operate",
        "POST /api/v1/drain",
        "127.0.0.1",
        202,
    )
    assert (short["message"], short["token_name"], short["needs"]) == ("denied", "a-read", "operate")
    assert (unknown["message"], unknown["action"]) == ("denied", "GET /metrics")
    everything = str([record.__dict__ for record in caplog.records])
    assert not any(text in everything for text in (*TEXTS.values(), "guess", "secret"))


async def test_tries_come_back_and_are_of_an_address() -> None:
    now = 0.0
    tries = Tries(lambda: now)
    assert all(tries.take("192.0.2.1") for _ in range(TRIES))
    assert not tries.take("192.0.2.1")
    assert tries.take("192.0.2.2")
    now = 1 / TRIES_PER_SECOND
    assert tries.take("192.0.2.1")
    assert not tries.take("192.0.2.1")


async def test_a_network_of_ipv6_is_one_and_the_oldest_is_forgotten() -> None:
    tries = Tries(lambda: 0.0)
    assert [tries.take(f"2001:db8::{number:x}") for number in range(TRIES + 1)].count(False) == 1
    assert tries.take("2001:db8:0:1::1")
    assert tries.take("")
    for number in range(ADDRESSES_MAXIMUM):
        tries.take(f"10.0.{number >> 8}.{number & 255}")
    assert tries.take("2001:db8::1")


async def test_who_asks_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 of them would keep the probes out."""
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_SECONDS", 0.2)
    async with serving(Door(None, Tally())) as client:
        with anyio.fail_after(5):
            async with await anyio.connect_tcp("127.0.0.1", client.base_url.port or 0) as silent:
                await silent.send(b"GET /healthz HTTP/1.1\r\nX: ")
                with pytest.raises(anyio.EndOfStream):
                    await silent.receive()
        await client.get("/healthz")


async def test_files_are_followed(tmp_path: Path) -> None:
    """Other tokens and another certificate, and neither drops who is connected."""
    tokens, first = tmp_path / "tokens", make_certificate(tmp_path, "first")
    tokens.write_text(TOKENS[0].to_line())
    settings = AdminSettings(tokens_file=tokens, certificate=first.file, key=first.key)
    counters = Counters()
    reloads = counters.auth_reloads
    door, watches = make_door(settings, counters, NOWHERE)
    trusting = ssl.create_default_context(cafile=first.file)
    async with serving(door, verify=trusting) as client, anyio.create_task_group() as following:
        for watch in watches:
            following.start_soon(watch)
        assert (await client.get("/metrics", headers=bearer(TEXTS[Role.READ]))).is_success
        assert "strict-transport-security" in (await client.get("/healthz")).headers

        tokens.write_text("nonsense\n")
        await until(lambda: reloads["admin_tokens_refused"])
        assert (await client.get("/metrics", headers=bearer(TEXTS[Role.READ]))).is_success
        tokens.write_text(TOKENS[2].to_line())
        await until(lambda: reloads["admin_tokens"])
        assert (await client.get("/metrics", headers=bearer(TEXTS[Role.READ]))).status_code == 401
        assert (await client.get("/metrics", headers=bearer(TEXTS[Role.ADMIN]))).is_success

        second = make_certificate(tmp_path, "second")
        first.file.write_bytes(second.file.read_bytes())  # no longer what the key is for
        await until(lambda: reloads["admin_certificate_refused"])
        assert (await client.get("/healthz")).is_success
        first.key.write_bytes(second.key.read_bytes())
        await until(lambda: reloads["admin_certificate"])
        base = str(client.base_url)
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=second.file)) as other:
            assert (await other.get(f"{base}/healthz")).is_success
        async with httpx.AsyncClient(verify=trusting) as old:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await old.get(f"{base}/healthz")
        following.cancel_scope.cancel()


async def until(came_true: Callable[[], object]) -> None:
    with anyio.fail_after(5):
        while not came_true():  # noqa: ASYNC110 - nothing tells
            await anyio.sleep(0.02)


async def test_a_file_with_mistakes_prevents_the_start(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("nonsense\n")
    with pytest.raises(StartError, match="line 1: not NAME ROLE"):
        make_door(AdminSettings(tokens_file=tokens), Counters(), NOWHERE)
