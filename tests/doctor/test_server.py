"""A Redis that is not as a node wants it."""

from collections.abc import Iterator

import anyio
import pytest

from broker.doctor.finding import Finding, Level
from broker.doctor.server import check_redis
from cluster.store import keys
from cluster.store.endpoint import parse_url
from cluster.store.library import LIBRARY_REVISION, library_source
from tests.node.redis_server import RedisServer, running_redis
from tests.ports import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all tests, which put back what they change."""
    with running_redis(tmp_path_factory.mktemp("doctor") / "redis") as server:
        yield server


def look(url: str) -> list[Finding]:
    """What is found."""
    return anyio.run(check_redis, parse_url(url), "mq:")


def bad(url: str) -> list[str]:
    """What is not well, but for what no Redis of the tests has: a maximum of memory, an fsync."""
    known = ("no maximum", "appendfsync no")
    findings = [each for each in look(url) if each.level is not Level.OK]
    return [each.found for each in findings if not any(text in each.found for text in known)]


def test_one_that_is_well_and_nothing_is_changed_there(server: RedisServer) -> None:
    found = {each.about: each.found for each in look(server.url)}
    assert found["redis rights"] == "this user may do all that a node does"
    assert found["redis functions"].startswith("none yet")
    assert found["redis latency"].startswith("200 PINGs: p50 ")
    assert server.client().keys("*") == []
    assert server.client().function_list() == []
    server.client().function_load(library_source())
    assert (
        f"revision {LIBRARY_REVISION}, that"
        in {e.about: e.found for e in look(server.url)}["redis functions"]
    )
    server.client().function_load(library_source(LIBRARY_REVISION + 1), replace=True)
    assert "of a newer release" in {e.about: e.found for e in look(server.url)}["redis functions"]
    server.client().set(keys.schema("mq:"), "99")
    assert "schema is 99" in bad(server.url)[0]
    server.client().flushall()


def test_settings_that_lose_messages(server: RedisServer) -> None:
    client = server.client()
    changed = {"maxmemory-policy": "allkeys-lru", "timeout": "60", "stream-node-max-bytes": "65536"}
    before = {name: str(client.config_get(name)[name]) for name in changed}
    try:
        for name, value in changed.items():
            client.config_set(name, value)
        found = bad(server.url)
        for name, value in changed.items():
            assert any(each.startswith(f"{name} {value}: ") for each in found), found
        assert client.config_get("timeout") == {"timeout": "60"}
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def test_memory_that_is_nearly_full(server: RedisServer) -> None:
    client = server.client()
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.1))
    try:
        assert any("MiB used, maximum" in each for each in bad(server.url))
    finally:
        client.config_set("maxmemory", 0)


def test_a_user_who_may_not_do_all_and_one_who_may_not_see_the_settings(server: RedisServer) -> None:
    client = server.client()
    rights = ["+@all", "-xadd", "-config"]
    client.acl_setuser("poor", True, passwords="+p", keys=["mq:*"], channels=["mq:*"], commands=rights)
    try:
        findings = look(f"redis://poor:p@127.0.0.1:{server.port}")
    finally:
        client.acl_deluser("poor")
    assert findings[-1].level is Level.FAIL
    assert "+xadd" in findings[-1].found
    assert any("CONFIG is not allowed" in each.found for each in findings)
    assert any(each.found == "maxmemory-policy noeviction" for each in findings)


def test_one_that_is_away_or_refuses_us() -> None:
    (away,) = look(f"redis://:hunter2@127.0.0.1:{free_port()}")
    assert away.level is Level.FAIL
    assert "hunter2" not in repr(away)


def test_a_replica_is_none(server: RedisServer) -> None:
    client = server.client()
    client.replicaof("127.0.0.1", free_port())
    try:
        assert "is a replica" in look(server.url)[-1].found
    finally:
        client.replicaof("NO", "ONE")
