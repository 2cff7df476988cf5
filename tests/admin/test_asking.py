"""Which node the API has do something, and what it says if there is none. Redis is played by the test."""

import pytest

from tests.admin.test_api import error_of, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_process_that_has_not_reached_redis() -> None:
    async with serving(is_reached=False) as on:
        for path in ("/retained", "/retained/a", "/metrics", "/metrics?cluster=true"):
            assert "not been reached" in error_of(await on.get(path), 503)
        assert "not been reached" in error_of(await on.post("/publish", '{"topic": "a"}'), 503)
        assert (await on.get("/settings")).status_code == 200


async def test_there_is_no_node_that_could_do_it() -> None:
    async with serving() as on:
        on.redis.add("b.1", dead=True)
        assert "no node is there" in error_of(await on.post("/publish", '{"topic": "a"}'), 503)
        assert (await on.get("/metrics")).json() == {"metrics": [], "silent": []}
