"""Which node the API has do something, and what it says if there is none. Redis is played by the test."""

from typing import cast

import pytest
from starlette.exceptions import HTTPException

from broker.admin.asking import ask_here, ask_one
from cluster.control import Control, Desk
from cluster.drain import Departure
from cluster.questions import QuestionRefused
from cluster.store.store import Store
from tests.admin.test_api import Redis, error_of, serving

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
        on.redis.add("c.1", draining=True)
        assert "no node is there" in error_of(await on.post("/publish", '{"topic": "a"}'), 503)
        assert (await on.get("/metrics")).json() == {"metrics": [], "silent": []}


async def test_this_node_first_else_one_of_this_process_else_any() -> None:
    redis = Redis()
    answered: list[str] = []

    async def answer(_: bytes) -> object:
        answered.append("a.2")
        return "done"

    desk = Desk(Departure(), ["a", "w-2"])
    desk.control = Control(cast(Store, redis), "a.2", None, {"do": answer})
    redis.add("a.1")  # the one before this
    redis.add("b.1")
    redis.add("a.2", silent=True)
    assert await ask_one(desk, "do", {}) == ("a.2", "done")
    assert (await ask_here(desk, "do", {})).said == {"a.2": "done"}
    assert answered == ["a.2", "a.2"]


async def test_why_a_node_does_not_do_it() -> None:
    redis = Redis()
    redis.add("a.1")

    async def refuse(_: bytes) -> object:
        raise QuestionRefused("busy")

    desk = Desk(Departure(), ["a"])
    desk.control = Control(cast(Store, redis), "a.1", None, {"do": refuse})
    for name, reason in (("do", "node a.1: busy"), ("unknown", "does not know the question unknown")):
        with pytest.raises(HTTPException) as refused:
            await ask_one(desk, name, {})
        assert (refused.value.status_code, reason in refused.value.detail) == (503, True)
