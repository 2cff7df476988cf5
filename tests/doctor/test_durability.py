"""Durability levels that a Redis can't give."""

from collections.abc import Iterator

import anyio
import pytest

from broker.doctor.durability import check_durability
from broker.doctor.finding import Level
from broker.settings import Settings
from broker.settings.model import NodeSettings
from broker.settings.topics import TopicSettings
from cluster.store.endpoint import Endpoint, parse_url
from tests.node.redis_server import RedisServer, running_redis
from tests.ports import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("doctor") / "redis") as server:
        yield server


def look(endpoint: Endpoint | None, node: str, *topics: str) -> list[tuple[Level, str]]:
    """What is found, with these levels of the node and of topics."""
    rules = tuple({"filter": f"t/{number}", "level": level} for number, level in enumerate(topics))
    settings = Settings(
        node=NodeSettings.model_validate({"durability": node}),
        topics=TopicSettings.model_validate({"durability": rules}),
    )
    return [(each.level, each.found) for each in anyio.run(check_durability, settings, endpoint)]


def test_each_level_is_tried(server: RedisServer) -> None:
    found = look(parse_url(server.url), "stored", "replicated", "stored")
    assert [level for level, _ in found] == [Level.FAIL]
    address = server.url.removeprefix("redis://")
    assert f"replicated(1): {address}: 0 replicas are connected, 1 needed" in found[0][1]
    assert server.client().keys("*") == []


def test_the_disk_is_tried(server: RedisServer) -> None:
    with server.client() as redis:
        redis.config_set("appendfsync", "always")
        ((level, found),) = look(parse_url(server.url), "fsynced")
        assert (level, found.startswith("fsynced: Redis at ")) == (Level.OK, True)
        redis.config_set("appendfsync", "no")


def test_levels_that_meet_are_tried_together(server: RedisServer) -> None:
    names = [found.partition(":")[0] for _, found in look(parse_url(server.url), "fsynced", "replicated(2)")]
    assert names == ["fsynced", "replicated(2)", "fsynced+replicated(2)"]


def test_a_private_redis_has_no_replicas() -> None:
    assert look(None, "replicated") == [(Level.FAIL, "replicated(1): a private Redis has no replicas")]
    assert look(None, "fsynced") == []


def test_where_all_is_stored_nothing_is_asked() -> None:
    assert look(parse_url(f"redis://127.0.0.1:{free_port()}"), "stored") == []


def test_a_redis_that_is_away_is_told_elsewhere() -> None:
    assert look(parse_url(f"redis://127.0.0.1:{free_port()}"), "fsynced") == []
